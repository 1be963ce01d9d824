-- Where the log of requests is sent to, besides public.edge_function_logs.

CREATE TABLE nudge.log_drains (
  id uuid NOT NULL PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  destination text COLLATE "C" NOT NULL,
  filters text COLLATE "C" NOT NULL,
  headers jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  secret text COLLATE "C",
  created_at timestamptz NOT NULL
);
COMMENT ON TABLE nudge.log_drains IS 'Where the log of requests is sent to, set up by nudge logs drain create.';
COMMENT ON COLUMN nudge.log_drains.id IS 'UUIDv7.';
COMMENT ON COLUMN nudge.log_drains.name IS 'The operator''s name for it.';
COMMENT ON COLUMN nudge.log_drains.destination IS 'The URL. Part of it may be a secret.';
COMMENT ON COLUMN nudge.log_drains.filters IS 'Which events it gets; empty for all.';
COMMENT ON COLUMN nudge.log_drains.headers IS 'Headers of every batch, an object. Their values may be secrets.';
COMMENT ON COLUMN nudge.log_drains.secret IS 'What batches are signed with, a secret; empty: they are not.';
COMMENT ON COLUMN nudge.log_drains.created_at IS 'When.';
REVOKE ALL ON nudge.log_drains FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.log_drains TO service_role;

COMMENT ON COLUMN public.edge_function_logs.user_id IS
  'The caller, if a user: a keyed hash, unless NUDGE_REQUEST_LOG_USERS says otherwise.';

INSERT INTO nudge.migrations (version, name) VALUES (20261124000100, 'log_drains');
