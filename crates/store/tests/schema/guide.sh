# The deployment guide's lines for psql, as they stand.

# 1.3
psql $DATABASE_URL -c "SELECT table_name FROM information_schema.tables WHERE table_schema='public' AND table_name LIKE '%archetype%';"

# 4.3
psql $DATABASE_URL -c "SELECT * FROM archetype_job_logs ORDER BY completed_at DESC LIMIT 5;"

# 7.1
psql $DATABASE_URL -c 'SELECT COUNT(*) FROM user_archetypes;'

# rollback
psql $DATABASE_URL -c "SELECT COUNT(*) FROM user_archetypes;"
