-- One line for everything of ours that the catalogue knows. Tables of the app are left out; so are the bodies of the views
-- of facts, which an operator may replace, and the partitions, unless something is wrong with one.
WITH relations AS (
  SELECT c.oid, c.relkind, n.nspname || '.' || c.relname AS name, c.relrowsecurity,
    c.relforcerowsecurity, c.reloptions
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE NOT c.relispartition AND c.relkind IN ('r', 'p', 'v', 'S')
    AND (n.nspname = 'nudge'
      OR n.nspname = 'public' AND c.relname IN ('user_archetypes', 'recommendation_logs', 'recommendation_events',
        'admin_audit_log', 'archetype_job_logs', 'edge_function_logs')
      OR n.nspname = 'public' AND c.relname IN (SELECT f.name FROM nudge.facts AS f))
), functions AS (
  SELECT p.oid, n.nspname || '.' || p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' AS name
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = 'nudge' OR n.nspname = 'private' AND p.proname IN ('is_admin', 'my_leases')
), grantees AS (
  SELECT r.oid, r.rolname::text AS name FROM pg_catalog.pg_roles AS r
  WHERE r.rolname IN ('anon', 'authenticated', 'service_role')
  UNION ALL SELECT 0, 'PUBLIC'
)
SELECT line FROM (
  SELECT pg_catalog.format('%s %s%s%s%s%s',
    CASE r.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END, r.name,
    CASE r.relkind WHEN 'p' THEN ' PARTITION BY ' || pg_catalog.pg_get_partkeydef(r.oid) ELSE '' END,
    CASE WHEN r.relrowsecurity THEN ' row security' ELSE '' END,
    CASE WHEN r.relforcerowsecurity THEN ' forced' ELSE '' END,
    coalesce((SELECT ' with ' || pg_catalog.string_agg(o, ', ' ORDER BY o) FROM pg_catalog.unnest(r.reloptions) AS o), '')) AS line
  FROM relations AS r
  UNION ALL
  SELECT pg_catalog.format('column %s.%s %s%s%s%s', r.name, a.attname,
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation = '"C"'::regcollation THEN ' COLLATE C'
      WHEN a.attcollation NOT IN (0, '"default"'::regcollation) THEN ' COLLATE ' || a.attcollation::regcollation::text ELSE '' END,
    CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
    coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''))
  FROM relations AS r
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE r.relkind IN ('r', 'p', 'v')
  UNION ALL
  -- NOT NULL is said with the column; from 18 on it is a constraint too.
  SELECT pg_catalog.format('constraint %s.%s %s', r.name, c.conname, pg_catalog.pg_get_constraintdef(c.oid))
  FROM relations AS r JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid AND c.contype <> 'n'
  UNION ALL
  SELECT pg_catalog.format('index %s', pg_catalog.pg_get_indexdef(i.indexrelid))
    || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
  FROM relations AS r JOIN pg_catalog.pg_index AS i ON i.indrelid = r.oid
  UNION ALL
  SELECT pg_catalog.format('trigger %s%s', pg_catalog.pg_get_triggerdef(t.oid),
    CASE t.tgenabled WHEN 'O' THEN '' WHEN 'A' THEN ' ALWAYS' WHEN 'R' THEN ' REPLICA' ELSE ' DISABLED' END)
  FROM relations AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
  UNION ALL
  SELECT pg_catalog.format('policy %s on %s %s FOR %s TO %s USING %s CHECK %s', p.polname, r.name,
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    (SELECT pg_catalog.string_agg(coalesce(g.rolname::text, 'PUBLIC'), ', ' ORDER BY g.rolname)
      FROM pg_catalog.unnest(p.polroles) AS o (oid) LEFT JOIN pg_catalog.pg_roles AS g ON g.oid = o.oid),
    coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '-'),
    coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '-'))
  FROM relations AS r JOIN pg_catalog.pg_policy AS p ON p.polrelid = r.oid
  UNION ALL
  SELECT pg_catalog.format('function %s returns %s %s%s%s%s body %s', f.name, pg_catalog.pg_get_function_result(p.oid),
    l.lanname, CASE p.provolatile WHEN 'i' THEN ' immutable' WHEN 's' THEN ' stable' ELSE ' volatile' END,
    CASE WHEN p.prosecdef THEN ' security definer' ELSE '' END,
    coalesce(' set ' || pg_catalog.array_to_string(p.proconfig, ', '), ''), pg_catalog.md5(p.prosrc))
  FROM functions AS f JOIN pg_catalog.pg_proc AS p ON p.oid = f.oid JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
  UNION ALL
  SELECT pg_catalog.format('grant %s ON %s TO %s', pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type),
    r.name, g.name)
  FROM relations AS r
  JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
  CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
  JOIN grantees AS g ON g.oid = a.grantee
  GROUP BY r.name, g.name
  UNION ALL
  SELECT pg_catalog.format('grant %s ON %s TO %s',
    pg_catalog.string_agg(pg_catalog.format('%s (%s)', a.privilege_type, at.attname), ', ' ORDER BY a.privilege_type),
    r.name, g.name)
  FROM relations AS r
  JOIN pg_catalog.pg_attribute AS at ON at.attrelid = r.oid AND at.attnum > 0
  CROSS JOIN LATERAL pg_catalog.aclexplode(at.attacl) AS a
  JOIN grantees AS g ON g.oid = a.grantee
  GROUP BY r.name, at.attname, g.name
  UNION ALL
  SELECT pg_catalog.format('grant %s ON FUNCTION %s TO %s', a.privilege_type, f.name, g.name)
  FROM functions AS f
  JOIN pg_catalog.pg_proc AS p ON p.oid = f.oid
  CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a
  JOIN grantees AS g ON g.oid = a.grantee
  UNION ALL
  SELECT pg_catalog.format('grant %s ON SCHEMA %s TO %s', a.privilege_type, n.nspname, g.name)
  FROM pg_catalog.pg_namespace AS n
  CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
  JOIN grantees AS g ON g.oid = a.grantee
  WHERE n.nspname = 'nudge'
  UNION ALL
  SELECT pg_catalog.format('comment on %s: %s', r.name, pg_catalog.obj_description(r.oid, 'pg_class'))
  FROM relations AS r WHERE pg_catalog.obj_description(r.oid, 'pg_class') IS NOT NULL
  UNION ALL
  SELECT pg_catalog.format('comment on %s.%s: %s', r.name, a.attname, pg_catalog.col_description(a.attrelid, a.attnum))
  FROM relations AS r JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
  WHERE pg_catalog.col_description(a.attrelid, a.attnum) IS NOT NULL
  UNION ALL
  SELECT pg_catalog.format('comment on %s: %s', f.name, pg_catalog.obj_description(f.oid, 'pg_proc'))
  FROM functions AS f WHERE pg_catalog.obj_description(f.oid, 'pg_proc') IS NOT NULL
  UNION ALL
  SELECT pg_catalog.format('partition nudge.%s: %s', c.relname, what)
  FROM nudge.partitions AS p
  JOIN pg_catalog.pg_class AS c ON c.relname = p.name AND c.relnamespace = 'nudge'::regnamespace
  CROSS JOIN LATERAL (
    SELECT 'no row security' WHERE NOT c.relrowsecurity
    UNION ALL
    SELECT pg_catalog.format('grant %s TO %s', a.privilege_type, g.name)
    FROM pg_catalog.aclexplode(c.relacl) AS a JOIN grantees AS g ON g.oid = a.grantee
    UNION ALL
    SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid)
    WHERE pg_catalog.pg_get_expr(c.relpartbound, c.oid) <> pg_catalog.format('FOR VALUES FROM (%L) TO (%L)',
      nudge.first_id(p.month::timestamp AT TIME ZONE 'UTC'),
      nudge.first_id((p.month + interval '1 month') AT TIME ZONE 'UTC'))
  ) AS wrong (what)
  UNION ALL
  -- Something else in our schema that is no partition.
  SELECT pg_catalog.format('partition %s of another table', c.oid::regclass)
  FROM pg_catalog.pg_class AS c
  WHERE c.relispartition AND c.relkind IN ('r', 'p') AND c.relnamespace = 'nudge'::regnamespace
    AND NOT EXISTS (SELECT FROM nudge.partitions AS p WHERE p.name = c.relname)
) AS lines (line)
ORDER BY line COLLATE "C"
