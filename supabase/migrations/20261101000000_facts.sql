-- The app's facts. Rows come in any order, so they do not refer to each other by foreign keys. Ids are opaque text, money
-- is dollars.
--
-- A table of the app is never touched: where public has something of that name already, ours is not made, and the service
-- reads the app's through a view. Where it is absent, ours is made and noted in nudge.facts; later migrations alter only
-- those.

CREATE TABLE nudge.facts (
  name text COLLATE "C" NOT NULL PRIMARY KEY,
  made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE nudge.facts IS 'The tables of facts in public that the service made; the others, if any, are the app''s.';
COMMENT ON COLUMN nudge.facts.name IS 'The table.';
COMMENT ON COLUMN nudge.facts.made_at IS 'When it was made.';
REVOKE ALL ON nudge.facts FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON nudge.facts TO service_role;

DO $profiles$
BEGIN
  IF to_regclass('public.profiles') IS NOT NULL THEN RETURN; END IF;
  CREATE TABLE public.profiles (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    role text COLLATE "C" NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'admin')),
    personalization_opt_out boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  COMMENT ON TABLE public.profiles IS
    'People, as far as the service looks at them. Who is not here is a member who has not opted out.';
  COMMENT ON COLUMN public.profiles.id IS 'The user.';
  COMMENT ON COLUMN public.profiles.role IS 'member or admin. Who can write it decides who is an admin.';
  COMMENT ON COLUMN public.profiles.personalization_opt_out IS 'Whether nothing personal may be used or kept.';
  COMMENT ON COLUMN public.profiles.created_at IS 'When the profile was made.';
  CREATE INDEX profiles_opted_out ON public.profiles (id) WHERE personalization_opt_out;
  CREATE INDEX profiles_by_time ON public.profiles (created_at);
  INSERT INTO nudge.facts (name) VALUES ('profiles');
END
$profiles$;

DO $leases$
BEGIN
  IF to_regclass('public.leases') IS NOT NULL THEN RETURN; END IF;
  CREATE TABLE public.leases (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    name text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now()
  );
  COMMENT ON TABLE public.leases IS 'Shared homes.';
  COMMENT ON COLUMN public.leases.id IS 'The lease.';
  COMMENT ON COLUMN public.leases.name IS 'What people call it.';
  COMMENT ON COLUMN public.leases.created_at IS 'When it was made.';
  CREATE INDEX leases_by_time ON public.leases (created_at);
  INSERT INTO nudge.facts (name) VALUES ('leases');
END
$leases$;

DO $lease_members$
BEGIN
  IF to_regclass('public.lease_members') IS NOT NULL THEN RETURN; END IF;
  CREATE TABLE public.lease_members (
    lease_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (lease_id, user_id)
  );
  COMMENT ON TABLE public.lease_members IS 'Who lives where.';
  COMMENT ON COLUMN public.lease_members.lease_id IS 'The lease.';
  COMMENT ON COLUMN public.lease_members.user_id IS 'The tenant.';
  CREATE INDEX lease_members_by_user ON public.lease_members (user_id, lease_id);
  INSERT INTO nudge.facts (name) VALUES ('lease_members');
END
$lease_members$;

DO $lease_nights$
BEGIN
  IF to_regclass('public.lease_nights') IS NOT NULL THEN RETURN; END IF;
  CREATE TABLE public.lease_nights (
    lease_id text COLLATE "C" NOT NULL,
    night date NOT NULL,
    held_by text COLLATE "C",
    base_price numeric(9, 2) NOT NULL CHECK (base_price > 0 AND base_price <= 100000),
    market_demand numeric(7, 4) NOT NULL DEFAULT 1.0 CHECK (market_demand > 0 AND market_demand <= 100),
    PRIMARY KEY (lease_id, night)
  );
  COMMENT ON TABLE public.lease_nights IS 'Who holds which night, at what price.';
  COMMENT ON COLUMN public.lease_nights.lease_id IS 'The lease.';
  COMMENT ON COLUMN public.lease_nights.night IS 'The calendar date.';
  COMMENT ON COLUMN public.lease_nights.held_by IS 'The tenant who holds it.';
  COMMENT ON COLUMN public.lease_nights.base_price IS 'Dollars.';
  COMMENT ON COLUMN public.lease_nights.market_demand IS 'Factor on the price.';
  CREATE INDEX lease_nights_by_holder ON public.lease_nights (held_by, night);
  INSERT INTO nudge.facts (name) VALUES ('lease_nights');
