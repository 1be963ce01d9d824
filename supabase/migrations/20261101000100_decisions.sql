-- What the service decides and learns: archetypes, decisions, outcomes.

CREATE TABLE public.user_archetypes (
  user_id text COLLATE "C" NOT NULL PRIMARY KEY,
  archetype_type text COLLATE "C" NOT NULL
    CHECK (archetype_type IN ('big_spender', 'high_flexibility', 'average_user')),
  confidence numeric(3, 2) NOT NULL CHECK (confidence >= 0 AND confidence <= 1),
  signals jsonb NOT NULL,
  reasoning text[] NOT NULL,
  scores jsonb NOT NULL,
  is_manual_override boolean NOT NULL DEFAULT false,
  override_reason text COLLATE "C",
  override_by text COLLATE "C",
  override_expires_at timestamptz,
  policy text COLLATE "C" NOT NULL,
  computed_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  CHECK (is_manual_override = (override_reason IS NOT NULL)),
  CHECK (is_manual_override = (override_by IS NOT NULL)),
  CHECK (is_manual_override OR override_expires_at IS NULL)
)
-- A job rewrites every row each night. Half of a page is left free, so that new versions stay beside the old ones, and no
-- index but that of the type, which seldom changes, has to learn of them; for the same reason nothing is indexed by time.
-- Vacuum comes after a twentieth of the rows, not a fifth.
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1,
  toast.autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE public.user_archetypes IS 'One row a user. A user who opted out has none.';
COMMENT ON COLUMN public.user_archetypes.user_id IS 'The user.';
COMMENT ON COLUMN public.user_archetypes.archetype_type IS 'The archetype in force, unless an override has ended.';
COMMENT ON COLUMN public.user_archetypes.confidence IS '0 to 1.';
COMMENT ON COLUMN public.user_archetypes.signals IS 'The twelve signals, an object.';
COMMENT ON COLUMN public.user_archetypes.reasoning IS 'Why, for people.';
COMMENT ON COLUMN public.user_archetypes.scores IS 'The whole breakdown, an object.';
COMMENT ON COLUMN public.user_archetypes.is_manual_override IS 'Whether an admin said so.';
COMMENT ON COLUMN public.user_archetypes.override_reason IS 'Why.';
COMMENT ON COLUMN public.user_archetypes.override_by IS 'Who.';
COMMENT ON COLUMN public.user_archetypes.override_expires_at IS 'When it ends; never if empty.';
COMMENT ON COLUMN public.user_archetypes.policy IS 'The policy that computed it.';
COMMENT ON COLUMN public.user_archetypes.computed_at IS 'When it was computed or set.';
COMMENT ON COLUMN public.user_archetypes.created_at IS 'When the row was made.';
COMMENT ON COLUMN public.user_archetypes.updated_at IS 'When it was last written; differs at every write.';
CREATE INDEX user_archetypes_by_type ON public.user_archetypes (archetype_type);

