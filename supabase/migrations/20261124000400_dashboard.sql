-- What the dashboard reads by, and the sessions that were signed out of before their time.

CREATE TABLE nudge.ended_sessions (
  id uuid NOT NULL PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
COMMENT ON TABLE nudge.ended_sessions IS
  'Sessions of the dashboard that no longer count although their cookie is still good. Gone once the cookie has expired.';
COMMENT ON COLUMN nudge.ended_sessions.id IS 'The session, UUIDv7.';
COMMENT ON COLUMN nudge.ended_sessions.expires_at IS 'When its cookie expires.';

REVOKE ALL ON nudge.ended_sessions FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.ended_sessions TO service_role;

INSERT INTO nudge.migrations (version, name) VALUES (20261124000400, 'dashboard');