END
$lease_nights$;

DO $date_change_requests$
BEGIN
  IF to_regclass('public.date_change_requests') IS NOT NULL THEN RETURN; END IF;
  CREATE TABLE public.date_change_requests (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    lease_id text COLLATE "C",
    requester_id text COLLATE "C" NOT NULL,
    receiver_id text COLLATE "C" NOT NULL CHECK (receiver_id <> requester_id),
    transaction_type text COLLATE "C" NOT NULL CHECK (transaction_type IN ('buyout', 'crash', 'swap')),
    target_night date NOT NULL,
    offered_night date CHECK (offered_night IS NULL OR transaction_type = 'swap'),
    proposed_price numeric(9, 2) CHECK (proposed_price IS NULL
      OR (transaction_type <> 'swap' AND proposed_price >= 0 AND proposed_price <= 1000000)),
    base_price numeric(9, 2) CHECK (base_price IS NULL OR (base_price >= 0 AND base_price <= 100000)),
    status text COLLATE "C" NOT NULL
      CHECK (status IN ('pending', 'accepted', 'rejected', 'expired', 'cancelled')),
    recommendation_id text COLLATE "C" CHECK (recommendation_id IS NULL OR length(recommendation_id) = 36),
    created_at timestamptz NOT NULL DEFAULT now(),
    responded_at timestamptz CHECK (responded_at IS NULL OR responded_at >= created_at)
  );
  COMMENT ON TABLE public.date_change_requests IS 'Who asked whom for which night, and what came of it.';
  COMMENT ON COLUMN public.date_change_requests.id IS 'The request.';
  COMMENT ON COLUMN public.date_change_requests.lease_id IS 'The lease.';
  COMMENT ON COLUMN public.date_change_requests.requester_id IS 'Who asks.';
  COMMENT ON COLUMN public.date_change_requests.receiver_id IS 'Who is asked.';
  COMMENT ON COLUMN public.date_change_requests.transaction_type IS 'What is proposed: buyout, crash or swap.';
  COMMENT ON COLUMN public.date_change_requests.target_night IS 'The night asked for.';
  COMMENT ON COLUMN public.date_change_requests.offered_night IS 'The night offered, in a swap.';
  COMMENT ON COLUMN public.date_change_requests.proposed_price IS 'Dollars; none in a swap.';
  COMMENT ON COLUMN public.date_change_requests.base_price IS 'Dollars, of the night at that time.';
  COMMENT ON COLUMN public.date_change_requests.status IS
    'Where it stands: pending, accepted, rejected, expired or cancelled.';
  COMMENT ON COLUMN public.date_change_requests.recommendation_id IS 'The decision that led to it.';
  COMMENT ON COLUMN public.date_change_requests.created_at IS 'When it was made.';
  COMMENT ON COLUMN public.date_change_requests.responded_at IS 'When it was answered.';
  -- The newest requests of a person, in either role, are read from these alone.
  CREATE INDEX date_change_requests_by_requester ON public.date_change_requests (requester_id, created_at, id)
    INCLUDE (transaction_type, status, proposed_price, base_price, responded_at);
  CREATE INDEX date_change_requests_by_receiver ON public.date_change_requests (receiver_id, created_at, id)
    INCLUDE (transaction_type, status, proposed_price, base_price, responded_at);
  CREATE INDEX date_change_requests_by_recommendation ON public.date_change_requests (recommendation_id)
    WHERE recommendation_id IS NOT NULL;
  CREATE INDEX date_change_requests_by_lease ON public.date_change_requests (lease_id);
  CREATE INDEX date_change_requests_by_time ON public.date_change_requests (created_at);
  INSERT INTO nudge.facts (name) VALUES ('date_change_requests');
END
$date_change_requests$;