-- The hot table. Partitioned by the id: UUIDv7, so that a range of ids is a range of time, and the key can be (user_id, id).
-- Partitions are in the schema nudge, one a month, see nudge.make_partition.
CREATE TABLE public.recommendation_logs (
  id uuid NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  roommate_id text COLLATE "C",
  lease_id text COLLATE "C",
  target_date date NOT NULL,
  primary_recommendation text COLLATE "C" NOT NULL CHECK (primary_recommendation IN ('buyout', 'crash', 'swap')),
  archetype_type text COLLATE "C" NOT NULL
    CHECK (archetype_type IN ('big_spender', 'high_flexibility', 'average_user')),
  archetype_confidence double precision NOT NULL,
  days_until_checkin integer NOT NULL CHECK (days_until_checkin >= 0),
  urgency_level text COLLATE "C" NOT NULL CHECK (urgency_level IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW')),
  options jsonb NOT NULL,
  context jsonb NOT NULL,
  rule text COLLATE "C" NOT NULL,
  policy text COLLATE "C" NOT NULL,
  personalized boolean NOT NULL,
  propensity double precision NOT NULL CHECK (propensity > 0 AND propensity <= 1),
  confidence double precision NOT NULL,
  user_selected text COLLATE "C" CHECK (user_selected IN ('buyout', 'crash', 'swap')),
  time_to_decision_seconds double precision,
  followed_recommendation boolean,
  request_submitted boolean NOT NULL DEFAULT false,
  request_accepted boolean,
  final_transaction_type text COLLATE "C" CHECK (final_transaction_type IN ('buyout', 'crash', 'swap')),
  nps_score integer CHECK (nps_score BETWEEN 0 AND 10),
  session_id text COLLATE "C",
  user_agent text COLLATE "C",
  response_time_ms integer NOT NULL,
  experiment_id text COLLATE "C",
  experiment_variant text COLLATE "C",
  created_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE public.recommendation_logs IS
  'One row a decision: what was answered, what it was made from, and what came of it.';
COMMENT ON COLUMN public.recommendation_logs.id IS 'UUIDv7; its time picks the partition.';
COMMENT ON COLUMN public.recommendation_logs.user_id IS 'The requester; anonymous for an anonymous caller.';
COMMENT ON COLUMN public.recommendation_logs.roommate_id IS 'The roommate.';
COMMENT ON COLUMN public.recommendation_logs.lease_id IS 'The lease that both share.';
COMMENT ON COLUMN public.recommendation_logs.target_date IS 'The night asked for.';
COMMENT ON COLUMN public.recommendation_logs.primary_recommendation IS 'The pre-selected type.';
COMMENT ON COLUMN public.recommendation_logs.archetype_type IS 'The archetype used.';
COMMENT ON COLUMN public.recommendation_logs.archetype_confidence IS 'Its confidence.';
COMMENT ON COLUMN public.recommendation_logs.days_until_checkin IS 'Whole days.';
COMMENT ON COLUMN public.recommendation_logs.urgency_level IS 'Their band: CRITICAL, HIGH, MEDIUM or LOW.';
COMMENT ON COLUMN public.recommendation_logs.options IS 'The three options as answered, an array.';
COMMENT ON COLUMN public.recommendation_logs.context IS
  'What the decision used, an object; enough to compute it again.';
COMMENT ON COLUMN public.recommendation_logs.rule IS 'The rule that chose the order.';
COMMENT ON COLUMN public.recommendation_logs.policy IS 'The policy with all numbers.';
COMMENT ON COLUMN public.recommendation_logs.personalized IS 'False for a neutral default.';
COMMENT ON COLUMN public.recommendation_logs.propensity IS 'Probability of this default under the policy.';
COMMENT ON COLUMN public.recommendation_logs.confidence IS 'The decision''s confidence.';
COMMENT ON COLUMN public.recommendation_logs.user_selected IS 'The type that the user chose.';
COMMENT ON COLUMN public.recommendation_logs.time_to_decision_seconds IS 'From decision to choice.';
COMMENT ON COLUMN public.recommendation_logs.followed_recommendation IS
  'Whether it was the pre-selected one; empty until chosen.';
COMMENT ON COLUMN public.recommendation_logs.request_submitted IS 'Whether a request was sent.';
COMMENT ON COLUMN public.recommendation_logs.request_accepted IS
  'Whether the roommate accepted; empty until answered.';
COMMENT ON COLUMN public.recommendation_logs.final_transaction_type IS 'The type that came about.';
COMMENT ON COLUMN public.recommendation_logs.nps_score IS 'The user''s score, 0 to 10.';
COMMENT ON COLUMN public.recommendation_logs.session_id IS 'The caller''s session.';
COMMENT ON COLUMN public.recommendation_logs.user_agent IS 'The caller''s user agent.';
COMMENT ON COLUMN public.recommendation_logs.response_time_ms IS 'From request to decision.';
COMMENT ON COLUMN public.recommendation_logs.experiment_id IS 'The experiment that it was part of.';
COMMENT ON COLUMN public.recommendation_logs.experiment_variant IS 'And the variant.';
COMMENT ON COLUMN public.recommendation_logs.created_at IS 'When it was made.';
-- A row is 4 kB of JSON, which PostgreSQL compresses. lz4 takes a fraction of the default's time (measured: a third of all
-- processor time of an insert less), but not every build of PostgreSQL has it.
DO $compression$
BEGIN
  ALTER TABLE public.recommendation_logs ALTER COLUMN options SET COMPRESSION lz4,
    ALTER COLUMN context SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
  RAISE NOTICE 'this PostgreSQL has no lz4; the default compression is used';
END
$compression$;
-- By id alone, which no unique key can promise: the key holds the user too, so that the table can be distributed by it.
CREATE INDEX recommendation_logs_by_id ON public.recommendation_logs (id);
CREATE INDEX recommendation_logs_by_time ON public.recommendation_logs (created_at);

-- Partitioned by the decision, so that an event lands beside it however late it comes.
CREATE TABLE public.recommendation_events (
  user_id text COLLATE "C" NOT NULL,
  recommendation_id uuid NOT NULL,
  event text COLLATE "C" NOT NULL
    CHECK (event IN ('viewed', 'selected', 'submitted', 'accepted', 'declined', 'expired', 'cancelled', 'nps')),
  occurrence text COLLATE "C" NOT NULL,
  transaction_type text COLLATE "C" CHECK (transaction_type IN ('buyout', 'crash', 'swap')),
  payload jsonb NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, recommendation_id, event, occurrence)
) PARTITION BY RANGE (recommendation_id);
COMMENT ON TABLE public.recommendation_events IS
  'Outcomes, append-only. An event is the same when its primary key is.';
