-- The recalculation job: who runs it, and the users that failed.

-- One row a kind of job. Whoever holds the lease runs the job; every write of a run begins with its term.
CREATE TABLE nudge.job_leases (
  job_type text COLLATE "C" NOT NULL PRIMARY KEY,
  term bigint NOT NULL DEFAULT 0,
  holder text COLLATE "C",
  run_id uuid,
  expires_at timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z',
  scheduled_at timestamptz,
  scheduler text COLLATE "C" NOT NULL DEFAULT 'built_in' CHECK (scheduler IN ('built_in', 'pg_cron')),
  computed_floor timestamptz
)
-- A row that is written with every batch. It has no index but its key's, so new versions stay on its page.
WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE nudge.job_leases IS
  'Who runs a job. Every write of a run begins with UPDATE … WHERE term = … AND expires_at > clock_timestamp().';
COMMENT ON COLUMN nudge.job_leases.job_type IS 'What kind.';
COMMENT ON COLUMN nudge.job_leases.term IS 'Rises with every holder.';
COMMENT ON COLUMN nudge.job_leases.holder IS 'The process that has it.';
COMMENT ON COLUMN nudge.job_leases.run_id IS 'The run that is not finished.';
COMMENT ON COLUMN nudge.job_leases.expires_at IS 'When it is free for another, by the database''s clock.';
COMMENT ON COLUMN nudge.job_leases.scheduled_at IS 'The newest time of the schedule that has been seen to.';
COMMENT ON COLUMN nudge.job_leases.scheduler IS 'Who starts it: the servers (built_in), or pg_cron.';
COMMENT ON COLUMN nudge.job_leases.computed_floor IS 'No archetype is older, but those of overrides.';
INSERT INTO nudge.job_leases (job_type) VALUES ('archetype_recalculation');

CREATE TABLE nudge.job_failures (
  run_id uuid NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  attempts integer NOT NULL,
  reason text COLLATE "C" NOT NULL,
  failed_at timestamptz NOT NULL,
  PRIMARY KEY (run_id, user_id)
);
COMMENT ON TABLE nudge.job_failures IS 'The users of a run whose rows could not be used.';
COMMENT ON COLUMN nudge.job_failures.run_id IS 'The run.';
COMMENT ON COLUMN nudge.job_failures.user_id IS 'The user.';
COMMENT ON COLUMN nudge.job_failures.attempts IS 'How often it was tried.';
COMMENT ON COLUMN nudge.job_failures.reason IS 'Why it failed, the last time.';
COMMENT ON COLUMN nudge.job_failures.failed_at IS 'When that was.';

REVOKE ALL ON nudge.job_leases, nudge.job_failures FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.job_leases, nudge.job_failures TO service_role;

-- Overrides that have ended are found without a search through all archetypes. A job that rewrites every row leaves them
-- alone, so this index learns of nothing at night.
CREATE INDEX user_archetypes_overridden ON public.user_archetypes (user_id) WHERE is_manual_override;

INSERT INTO nudge.migrations (version, name) VALUES (20261124000000, 'job');
