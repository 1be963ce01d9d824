-- What Supabase brings and plain PostgreSQL lacks: the roles of callers, and the schema auth that tells who calls. Each
-- thing is made only where it is absent, and what is there is never replaced. Then the two schemas of the service.
--
-- The owner is whoever runs the migrations. It owns the database (or may create schemas in it, and tables in public), and
-- may create roles or finds them made; it needs no superuser.

-- Roles belong to the whole cluster, so another database may be making the same ones at this moment.
DO $roles$
DECLARE
  wanted text;
  joins text := CASE WHEN current_setting('server_version_num')::integer >= 160000
    THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
  joined boolean;
  made_authenticator boolean := false;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role', 'authenticator'] LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted);
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', wanted);
      made_authenticator := made_authenticator OR wanted = 'authenticator';
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role % is missing, and % may not make it', wanted, current_user
          USING ERRCODE = 'insufficient_privilege',
            HINT = format('Let somebody who may create roles run: CREATE ROLE %I NOLOGIN NOINHERIT; '
              'GRANT %I TO %I%s;', wanted, wanted, current_user, joins);
    END;
  END LOOP;

  FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
    -- From 16 on, whoever makes a role may administer it, but neither acts as it nor has its rights by that.
    IF joins = '' THEN
      joined := pg_has_role(current_user, wanted, 'MEMBER');
    ELSE
      joined := pg_has_role(current_user, wanted, 'USAGE') AND pg_has_role(current_user, wanted, 'SET');
    END IF;
    CONTINUE WHEN joined;
    BEGIN
      EXECUTE format('GRANT %I TO %I%s', wanted, current_user, joins);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE EXCEPTION '% must be a member of %, and may not join it', current_user, wanted
        USING ERRCODE = 'insufficient_privilege',
          HINT = format('Let somebody who may grant these roles run: GRANT anon, authenticated, service_role TO %I%s;',
            current_user, joins);
    END;
  END LOOP;

  IF made_authenticator THEN
    BEGIN
      GRANT anon, authenticated, service_role TO authenticator;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'the role authenticator was made, but may not act for callers yet'
        USING HINT = 'GRANT anon, authenticated, service_role TO authenticator;';
    END;
  END IF;
END
$roles$;

-- Who calls: the claims of the verified token, set for one transaction. SET LOCAL leaves an empty text behind.
DO $auth$
DECLARE
  lacking text;
BEGIN
  IF to_regnamespace('auth') IS NULL THEN
    CREATE SCHEMA auth;
    COMMENT ON SCHEMA auth IS 'Who calls. Made by Nudge, as Supabase has it.';
    REVOKE ALL ON SCHEMA auth FROM PUBLIC;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
  END IF;

  IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = to_regnamespace('auth') AND proname = 'jwt'
      AND pronargs = 0) THEN
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE SET search_path = '' AS $body$
      SELECT coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
      )::jsonb
    $body$;
    COMMENT ON FUNCTION auth.jwt() IS 'The claims of the caller''s token.';
    GRANT EXECUTE ON FUNCTION auth.jwt() TO anon, authenticated, service_role;
  END IF;

  IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = to_regnamespace('auth') AND proname = 'uid'
      AND pronargs = 0) THEN
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS $body$
      SELECT coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
      )::uuid
    $body$;
    COMMENT ON FUNCTION auth.uid() IS
      'The caller''s id where it is a UUID. An error for other ids: policies compare auth.jwt() ->> ''sub'' instead.';
    GRANT EXECUTE ON FUNCTION auth.uid() TO anon, authenticated, service_role;
  END IF;

  IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = to_regnamespace('auth') AND proname = 'role'
      AND pronargs = 0) THEN
    CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE SET search_path = '' AS $body$
      SELECT coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
      )
    $body$;
    COMMENT ON FUNCTION auth.role() IS 'The role that the caller''s token names.';
    GRANT EXECUTE ON FUNCTION auth.role() TO anon, authenticated, service_role;
  END IF;

  -- Policies call auth.jwt() as the caller, helpers as the owner.
  FOREACH lacking IN ARRAY ARRAY[current_user::text, 'authenticated'] LOOP
    IF NOT has_schema_privilege(lacking, 'auth', 'USAGE') THEN
      RAISE EXCEPTION '% may not look into the schema auth', lacking USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let the schema''s owner run: GRANT USAGE ON SCHEMA auth TO %I;', lacking);
    END IF;
    IF NOT has_function_privilege(lacking, 'auth.jwt()', 'EXECUTE') THEN
      RAISE EXCEPTION '% may not call auth.jwt()', lacking USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let the function''s owner run: GRANT EXECUTE ON FUNCTION auth.jwt() TO %I;', lacking);
    END IF;
  END LOOP;
END
$auth$;

-- The exposed tables are in public.
DO $public$
DECLARE
  lacking text;
BEGIN
  IF NOT has_schema_privilege(current_user, 'public', 'CREATE') THEN
    RAISE EXCEPTION '% may not make tables in the schema public', current_user
      USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let the schema''s owner run: GRANT USAGE, CREATE ON SCHEMA public TO %I;', current_user);
  END IF;
  FOREACH lacking IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
    CONTINUE WHEN has_schema_privilege(lacking, 'public', 'USAGE');
    BEGIN
      EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', lacking);
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    IF NOT has_schema_privilege(lacking, 'public', 'USAGE') THEN
      RAISE EXCEPTION '% may not look into the schema public', lacking USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let the schema''s owner run: GRANT USAGE ON SCHEMA public TO %I;', lacking);
    END IF;
  END LOOP;
END
$public$;

CREATE SCHEMA nudge;
COMMENT ON SCHEMA nudge IS
  'The service''s own: its tables, the partitions of the public ones, and the views through which it reads the facts. '
  'Not exposed.';
REVOKE ALL ON SCHEMA nudge FROM PUBLIC, anon, authenticated, service_role;
GRANT USAGE ON SCHEMA nudge TO service_role;

-- Many apps have a schema of this name, so its other rights are left as they are.
DO $private$
BEGIN
  IF to_regnamespace('private') IS NULL THEN
    CREATE SCHEMA private;
    COMMENT ON SCHEMA private IS 'Helpers of row level security. Not exposed.';
    REVOKE ALL ON SCHEMA private FROM PUBLIC, anon, authenticated, service_role;
  ELSIF NOT has_schema_privilege(current_user, 'private', 'CREATE') THEN
    RAISE EXCEPTION '% may not make functions in the schema private', current_user
      USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let the schema''s owner run: GRANT USAGE, CREATE ON SCHEMA private TO %I;', current_user);
  END IF;
  IF NOT (has_schema_privilege('authenticated', 'private', 'USAGE')
      AND has_schema_privilege('service_role', 'private', 'USAGE')) THEN
    GRANT USAGE ON SCHEMA private TO authenticated, service_role;
  END IF;
END
$private$;

-- Which of the service's migrations have run, whoever pushed them. The history of the Supabase CLI also holds those of
-- the app, so it cannot tell whether a schema is newer than a program.
CREATE TABLE nudge.migrations (
  version bigint NOT NULL PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE nudge.migrations IS 'The service''s migrations that have run; each notes itself.';
COMMENT ON COLUMN nudge.migrations.version IS 'Fourteen digits, those of the file.';
COMMENT ON COLUMN nudge.migrations.name IS 'The rest of the file''s name.';
COMMENT ON COLUMN nudge.migrations.applied_at IS 'When it ran.';
REVOKE ALL ON nudge.migrations FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON nudge.migrations TO service_role;

INSERT INTO nudge.migrations (version, name) VALUES (20261031000000, 'platform');
