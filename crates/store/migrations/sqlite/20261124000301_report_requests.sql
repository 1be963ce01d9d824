-- What the log of requests adds up to by day, kept with every batch of it, so that a report need not read the log.
CREATE TABLE nudge_report_requests (
  day TEXT NOT NULL CHECK (length(day) = 10),          -- of the requests, UTC
  status INTEGER NOT NULL,                             -- the HTTP status
  response_time_ms INTEGER NOT NULL,                   -- how long they took, three digits
  requests INTEGER NOT NULL,                           -- how many
  PRIMARY KEY (day, status, response_time_ms)
) STRICT, WITHOUT ROWID;

INSERT INTO nudge_report_requests (day, status, response_time_ms, requests)
SELECT substr(created_at, 1, 10), status,
  CASE WHEN response_time_ms < 1000 THEN response_time_ms WHEN response_time_ms < 10000 THEN response_time_ms / 10 * 10
    WHEN response_time_ms < 100000 THEN response_time_ms / 100 * 100 ELSE response_time_ms / 1000 * 1000 END,
  count(*)
FROM edge_function_logs GROUP BY 1, 2, 3;