COMMENT ON COLUMN public.recommendation_events.user_id IS 'The user of the decision.';
COMMENT ON COLUMN public.recommendation_events.recommendation_id IS 'The decision; its time picks the partition.';
COMMENT ON COLUMN public.recommendation_events.event IS
  'What happened: viewed, selected, submitted, accepted, declined, expired, cancelled or nps.';
COMMENT ON COLUMN public.recommendation_events.occurrence IS
  '<type or nothing>@<occurredAt as given, or request:<id>, or nothing>.';
COMMENT ON COLUMN public.recommendation_events.transaction_type IS 'The type selected, submitted or answered.';
COMMENT ON COLUMN public.recommendation_events.payload IS 'Source, and what else the event carries, an object.';
COMMENT ON COLUMN public.recommendation_events.occurred_at IS 'When it happened.';
COMMENT ON COLUMN public.recommendation_events.recorded_at IS 'When it was recorded.';
CREATE INDEX recommendation_events_by_decision ON public.recommendation_events (recommendation_id);
CREATE INDEX recommendation_events_by_time ON public.recommendation_events (occurred_at);

CREATE FUNCTION nudge.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation',
    DETAIL = format('%s is refused to every role.', TG_OP);
END
$$;
COMMENT ON FUNCTION nudge.refuse_change() IS 'Refuses a statement, also one that would meet no row.';

CREATE TRIGGER recommendation_events_keep BEFORE UPDATE ON public.recommendation_events
  FOR EACH STATEMENT EXECUTE FUNCTION nudge.refuse_change();
COMMENT ON TRIGGER recommendation_events_keep ON public.recommendation_events IS 'What happened does not change.';

-- Partitions: one a month (UTC) and table, in the schema nudge, as in public each would be exposed without policies. Each
-- is made by a transaction of its own that waits 100 ms for a lock and is then tried again by the caller: below the 250 ms
-- after which a commit goes to the spool. CREATE, then ATTACH: CREATE … PARTITION OF would wait for every reader. There is
-- no default partition: a row in it would keep its month from being made.

