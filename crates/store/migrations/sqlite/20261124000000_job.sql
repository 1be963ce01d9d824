-- The recalculation job: who runs it, and the users that failed.

-- One row a kind of job. Whoever holds the lease runs the job; every write of a run begins with its term.
CREATE TABLE nudge_job_leases (
  job_type TEXT NOT NULL PRIMARY KEY,                  -- what kind
  term INTEGER NOT NULL DEFAULT 0,                     -- rises with every holder
  holder TEXT,                                         -- the process that has it
  run_id TEXT,                                         -- the run that is not finished
  expires_at TEXT NOT NULL                             -- when it is free for another, by the database's clock
    DEFAULT '1970-01-01T00:00:00.000000Z' CHECK (length(expires_at) = 27),
  scheduled_at TEXT                                    -- the newest time of the schedule that has been seen to
    CHECK (scheduled_at IS NULL OR length(scheduled_at) = 27),
  scheduler TEXT NOT NULL DEFAULT 'built_in'           -- who starts it: the servers, or pg_cron
    CHECK (scheduler IN ('built_in', 'pg_cron')),
  computed_floor TEXT                                  -- no archetype is older, but those of overrides
    CHECK (computed_floor IS NULL OR length(computed_floor) = 27)
) STRICT, WITHOUT ROWID;

INSERT INTO nudge_job_leases (job_type) VALUES ('archetype_recalculation');

-- The users of a run whose rows could not be used.
CREATE TABLE nudge_job_failures (
  run_id TEXT NOT NULL,                                -- the run
  user_id TEXT NOT NULL,                               -- the user
  attempts INTEGER NOT NULL,                           -- how often it was tried
  reason TEXT NOT NULL,                                -- why it failed, the last time
  failed_at TEXT NOT NULL CHECK (length(failed_at) = 27),  -- when that was
  PRIMARY KEY (run_id, user_id)
) STRICT, WITHOUT ROWID;

-- Overrides that have ended are found without a search through all archetypes.
CREATE INDEX user_archetypes_overridden ON user_archetypes (user_id) WHERE is_manual_override = 1;

CREATE INDEX archetype_job_logs_by_start ON archetype_job_logs (started_at);