-- What a view of facts has to give. `fallback` is what a column gives that the app's table lacks, or leaves empty.
CREATE FUNCTION nudge.fact_columns()
RETURNS TABLE (fact text, place integer, name text, type text, required boolean, fallback text)
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
  VALUES
    ('profiles', 1, 'id', 'text', true, NULL),
    ('profiles', 2, 'role', 'text', false, '''member'''),
    ('profiles', 3, 'personalization_opt_out', 'boolean', false, 'false'),
    ('profiles', 4, 'created_at', 'timestamptz', false, NULL),
    ('leases', 1, 'id', 'text', true, NULL),
    ('leases', 2, 'name', 'text', false, NULL),
    ('leases', 3, 'created_at', 'timestamptz', false, NULL),
    ('lease_members', 1, 'lease_id', 'text', true, NULL),
    ('lease_members', 2, 'user_id', 'text', true, NULL),
    ('lease_nights', 1, 'lease_id', 'text', true, NULL),
    ('lease_nights', 2, 'night', 'date', true, NULL),
    ('lease_nights', 3, 'held_by', 'text', false, NULL),
    ('lease_nights', 4, 'base_price', 'numeric', true, NULL),
    ('lease_nights', 5, 'market_demand', 'numeric', false, '1.0'),
    ('date_change_requests', 1, 'id', 'text', true, NULL),
    ('date_change_requests', 2, 'lease_id', 'text', false, NULL),
    ('date_change_requests', 3, 'requester_id', 'text', true, NULL),
    ('date_change_requests', 4, 'receiver_id', 'text', true, NULL),
    ('date_change_requests', 5, 'transaction_type', 'text', true, NULL),
    ('date_change_requests', 6, 'target_night', 'date', true, NULL),
    ('date_change_requests', 7, 'offered_night', 'date', false, NULL),
    ('date_change_requests', 8, 'proposed_price', 'numeric', false, NULL),
    ('date_change_requests', 9, 'base_price', 'numeric', false, NULL),
    ('date_change_requests', 10, 'status', 'text', true, NULL),
    ('date_change_requests', 11, 'recommendation_id', 'text', false, NULL),
    ('date_change_requests', 12, 'created_at', 'timestamptz', true, NULL),
    ('date_change_requests', 13, 'responded_at', 'timestamptz', false, NULL)
$$;
COMMENT ON FUNCTION nudge.fact_columns() IS 'The columns of the views of facts, in order.';

