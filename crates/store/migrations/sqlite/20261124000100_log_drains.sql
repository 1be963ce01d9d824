-- Where the log of requests is sent to, and the log itself as one tree: rows are appended in the order of their ids, and
-- a second tree for the ids would be written for every request.

CREATE TABLE nudge_log_drains (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7
  name TEXT NOT NULL UNIQUE,                           -- the operator's name for it
  destination TEXT NOT NULL,                           -- the URL; part of it may be a secret
  filters TEXT NOT NULL,                               -- which events it gets; empty for all
  headers TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(headers)),  -- of every batch, JSON object; may be secrets
  secret TEXT,                                         -- what batches are signed with, a secret; empty: they are not
  created_at TEXT NOT NULL CHECK (length(created_at) = 27)  -- when
) STRICT;

ALTER TABLE edge_function_logs RENAME TO edge_function_logs_before;
CREATE TABLE edge_function_logs (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7 made by the server
  function_name TEXT NOT NULL,                         -- the function
  method TEXT NOT NULL,                                -- the HTTP method
  status INTEGER NOT NULL,                             -- the HTTP status
  response_time_ms INTEGER NOT NULL,                   -- how long it took
  user_id TEXT,                                        -- the caller, if a user: a keyed hash unless set otherwise
  request_id TEXT NOT NULL,                            -- as in x-request-id
  error_code TEXT,                                     -- the code of an error
  created_at TEXT NOT NULL CHECK (length(created_at) = 27)  -- when
) STRICT, WITHOUT ROWID;
INSERT INTO edge_function_logs SELECT id, function_name, method, status, response_time_ms, user_id, request_id, error_code,
  created_at FROM edge_function_logs_before;
DROP TABLE edge_function_logs_before;
