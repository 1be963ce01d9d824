-- 5.1
-- Check RLS is enabled
SELECT schemaname, tablename, rowsecurity
FROM pg_tables
WHERE tablename LIKE '%archetype%';

-- List policies
SELECT schemaname, tablename, policyname, permissive, roles, cmd
FROM pg_policies
WHERE tablename LIKE '%archetype%';

-- 7.2
-- Check archetype distribution
SELECT
  archetype_type,
  COUNT(*) as user_count,
  AVG(confidence) as avg_confidence
FROM user_archetypes
GROUP BY archetype_type;

-- Should see reasonable distribution:
-- big_spender: ~15-20%
-- high_flexibility: ~20-25%
-- average_user: ~55-65%

-- 10.1
-- Check API usage
SELECT
  DATE_TRUNC('hour', created_at) as hour,
  COUNT(*) as request_count,
  AVG(CASE WHEN followed_recommendation THEN 1 ELSE 0 END) as follow_rate
FROM recommendation_logs
WHERE created_at >= NOW() - INTERVAL '24 hours'
GROUP BY hour
ORDER BY hour;

-- Check error rates
SELECT
  function_name,
  COUNT(*) as error_count,
  AVG(response_time_ms) as avg_latency
FROM edge_function_logs
WHERE status >= 400
  AND created_at >= NOW() - INTERVAL '24 hours'
GROUP BY function_name;

-- Check archetype distribution
SELECT
  archetype_type,
  COUNT(*) as count
FROM user_archetypes
GROUP BY archetype_type;
