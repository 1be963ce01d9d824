-- The audit log, the logs of runs and requests, and the service's own tables.

-- Changes made by admins, a chain of hashes; the form that is hashed is in crates/store/src/audit.rs.
CREATE TABLE admin_audit_log (
  id INTEGER NOT NULL PRIMARY KEY,                     -- the tail's plus one
  admin_id TEXT NOT NULL,                              -- who acted: a user, service_role or cli
  actor_role TEXT NOT NULL,                            -- as what: admin, service_role or operator
  action TEXT NOT NULL,                                -- recalculate_archetype, override_archetype, …
  target_user_id TEXT,                                 -- to whom
  metadata TEXT NOT NULL CHECK (json_valid(metadata)), -- old, new, reason; canonical JSON
  ip_address TEXT,                                     -- from where
  user_agent TEXT,                                     -- by what
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),  -- when
  prev_hash TEXT NOT NULL CHECK (length(prev_hash) = 64),    -- the tail's hash; zeros for the first
  hash TEXT NOT NULL CHECK (length(hash) = 64)         -- SHA-256, hexadecimal
) STRICT;

CREATE TRIGGER admin_audit_log_no_update BEFORE UPDATE ON admin_audit_log
BEGIN SELECT raise(ABORT, 'admin_audit_log is append-only'); END;

CREATE TRIGGER admin_audit_log_no_delete BEFORE DELETE ON admin_audit_log
BEGIN SELECT raise(ABORT, 'admin_audit_log is append-only'); END;

CREATE TRIGGER admin_audit_log_extends_tail BEFORE INSERT ON admin_audit_log
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM admin_audit_log)
  OR NEW.prev_hash IS NOT coalesce(
    (SELECT hash FROM admin_audit_log ORDER BY id DESC LIMIT 1),
    '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT raise(ABORT, 'an entry of admin_audit_log extends the tail'); END;

-- One row a run of a job.
CREATE TABLE archetype_job_logs (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7
  job_type TEXT NOT NULL,                              -- what kind
  status TEXT NOT NULL                                 -- where it stands
    CHECK (status IN ('running', 'completed', 'interrupted', 'failed', 'cancelled')),
  processed_count INTEGER NOT NULL DEFAULT 0,          -- users looked at
  updated_count INTEGER NOT NULL DEFAULT 0,            -- users whose archetype was stored
  failed_count INTEGER NOT NULL DEFAULT 0,             -- users that failed
  cursor TEXT,                                         -- the last user done
  heartbeat_at TEXT,                                   -- when the run last said that it lives
  duration_ms INTEGER,                                 -- how long it took
  error_message TEXT,                                  -- what went wrong
  metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),  -- anything else, JSON object
  started_at TEXT NOT NULL CHECK (length(started_at) = 27),  -- when it began
  completed_at TEXT CHECK (completed_at IS NULL OR length(completed_at) = 27)  -- when it ended
) STRICT;

-- One row a request, best effort.
CREATE TABLE edge_function_logs (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7 made by the server
  function_name TEXT NOT NULL,                         -- the route
  method TEXT NOT NULL,                                -- the HTTP method
  status INTEGER NOT NULL,                             -- the HTTP status
  response_time_ms INTEGER NOT NULL,                   -- how long it took
  user_id TEXT,                                        -- the caller, if a user
  request_id TEXT NOT NULL,                            -- as in x-request-id
  error_code TEXT,                                     -- the code of an error
  created_at TEXT NOT NULL CHECK (length(created_at) = 27)  -- when
) STRICT;

-- Users to recompute. Emptied as archetypes are stored.
CREATE TABLE nudge_stale_users (
  user_id TEXT NOT NULL PRIMARY KEY,                   -- the user
  revision INTEGER NOT NULL                            -- the newest entry of nudge_user_changes that concerns them
) STRICT, WITHOUT ROWID;

-- Feed of the users whose cached facts are out of date. Old entries are pruned, numbers never used again.
CREATE TABLE nudge_user_changes (
  revision INTEGER PRIMARY KEY AUTOINCREMENT,          -- rises by one
  user_id TEXT                                         -- the user; empty: possibly everybody
) STRICT;
