-- The audit log, the logs of runs and requests, and the service's own tables.

-- Changes made by admins, a chain of hashes. The form that is hashed is in crates/store/src/audit.rs.
CREATE TABLE public.admin_audit_log (
  id bigint NOT NULL PRIMARY KEY,
  admin_id text COLLATE "C" NOT NULL,
  actor_role text COLLATE "C" NOT NULL,
  action text COLLATE "C" NOT NULL,
  target_user_id text COLLATE "C",
  metadata jsonb NOT NULL,
  ip_address text COLLATE "C",
  user_agent text COLLATE "C",
  created_at timestamptz NOT NULL,
  prev_hash text COLLATE "C" NOT NULL CHECK (prev_hash ~ '^[0-9a-f]{64}$'),
  hash text COLLATE "C" NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE public.admin_audit_log IS 'Changes made by admins, append-only, a chain of hashes.';
COMMENT ON COLUMN public.admin_audit_log.id IS 'The tail''s plus one, set under the lock of the tail.';
COMMENT ON COLUMN public.admin_audit_log.admin_id IS 'Who acted: a user, service_role or cli.';
COMMENT ON COLUMN public.admin_audit_log.actor_role IS 'As what: admin, service_role or operator.';
COMMENT ON COLUMN public.admin_audit_log.action IS
  'What was done: recalculate_archetype, override_archetype, reset_archetype, ….';
COMMENT ON COLUMN public.admin_audit_log.target_user_id IS 'To whom.';
COMMENT ON COLUMN public.admin_audit_log.metadata IS 'Old, new and reason, an object.';
COMMENT ON COLUMN public.admin_audit_log.ip_address IS 'From where.';
COMMENT ON COLUMN public.admin_audit_log.user_agent IS 'By what.';
COMMENT ON COLUMN public.admin_audit_log.created_at IS 'When.';
COMMENT ON COLUMN public.admin_audit_log.prev_hash IS 'The hash of the entry before; zeros for the first.';
COMMENT ON COLUMN public.admin_audit_log.hash IS 'SHA-256 of the entry, hexadecimal.';
CREATE INDEX admin_audit_log_by_target ON public.admin_audit_log (target_user_id, id);
CREATE INDEX admin_audit_log_by_admin ON public.admin_audit_log (admin_id, id);
CREATE INDEX admin_audit_log_by_time ON public.admin_audit_log (created_at);

-- Numbers are given out under the lock only: a sequence would give them out before, and the chain would fork. The lock is
-- kept to the end of the transaction, so it is the last one that a transaction takes. It is no lock of the table, which
-- every INSERT already holds a weaker one of.
CREATE FUNCTION nudge.audit_tail() RETURNS TABLE (id bigint, hash text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1853187175, 1);
  RETURN QUERY SELECT l.id, l.hash::text FROM public.admin_audit_log AS l ORDER BY l.id DESC LIMIT 1;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 0::bigint, repeat('0', 64);
  END IF;
END
$$;
COMMENT ON FUNCTION nudge.audit_tail() IS
  'Locks the tail to the end of the transaction, and gives its number and hash (0 and zeros: there is no entry). The next '
  'entry has this number plus one, and this hash as prev_hash.';

CREATE FUNCTION nudge.extend_audit_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  tail record;
BEGIN
  SELECT t.id, t.hash INTO tail FROM nudge.audit_tail() AS t;
  IF NEW.prev_hash IS DISTINCT FROM tail.hash OR (NEW.id IS NOT NULL AND NEW.id <> tail.id + 1) THEN
    RAISE EXCEPTION 'an entry of admin_audit_log extends the tail' USING ERRCODE = 'integrity_constraint_violation',
      DETAIL = format('The tail is %s.', tail.id), HINT = 'Ask nudge.audit_tail() in the same transaction.';
  END IF;
  NEW.id := tail.id + 1;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION nudge.extend_audit_log() IS 'Gives an entry its number, and refuses one that does not extend the tail.';

CREATE TRIGGER admin_audit_log_extends_tail BEFORE INSERT ON public.admin_audit_log
  FOR EACH ROW EXECUTE FUNCTION nudge.extend_audit_log();
COMMENT ON TRIGGER admin_audit_log_extends_tail ON public.admin_audit_log IS 'An entry extends the tail.';
-- For each statement: a trigger for each row lets statements pass that meet none.
CREATE TRIGGER admin_audit_log_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON public.admin_audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION nudge.refuse_change();
COMMENT ON TRIGGER admin_audit_log_keep ON public.admin_audit_log IS 'An entry stays as it is.';
-- Also where ordinary triggers do not fire (session_replication_role).
ALTER TABLE public.admin_audit_log ENABLE ALWAYS TRIGGER admin_audit_log_extends_tail;
ALTER TABLE public.admin_audit_log ENABLE ALWAYS TRIGGER admin_audit_log_keep;

CREATE TABLE public.archetype_job_logs (
  id uuid NOT NULL PRIMARY KEY,
  job_type text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL
    CHECK (status IN ('running', 'completed', 'interrupted', 'failed', 'cancelled')),
  processed_count bigint NOT NULL DEFAULT 0,
  updated_count bigint NOT NULL DEFAULT 0,
  failed_count bigint NOT NULL DEFAULT 0,
  cursor text COLLATE "C",
  heartbeat_at timestamptz,
  duration_ms bigint,
  error_message text COLLATE "C",
  metadata jsonb NOT NULL DEFAULT '{}',
  started_at timestamptz NOT NULL,
  completed_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE public.archetype_job_logs IS 'One row a run of a job.';
COMMENT ON COLUMN public.archetype_job_logs.id IS 'UUIDv7 of the run.';
COMMENT ON COLUMN public.archetype_job_logs.job_type IS 'What kind.';
COMMENT ON COLUMN public.archetype_job_logs.status IS
  'Where it stands: running, completed, interrupted, failed or cancelled.';
COMMENT ON COLUMN public.archetype_job_logs.processed_count IS 'Users looked at.';
COMMENT ON COLUMN public.archetype_job_logs.updated_count IS 'Users whose archetype changed.';
COMMENT ON COLUMN public.archetype_job_logs.failed_count IS 'Users that failed.';
COMMENT ON COLUMN public.archetype_job_logs.cursor IS 'The last user done.';
COMMENT ON COLUMN public.archetype_job_logs.heartbeat_at IS 'When the run last said that it lives.';
COMMENT ON COLUMN public.archetype_job_logs.duration_ms IS 'How long it took.';
COMMENT ON COLUMN public.archetype_job_logs.error_message IS 'What went wrong.';
COMMENT ON COLUMN public.archetype_job_logs.metadata IS 'Anything else, an object.';
COMMENT ON COLUMN public.archetype_job_logs.started_at IS 'When it began.';
COMMENT ON COLUMN public.archetype_job_logs.completed_at IS 'When it ended.';
CREATE INDEX archetype_job_logs_unfinished ON public.archetype_job_logs (started_at)
  WHERE status IN ('running', 'interrupted');
CREATE INDEX archetype_job_logs_by_end ON public.archetype_job_logs (completed_at);
CREATE INDEX archetype_job_logs_by_start ON public.archetype_job_logs (started_at);

-- Partitioned by the id of the request.
CREATE TABLE public.edge_function_logs (
  id uuid NOT NULL PRIMARY KEY,
  function_name text COLLATE "C" NOT NULL,
  method text COLLATE "C" NOT NULL,
  status integer NOT NULL,
  response_time_ms integer NOT NULL,
  user_id text COLLATE "C",
  request_id text COLLATE "C" NOT NULL,
  error_code text COLLATE "C",
  created_at timestamptz NOT NULL
) PARTITION BY RANGE (id);
COMMENT ON TABLE public.edge_function_logs IS 'One row a request, best effort.';
COMMENT ON COLUMN public.edge_function_logs.id IS 'UUIDv7 made by the server; its time picks the partition.';
COMMENT ON COLUMN public.edge_function_logs.function_name IS 'The route.';
COMMENT ON COLUMN public.edge_function_logs.method IS 'The HTTP method.';
COMMENT ON COLUMN public.edge_function_logs.status IS 'The HTTP status.';
COMMENT ON COLUMN public.edge_function_logs.response_time_ms IS 'How long it took.';
COMMENT ON COLUMN public.edge_function_logs.user_id IS 'The caller, if a user.';
COMMENT ON COLUMN public.edge_function_logs.request_id IS 'As in x-request-id.';
COMMENT ON COLUMN public.edge_function_logs.error_code IS 'The code of an error.';
COMMENT ON COLUMN public.edge_function_logs.created_at IS 'When.';
CREATE INDEX edge_function_logs_by_time ON public.edge_function_logs (created_at);
CREATE INDEX edge_function_logs_by_request ON public.edge_function_logs (request_id);

-- This month and three ahead, so that there is room before a server has started.
SELECT nudge.make_partition(m.parent, m.month) FROM nudge.missing_partitions(3) AS m;

-- Users to recompute, and the feed of those whose cached facts are out of date. Both take their numbers from one sequence,
-- which never gives a number twice.

CREATE SEQUENCE nudge.revisions AS bigint;
COMMENT ON SEQUENCE nudge.revisions IS 'Numbers of the feed.';

CREATE TABLE nudge.stale_users (
  user_id text COLLATE "C" NOT NULL PRIMARY KEY,
  revision bigint NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE nudge.stale_users IS 'Users to recompute. Emptied as archetypes are stored.';
COMMENT ON COLUMN nudge.stale_users.user_id IS 'The user.';
COMMENT ON COLUMN nudge.stale_users.revision IS 'The newest entry of nudge.user_changes that concerns them.';

CREATE TABLE nudge.user_changes (
  revision bigint NOT NULL DEFAULT nextval('nudge.revisions') PRIMARY KEY,
  user_id text COLLATE "C"
);
COMMENT ON TABLE nudge.user_changes IS
  'Feed of the users whose cached facts are out of date. Old entries are pruned. Every INSERT notifies the channel '
  'nudge_changes with its greatest number.';
COMMENT ON COLUMN nudge.user_changes.revision IS
  'Rises in the order of commits; numbers of transactions that were rolled back are missing.';
COMMENT ON COLUMN nudge.user_changes.user_id IS 'The user; empty: possibly everybody.';

-- Whoever has read number 7 must not be given number 6 later. So numbers are drawn, and kept to the end of the transaction,
-- by one transaction at a time; this lock is taken after those of rows, and before that of the audit log.
CREATE FUNCTION nudge.order_user_changes() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1853187175, 2);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION nudge.order_user_changes() IS 'Makes the numbers of the feed rise in the order of commits.';

CREATE FUNCTION nudge.notify_user_changes() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  PERFORM pg_notify('nudge_changes', (SELECT max(c.revision)::text FROM appended AS c));
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION nudge.notify_user_changes() IS 'Tells listeners that the feed has grown.';

CREATE TRIGGER user_changes_order BEFORE INSERT ON nudge.user_changes
  FOR EACH STATEMENT EXECUTE FUNCTION nudge.order_user_changes();
COMMENT ON TRIGGER user_changes_order ON nudge.user_changes IS 'One transaction at a time draws numbers.';
CREATE TRIGGER user_changes_notify AFTER INSERT ON nudge.user_changes
  REFERENCING NEW TABLE AS appended FOR EACH STATEMENT EXECUTE FUNCTION nudge.notify_user_changes();
COMMENT ON TRIGGER user_changes_notify ON nudge.user_changes IS 'Tells listeners.';

CREATE TABLE nudge.spool_receipts (
  spool_id uuid NOT NULL PRIMARY KEY,
  epoch bigint NOT NULL,
  position bigint NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE nudge.spool_receipts IS
  'How far each spool has been brought back, written with the rows themselves, so that none comes twice.';
COMMENT ON COLUMN nudge.spool_receipts.spool_id IS 'The spool''s own id.';
COMMENT ON COLUMN nudge.spool_receipts.epoch IS 'Its lap.';
COMMENT ON COLUMN nudge.spool_receipts.position IS 'The byte behind the last record of the lap that has come.';
COMMENT ON COLUMN nudge.spool_receipts.received_at IS 'When.';

CREATE TABLE nudge.job_requests (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  config jsonb NOT NULL DEFAULT '{}',
  requested_at timestamptz NOT NULL DEFAULT now(),
  taken_at timestamptz,
  job_id uuid
);
COMMENT ON TABLE nudge.job_requests IS 'Runs of the job that the database asks for, as pg_cron does.';
COMMENT ON COLUMN nudge.job_requests.id IS 'The request.';
COMMENT ON COLUMN nudge.job_requests.config IS 'The job''s settings, an object.';
COMMENT ON COLUMN nudge.job_requests.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN nudge.job_requests.taken_at IS 'When a server took it; empty: not yet.';
COMMENT ON COLUMN nudge.job_requests.job_id IS 'The run that came of it.';
CREATE INDEX job_requests_waiting ON nudge.job_requests (id) WHERE taken_at IS NULL;

REVOKE ALL ON SEQUENCE nudge.revisions, nudge.job_requests_id_seq FROM PUBLIC, anon, authenticated, service_role;
GRANT USAGE, SELECT ON SEQUENCE nudge.revisions TO service_role;
REVOKE ALL ON nudge.stale_users, nudge.user_changes, nudge.spool_receipts, nudge.job_requests
  FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.stale_users, nudge.user_changes, nudge.spool_receipts,
  nudge.job_requests TO service_role;
REVOKE ALL ON FUNCTION nudge.audit_tail(), nudge.extend_audit_log(), nudge.order_user_changes(),
  nudge.notify_user_changes() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION nudge.audit_tail() TO service_role;

-- Rights: admins see the logs, others none of their rows; the service appends to the audit log and does everything else.

ALTER TABLE public.admin_audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.archetype_job_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.edge_function_logs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.admin_audit_log, public.archetype_job_logs, public.edge_function_logs
  FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.admin_audit_log, public.archetype_job_logs, public.edge_function_logs TO authenticated;
GRANT SELECT, INSERT ON public.admin_audit_log TO service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.archetype_job_logs, public.edge_function_logs TO service_role;
CREATE POLICY admin_audit_log_select ON public.admin_audit_log FOR SELECT TO authenticated
  USING ((SELECT private.is_admin()));
CREATE POLICY admin_audit_log_service_select ON public.admin_audit_log FOR SELECT TO service_role USING (true);
CREATE POLICY admin_audit_log_service_insert ON public.admin_audit_log FOR INSERT TO service_role WITH CHECK (true);
CREATE POLICY archetype_job_logs_select ON public.archetype_job_logs FOR SELECT TO authenticated
  USING ((SELECT private.is_admin()));
CREATE POLICY archetype_job_logs_service ON public.archetype_job_logs TO service_role USING (true) WITH CHECK (true);
CREATE POLICY edge_function_logs_select ON public.edge_function_logs FOR SELECT TO authenticated
  USING ((SELECT private.is_admin()));
CREATE POLICY edge_function_logs_service ON public.edge_function_logs TO service_role USING (true) WITH CHECK (true);

INSERT INTO nudge.migrations (version, name) VALUES (20261101000200, 'logs');