-- Runs as the owner, because it is the owner whose view reads the table.
CREATE FUNCTION nudge.fact_problems(wanted text)
RETURNS TABLE (column_name text, problem text, remedy text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  app_table regclass := to_regclass(format('public.%I', wanted));
  kind "char";
  invoker boolean;
BEGIN
  IF NOT EXISTS (SELECT FROM nudge.fact_columns() AS c WHERE c.fact = wanted) THEN
    RAISE EXCEPTION 'no facts are named %', wanted USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF app_table IS NULL THEN
    RETURN QUERY SELECT NULL::text, format('there is no public.%s', wanted), NULL::text;
    RETURN;
  END IF;

  SELECT c.relkind, coalesce('security_invoker=true' = ANY (c.reloptions), false)
    OR coalesce('security_invoker=on' = ANY (c.reloptions), false)
  INTO kind, invoker FROM pg_catalog.pg_class AS c WHERE c.oid = app_table;
  IF kind NOT IN ('r', 'p', 'v', 'm', 'f') THEN
    RETURN QUERY SELECT NULL::text, format('public.%s is no table', wanted), NULL::text;
    RETURN;
  END IF;
  IF NOT has_table_privilege(app_table, 'SELECT') THEN
    RETURN QUERY SELECT NULL::text, format('%s may not read public.%s', current_user, wanted),
      format('GRANT SELECT ON public.%I TO %I;', wanted, current_user);
  END IF;
  -- Rows that row security hides are missing without an error. Under a view that reads as its invoker, whose rows are
  -- hidden cannot be told from here.
  IF kind = 'v' AND invoker THEN
    RETURN QUERY SELECT NULL::text, format('public.%s is a view with security_invoker', wanted),
      format('ALTER VIEW public.%I SET (security_invoker = false);', wanted);
  END IF;
  IF row_security_active(app_table::oid) AND NOT nudge.sees_all_rows(app_table) THEN
    RETURN QUERY SELECT NULL::text, format('row security hides rows of public.%s from %s', wanted, current_user),
      format('CREATE POLICY nudge_reads ON public.%I FOR SELECT TO %I USING (true);', wanted, current_user);
  END IF;

  RETURN QUERY
    SELECT c.name,
      CASE WHEN a.attname IS NULL THEN format('the column is missing; it is %s', c.type)
        ELSE format('the column is %s, not %s', format_type(a.atttypid, a.atttypmod), c.type) END,
      format('CREATE OR REPLACE VIEW nudge.%I AS SELECT …, (…)::%s%s AS %I, … FROM public.%I;', wanted, c.type,
        CASE c.type WHEN 'text' THEN ' COLLATE "C"' ELSE '' END, c.name, wanted)
    FROM nudge.fact_columns() AS c
    LEFT JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = app_table AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    WHERE c.fact = wanted
      AND CASE
        WHEN a.attname IS NULL THEN c.required
        WHEN c.type = 'text' THEN NOT (t.typtype = 'e' OR a.atttypid = ANY (ARRAY['text', 'varchar', 'bpchar', 'uuid']::regtype[]))
        ELSE a.atttypid <> c.type::regtype
      END
    ORDER BY c.place;
END
$$;
COMMENT ON FUNCTION nudge.fact_problems(text) IS
  'Why a table of the app cannot be read as these facts: the column (none: the table as a whole), what is wrong, and the '
  'statement that mends it. No row: it can.';

CREATE FUNCTION nudge.sees_all_rows(app_table regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT
    coalesce(bool_or(p.polpermissive AND p.everything), false)
    AND coalesce(bool_and(p.polpermissive OR p.everything), true)
  FROM (
    SELECT polpermissive, pg_get_expr(polqual, polrelid) = 'true' AS everything
    FROM pg_catalog.pg_policy
    WHERE polrelid = app_table AND polcmd IN ('r', '*')
      AND (0::oid = ANY (polroles) OR EXISTS (
        SELECT FROM unnest(polroles) AS r (oid) WHERE r.oid <> 0 AND pg_has_role(r.oid, 'USAGE')))
  ) AS p
$$;
COMMENT ON FUNCTION nudge.sees_all_rows(regclass) IS
  'Whether the policies of a table, as far as they concern the current user, let every row be read.';

-- Run by the owner: by the migration, and by an operator after the app's table has been mended.
CREATE FUNCTION nudge.map_fact(wanted text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = '' AS $$
DECLARE
  state text;
  columns text;
  app_table regclass := to_regclass(format('public.%I', wanted));
BEGIN
  IF EXISTS (SELECT FROM nudge.facts AS f WHERE f.name = wanted) AND app_table IS NOT NULL THEN
    state := 'own';
  ELSIF EXISTS (SELECT FROM nudge.fact_problems(wanted)) THEN
    state := 'empty';
  ELSE
    state := 'mapped';
  END IF;

  SELECT string_agg(format('%s AS %I', CASE
      WHEN state = 'empty' OR a.attname IS NULL THEN
        format('(%s)::%s%s', coalesce(c.fallback, 'NULL'), c.type, collation_of.clause)
      -- A column of ours has the type already; without a cast its indexes serve the view.
      WHEN state = 'own' AND c.type <> 'numeric' THEN format('t.%I', c.name)
      -- An app has other roles too; they are no admins.
      WHEN c.name = 'role' THEN format(
        '(CASE WHEN t.%I::text = ''admin'' THEN ''admin'' ELSE ''member'' END)::text COLLATE "C"', c.name)
      WHEN c.fallback IS NOT NULL THEN format('coalesce(t.%I::%s, %s)%s', c.name, c.type, c.fallback,
        collation_of.clause)
      ELSE format('(t.%I)::%s%s', c.name, c.type, collation_of.clause)
    END, c.name), ', ' ORDER BY c.place)
  INTO columns
  FROM nudge.fact_columns() AS c
  CROSS JOIN LATERAL (SELECT CASE c.type WHEN 'text' THEN ' COLLATE "C"' ELSE '' END AS clause) AS collation_of
  LEFT JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = app_table AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.fact = wanted;

  EXECUTE format('CREATE OR REPLACE VIEW nudge.%I AS SELECT %s%s', wanted, columns,
    CASE state WHEN 'empty' THEN ' WHERE false' ELSE format(' FROM public.%I AS t', wanted) END);
  RETURN state;
END
$$;
COMMENT ON FUNCTION nudge.map_fact(text) IS
  'Makes the view of these facts: over our own table (own), over the app''s if it fits (mapped), else without rows '
  '(empty). Gives which.';

SELECT nudge.map_fact(name) FROM unnest(ARRAY['profiles', 'leases', 'lease_members', 'lease_nights',
  'date_change_requests']) AS name;

COMMENT ON VIEW nudge.profiles IS 'What the service reads as profiles.';
COMMENT ON COLUMN nudge.profiles.id IS 'The user.';
COMMENT ON COLUMN nudge.profiles.role IS 'member or admin.';
COMMENT ON COLUMN nudge.profiles.personalization_opt_out IS 'Whether nothing personal may be used or kept.';
COMMENT ON COLUMN nudge.profiles.created_at IS 'When the profile was made.';
COMMENT ON VIEW nudge.leases IS 'What the service reads as leases.';
COMMENT ON COLUMN nudge.leases.id IS 'The lease.';
COMMENT ON COLUMN nudge.leases.name IS 'What people call it.';
COMMENT ON COLUMN nudge.leases.created_at IS 'When it was made.';
COMMENT ON VIEW nudge.lease_members IS 'What the service reads as memberships.';
COMMENT ON COLUMN nudge.lease_members.lease_id IS 'The lease.';
COMMENT ON COLUMN nudge.lease_members.user_id IS 'The tenant.';
COMMENT ON VIEW nudge.lease_nights IS 'What the service reads as nights.';
COMMENT ON COLUMN nudge.lease_nights.lease_id IS 'The lease.';
COMMENT ON COLUMN nudge.lease_nights.night IS 'The calendar date.';
COMMENT ON COLUMN nudge.lease_nights.held_by IS 'The tenant who holds it.';
COMMENT ON COLUMN nudge.lease_nights.base_price IS 'Dollars.';
COMMENT ON COLUMN nudge.lease_nights.market_demand IS 'Factor on the price.';
COMMENT ON VIEW nudge.date_change_requests IS 'What the service reads as requests.';
COMMENT ON COLUMN nudge.date_change_requests.id IS 'The request.';
COMMENT ON COLUMN nudge.date_change_requests.lease_id IS 'The lease.';
COMMENT ON COLUMN nudge.date_change_requests.requester_id IS 'Who asks.';
COMMENT ON COLUMN nudge.date_change_requests.receiver_id IS 'Who is asked.';
COMMENT ON COLUMN nudge.date_change_requests.transaction_type IS 'What is proposed: buyout, crash or swap.';
COMMENT ON COLUMN nudge.date_change_requests.target_night IS 'The night asked for.';
COMMENT ON COLUMN nudge.date_change_requests.offered_night IS 'The night offered, in a swap.';
COMMENT ON COLUMN nudge.date_change_requests.proposed_price IS 'Dollars; none in a swap.';
COMMENT ON COLUMN nudge.date_change_requests.base_price IS 'Dollars, of the night at that time.';
COMMENT ON COLUMN nudge.date_change_requests.status IS
  'Where it stands: pending, accepted, rejected, expired or cancelled.';
COMMENT ON COLUMN nudge.date_change_requests.recommendation_id IS 'The decision that led to it.';
COMMENT ON COLUMN nudge.date_change_requests.created_at IS 'When it was made.';
COMMENT ON COLUMN nudge.date_change_requests.responded_at IS 'When it was answered.';

-- What an operator has made of a view counts, not how it began.
CREATE VIEW nudge.fact_states AS
  SELECT f.name, f.ours, r.reads, CASE
      WHEN cardinality(r.reads) = 0 THEN 'empty'
      WHEN f.ours AND r.reads = ARRAY[format('public.%I', f.name)] THEN 'own'
      ELSE 'mapped'
    END COLLATE "C" AS state
  FROM (
    SELECT DISTINCT c.fact::text COLLATE "C" AS name,
      EXISTS (SELECT FROM nudge.facts AS own WHERE own.name = c.fact) AS ours
    FROM nudge.fact_columns() AS c
  ) AS f
  CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(DISTINCT what.identity ORDER BY what.identity), '{}') AS reads
    FROM pg_catalog.pg_rewrite AS rule
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = rule.oid
      AND d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
      AND NOT (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = rule.ev_class)
    CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) AS what
    WHERE rule.ev_class = to_regclass(format('nudge.%I', f.name))
  ) AS r;
