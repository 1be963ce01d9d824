-- What the dashboard reads by, and the sessions that were signed out of before their time.

-- Changes of one user's archetype.
CREATE INDEX admin_audit_log_by_target ON admin_audit_log (target_user_id, id);

-- Sessions of the dashboard that no longer count although their cookie is still good. Gone once the cookie has expired.
CREATE TABLE nudge_ended_sessions (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- the session, UUIDv7
  expires_at TEXT NOT NULL CHECK (length(expires_at) = 27)  -- when its cookie expires
) STRICT, WITHOUT ROWID;
