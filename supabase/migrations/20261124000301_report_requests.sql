-- What the log of requests adds up to by day, kept with every batch of it, so that a report need not read the log.

CREATE TABLE nudge.report_requests (
  day date NOT NULL,
  status integer NOT NULL,
  response_time_ms integer NOT NULL,
  requests bigint NOT NULL,
  PRIMARY KEY (day, status, response_time_ms)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE nudge.report_requests IS 'Requests by day, status and time taken. Reports add them up.';
COMMENT ON COLUMN nudge.report_requests.day IS 'The day of the requests, UTC.';
COMMENT ON COLUMN nudge.report_requests.status IS 'The HTTP status.';
COMMENT ON COLUMN nudge.report_requests.response_time_ms IS 'How long they took, three digits.';
COMMENT ON COLUMN nudge.report_requests.requests IS 'How many.';

INSERT INTO nudge.report_requests (day, status, response_time_ms, requests)
SELECT (l.created_at AT TIME ZONE 'UTC')::date, l.status,
  CASE WHEN l.response_time_ms < 1000 THEN l.response_time_ms
    WHEN l.response_time_ms < 10000 THEN l.response_time_ms / 10 * 10
    WHEN l.response_time_ms < 100000 THEN l.response_time_ms / 100 * 100
    ELSE l.response_time_ms / 1000 * 1000 END,
  count(*)
FROM public.edge_function_logs AS l GROUP BY 1, 2, 3;

REVOKE ALL ON nudge.report_requests FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.report_requests TO service_role;

INSERT INTO nudge.migrations (version, name) VALUES (20261124000301, 'report_requests');