CREATE FUNCTION nudge.first_id(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT SET search_path = '' AS $$
  SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION nudge.first_id(timestamptz) IS 'The least UUIDv7 of a millisecond, as a bound: no such id is given out.';

CREATE FUNCTION nudge.partition_name(parent text, month date) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = '' AS $$
  SELECT format('%s_%s_%s', parent, lpad(extract(year FROM month)::text, 4, '0'),
    lpad(extract(month FROM month)::text, 2, '0'))
$$;
COMMENT ON FUNCTION nudge.partition_name(text, date) IS 'The name of the partition of a table for a month.';

CREATE VIEW nudge.partitions AS
  SELECT p.relname::text COLLATE "C" AS parent, c.relname::text COLLATE "C" AS name,
    to_date(right(c.relname::text, 7), 'YYYY_MM') AS month
  FROM pg_catalog.pg_inherits AS i
  JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent AND p.relnamespace = 'public'::regnamespace
    AND p.relname IN ('recommendation_logs', 'recommendation_events', 'edge_function_logs')
  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relnamespace = 'nudge'::regnamespace
  WHERE c.relname::text ~ '_[0-9]{4}_[0-9]{2}$';
COMMENT ON VIEW nudge.partitions IS 'The partitions that are there.';
COMMENT ON COLUMN nudge.partitions.parent IS 'The table in public.';
COMMENT ON COLUMN nudge.partitions.name IS 'The partition in nudge.';
COMMENT ON COLUMN nudge.partitions.month IS 'The first day of its month.';

CREATE FUNCTION nudge.make_partition(parent text, month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET lock_timeout = '100ms' AS $$
DECLARE
  first date := date_trunc('month', month::timestamp)::date;
  made text := nudge.partition_name(parent, first);
BEGIN
  IF parent IS NULL OR parent NOT IN ('recommendation_logs', 'recommendation_events', 'edge_function_logs') THEN
    RAISE EXCEPTION '% is not partitioned by month', coalesce(parent, 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF first IS NULL OR first < '1970-01-01' OR first > '9999-12-01' THEN
    RAISE EXCEPTION 'there is no partition for %', coalesce(month::text, 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF EXISTS (SELECT FROM nudge.partitions AS p WHERE p.name = made) THEN
    RETURN false;
  END IF;
  -- Several servers make the same month at once: one makes it, the others find it.
  PERFORM pg_advisory_xact_lock(1853187175, 3);
  IF EXISTS (SELECT FROM nudge.partitions AS p WHERE p.name = made) THEN
    RETURN false;
  END IF;

  EXECUTE format('CREATE TABLE nudge.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE '
    'INCLUDING COMPRESSION INCLUDING COMMENTS) WITH (fillfactor = %s)', made, parent,
    CASE parent WHEN 'recommendation_logs' THEN 90 ELSE 100 END);
  EXECUTE format('COMMENT ON TABLE nudge.%I IS %L', made, format('%s of %s.', parent, to_char(first, 'YYYY-MM')));
  -- Reached through its parent only, where the policies are.
  EXECUTE format('ALTER TABLE nudge.%I ENABLE ROW LEVEL SECURITY', made);
  EXECUTE format('REVOKE ALL ON nudge.%I FROM PUBLIC, anon, authenticated, service_role', made);
  EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION nudge.%I FOR VALUES FROM (%L) TO (%L)', parent, made,
    nudge.first_id(first::timestamp AT TIME ZONE 'UTC'),
    nudge.first_id((first + interval '1 month') AT TIME ZONE 'UTC'));
  RETURN true;
END
$$;
COMMENT ON FUNCTION nudge.make_partition(text, date) IS
  'Makes a table''s partition for the month of a date; false: it is there. 55P03: a lock was not to be had, try again.';

CREATE FUNCTION nudge.missing_partitions(ahead integer DEFAULT 3)
RETURNS TABLE (parent text, month date)
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT t.parent, m.month
  FROM unnest(ARRAY['recommendation_logs', 'recommendation_events', 'edge_function_logs']) AS t (parent)
  CROSS JOIN LATERAL (
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date AS month
    FROM generate_series(0, ahead) AS n
  ) AS m
  WHERE NOT EXISTS (SELECT FROM nudge.partitions AS p WHERE p.name = nudge.partition_name(t.parent, m.month))
  ORDER BY m.month, t.parent
$$;
COMMENT ON FUNCTION nudge.missing_partitions(integer) IS
  'What nudge.make_partition has to make for this month and some months ahead.';

CREATE FUNCTION nudge.drop_partition(parent text, month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET lock_timeout = '100ms' AS $$
DECLARE
  dropped text;
BEGIN
  SELECT p.name INTO dropped FROM nudge.partitions AS p
  WHERE p.parent = drop_partition.parent AND p.month = date_trunc('month', drop_partition.month::timestamp)::date;
  IF dropped IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TABLE nudge.%I', dropped);
  RETURN true;
END
$$;
COMMENT ON FUNCTION nudge.drop_partition(text, date) IS
  'Drops a table''s partition for the month of a date with all its rows; false: there is none. 55P03: try again.';

REVOKE ALL ON nudge.partitions FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON nudge.partitions TO service_role;
REVOKE ALL ON FUNCTION nudge.refuse_change(), nudge.first_id(timestamptz), nudge.partition_name(text, date),
  nudge.make_partition(text, date), nudge.missing_partitions(integer), nudge.drop_partition(text, date)
  FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION nudge.first_id(timestamptz), nudge.partition_name(text, date),
  nudge.make_partition(text, date), nudge.missing_partitions(integer), nudge.drop_partition(text, date)
  TO service_role;

-- Rights: users their own rows, admins all, the service everything. What does not depend on the row is in (SELECT …), so that
-- it is computed once; the inner one is the form that Supabase's advisor knows.

ALTER TABLE public.user_archetypes ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.recommendation_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.recommendation_events ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.user_archetypes, public.recommendation_logs, public.recommendation_events
  FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.user_archetypes, public.recommendation_logs, public.recommendation_events TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.user_archetypes, public.recommendation_logs, public.recommendation_events
  TO service_role;
CREATE POLICY user_archetypes_select ON public.user_archetypes FOR SELECT TO authenticated
  USING (user_id = (SELECT (SELECT auth.jwt()) ->> 'sub') OR (SELECT private.is_admin()));
CREATE POLICY user_archetypes_service ON public.user_archetypes TO service_role USING (true) WITH CHECK (true);
CREATE POLICY recommendation_logs_select ON public.recommendation_logs FOR SELECT TO authenticated
  USING (user_id = (SELECT (SELECT auth.jwt()) ->> 'sub') OR (SELECT private.is_admin()));
CREATE POLICY recommendation_logs_service ON public.recommendation_logs TO service_role
  USING (true) WITH CHECK (true);
CREATE POLICY recommendation_events_select ON public.recommendation_events FOR SELECT TO authenticated
  USING (user_id = (SELECT (SELECT auth.jwt()) ->> 'sub') OR (SELECT private.is_admin()));
CREATE POLICY recommendation_events_service ON public.recommendation_events TO service_role
  USING (true) WITH CHECK (true);

INSERT INTO nudge.migrations (version, name) VALUES (20261101000100, 'decisions');
