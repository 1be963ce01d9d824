-- What a dump says after PostgreSQL's own part: grants, mapped views, the history. Each row is a piece of it, in order.
WITH relations AS (
  SELECT c.oid, c.relkind, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relacl AS acl, c.relowner AS owner,
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'S')
    AND (n.nspname = 'nudge' OR n.nspname = 'public' AND c.relname = ANY ($1::text[]))
  UNION ALL
  SELECT p.oid, NULL, p.oid::regprocedure::text, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner,
    'FUNCTION'
  FROM pg_catalog.pg_proc AS p
  WHERE p.pronamespace = 'nudge'::regnamespace
    OR p.oid IN ('private.is_admin()'::regprocedure, 'private.my_leases()'::regprocedure)
  UNION ALL
  SELECT n.oid, NULL, n.nspname, n.nspacl, n.nspowner, 'SCHEMA'
  FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'nudge'
), views AS (
  SELECT s.name, pg_catalog.format('nudge.%I', s.name)::regclass AS oid FROM nudge.fact_states AS s WHERE s.state <> 'own'
)
SELECT piece FROM (
  -- A view over the app's tables is made where they are; else it is as empty as it was made first.
  SELECT 1 AS part, v.name AS at, 0 AS n, pg_catalog.format($piece$SELECT nudge.map_fact(%1$L);
DO %2$s
BEGIN
  CREATE OR REPLACE VIEW nudge.%3$I AS
%4$s
EXCEPTION
  WHEN undefined_table OR undefined_column OR undefined_function OR undefined_object OR invalid_schema_name
    OR datatype_mismatch OR invalid_table_definition OR insufficient_privilege THEN
    RAISE WARNING 'nudge.%% is empty: what it is made of is not here (%%)', %1$L, SQLERRM;
END
%2$s;
$piece$, v.name, '$nudge_view$', v.name, pg_catalog.pg_get_viewdef(v.oid)) AS piece
  FROM views AS v
  UNION ALL
  SELECT 2, v.name, a.attnum, pg_catalog.format(E'COMMENT ON COLUMN nudge.%I.%I IS %L;\n', v.name, a.attname,
    pg_catalog.col_description(a.attrelid, a.attnum))
  FROM views AS v JOIN pg_catalog.pg_attribute AS a ON a.attrelid = v.oid AND a.attnum > 0
  UNION ALL
  SELECT 3, v.name, 0, pg_catalog.format(E'COMMENT ON VIEW nudge.%I IS %L;\n', v.name,
    pg_catalog.obj_description(v.oid, 'pg_class'))
  FROM views AS v
  UNION ALL
  -- Whatever a new object is granted here or there by default, in the end it is what it was.
  SELECT 4, r.name, 0, pg_catalog.format(E'REVOKE ALL ON %s %s FROM PUBLIC, anon, authenticated, service_role;\n', r.kind,
    r.name)
  FROM relations AS r
  UNION ALL
  SELECT 5, r.name, 0, pg_catalog.format(E'GRANT %s ON %s %s TO %s;\n',
    pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), r.kind, r.name,
    coalesce(pg_catalog.quote_ident(g.rolname), 'PUBLIC'))
  FROM relations AS r
  CROSS JOIN LATERAL pg_catalog.aclexplode(r.acl) AS a
  LEFT JOIN pg_catalog.pg_roles AS g ON g.oid = a.grantee
  WHERE a.grantee <> r.owner AND (a.grantee = 0 OR g.rolname IN ('anon', 'authenticated', 'service_role'))
  GROUP BY r.kind, r.name, g.rolname
) AS pieces
ORDER BY part, at, n