COMMENT ON VIEW nudge.fact_states IS 'Where each kind of fact comes from.';
COMMENT ON COLUMN nudge.fact_states.name IS 'The facts.';
COMMENT ON COLUMN nudge.fact_states.ours IS 'Whether the service made public''s table of that name.';
COMMENT ON COLUMN nudge.fact_states.reads IS 'The tables, views and functions that the view of the service reads.';
COMMENT ON COLUMN nudge.fact_states.state IS
  'own: our table. mapped: anything else. empty: nothing, because what the app has does not fit.';

REVOKE ALL ON nudge.profiles, nudge.leases, nudge.lease_members, nudge.lease_nights, nudge.date_change_requests,
  nudge.fact_states FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON nudge.profiles, nudge.leases, nudge.lease_members, nudge.lease_nights, nudge.date_change_requests,
  nudge.fact_states TO service_role;
REVOKE ALL ON FUNCTION nudge.fact_columns(), nudge.fact_problems(text), nudge.sees_all_rows(regclass),
  nudge.map_fact(text) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION nudge.fact_columns(), nudge.fact_problems(text) TO service_role;

-- Helpers of the policies: they run as the owner, who sees the facts, once for each statement.

DO $helpers$
DECLARE
  taken text;
BEGIN
  SELECT string_agg(p.oid::regprocedure::text, ', ') INTO taken FROM pg_catalog.pg_proc AS p
  WHERE p.pronamespace = to_regnamespace('private') AND p.proname IN ('is_admin', 'my_leases') AND p.pronargs = 0;
  IF taken IS NOT NULL THEN
    RAISE EXCEPTION 'the app has functions of these names already: %', taken USING ERRCODE = 'duplicate_function',
      HINT = 'Rename them, and what calls them: ALTER FUNCTION … RENAME TO …;';
  END IF;
