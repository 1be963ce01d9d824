-- Whether the callers' roles may write a column: by a grant to them or to everybody, and, where there is row security, by
-- a policy that is for them.
SELECT role.name, verb.name, t.oid::regclass::text, a.attname::text,
  pg_catalog.has_table_privilege(role.name, t.oid, verb.name) AS whole_table,
  EXISTS (SELECT FROM pg_catalog.aclexplode(t.relacl) AS g WHERE g.grantee = 0 AND g.privilege_type = verb.name) AS to_all,
  (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(o.attname), ', ' ORDER BY o.attnum)
    FROM pg_catalog.pg_attribute AS o
    WHERE o.attrelid = t.oid AND o.attnum > 0 AND NOT o.attisdropped AND o.attname <> a.attname
      AND pg_catalog.has_column_privilege(role.name, t.oid, o.attnum, verb.name)) AS others
FROM (VALUES ('anon'), ('authenticated')) AS role (name)
CROSS JOIN (VALUES ('INSERT', 'a'), ('UPDATE', 'w')) AS verb (name, letter)
CROSS JOIN pg_catalog.pg_class AS t
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attname = $2
WHERE t.oid = $1::text::regclass
  AND pg_catalog.has_column_privilege(role.name, t.oid, a.attnum, verb.name)
  AND (NOT t.relrowsecurity OR EXISTS (
    SELECT FROM pg_catalog.pg_policy AS p
    WHERE p.polrelid = t.oid AND p.polpermissive AND p.polcmd::text IN ('*', verb.letter)
      AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r (oid)
        WHERE r.oid = 0 OR pg_catalog.pg_has_role(role.name, r.oid, 'USAGE'))))
ORDER BY 1, 2