END
$helpers$;

CREATE FUNCTION private.is_admin() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT EXISTS (SELECT FROM nudge.profiles AS p WHERE p.id = auth.jwt() ->> 'sub' AND p.role = 'admin')
$$;
COMMENT ON FUNCTION private.is_admin() IS 'Whether the caller is an admin now. In policies: (SELECT private.is_admin()).';

CREATE FUNCTION private.my_leases() RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT coalesce(array_agg(m.lease_id), '{}') FROM nudge.lease_members AS m WHERE m.user_id = auth.jwt() ->> 'sub'
$$;
COMMENT ON FUNCTION private.my_leases() IS
  'The leases of the caller. In policies: lease_id = ANY ((SELECT private.my_leases())::text[]).';

REVOKE ALL ON FUNCTION private.is_admin(), private.my_leases() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION private.is_admin(), private.my_leases() TO authenticated, service_role;

-- Who may see which facts, of those that are in our own tables. Ids are text, so nothing here uses auth.uid().

DO $rights$
DECLARE
  fact text;
BEGIN
  FOR fact IN SELECT name FROM nudge.facts LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', fact);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated, service_role', fact);
    EXECUTE format('GRANT SELECT ON public.%I TO authenticated', fact);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO service_role', fact);
    EXECUTE format('CREATE POLICY %I ON public.%I FOR SELECT TO authenticated USING ((%s) OR (SELECT private.is_admin()))',
      fact || '_select', fact, CASE fact
        WHEN 'profiles' THEN 'id = (SELECT (SELECT auth.jwt()) ->> ''sub'')'
        WHEN 'leases' THEN 'id = ANY ((SELECT private.my_leases())::text[])'
        WHEN 'date_change_requests' THEN
          'requester_id = (SELECT (SELECT auth.jwt()) ->> ''sub'') OR receiver_id = (SELECT (SELECT auth.jwt()) ->> ''sub'')'
        ELSE 'lease_id = ANY ((SELECT private.my_leases())::text[])'
      END);
    EXECUTE format('CREATE POLICY %I ON public.%I TO service_role USING (true) WITH CHECK (true)',
      fact || '_service', fact);
  END LOOP;
END
$rights$;

INSERT INTO nudge.migrations (version, name) VALUES (20261101000000, 'facts');
