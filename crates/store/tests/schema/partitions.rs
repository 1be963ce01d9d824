//! Partitions: a month and a table each, made and dropped without holding anybody up.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use crate::support::*;

#[tokio::test]
async fn this_month_and_three_ahead_are_there_from_the_start() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    assert!(owner.column("SELECT parent FROM nudge.missing_partitions()").await.is_empty());
    let missing = owner.rows("SELECT parent, month FROM nudge.missing_partitions(4)").await;
    assert_eq!(missing.len(), PARTITIONED.len(), "{missing:?}");
    for parent in PARTITIONED {
        let ahead = owner
            .one(&format!(
                "SELECT count(*) FROM nudge.partitions WHERE parent = '{parent}'
                   AND month >= date_trunc('month', now() AT TIME ZONE 'UTC')"
            ))
            .await;
        assert_eq!(ahead, "4", "{parent}");
    }
}

#[tokio::test]
async fn a_row_of_a_month_without_partition_is_refused_until_it_is_made() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    // 2019, of which a migration makes nothing.
    let late = decision(1, "ann").replace("01a1c554", "01683b55");
    let refused = owner.refused(&late).await;
    assert_eq!(refused.code, SqlState::CHECK_VIOLATION);
    assert!(refused.message.contains("no partition of relation"), "{refused:?}");
    assert_eq!(owner.one("SELECT nudge.make_partition('recommendation_logs', '2019-01-11')").await, "t");
    owner.run(&late).await;
    let place = owner.one("SELECT tableoid::regclass FROM public.recommendation_logs").await;
    assert_eq!(place, "nudge.recommendation_logs_2019_01");
    assert_eq!(owner.one("SELECT nudge.make_partition('recommendation_logs', '2019-01-31')").await, "f");
}

#[tokio::test]
async fn bounds_are_the_months_of_utc_in_any_time_zone() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        owner.run(&format!("SET TimeZone = '{zone}'")).await;
        for parent in PARTITIONED {
            owner.run(&format!("SELECT nudge.make_partition('{parent}', '2030-01-01')")).await;
            owner.run(&format!("SELECT nudge.make_partition('{parent}', '2030-02-28')")).await;
        }
        let bounds = owner
            .column(
                "SELECT DISTINCT pg_get_expr(c.relpartbound, c.oid) FROM pg_class AS c
                 WHERE c.relname ~ '_2030_0[12]$' AND c.relispartition ORDER BY 1",
            )
            .await;
        // 1893456000000 ms, 1896134400000 ms, 1898553600000 ms.
        assert_eq!(
            bounds,
            [
                "FOR VALUES FROM ('01b8dac5-b400-0000-0000-000000000000') TO ('01b97a6a-d800-0000-0000-000000000000')",
                "FOR VALUES FROM ('01b97a6a-d800-0000-0000-000000000000') TO ('01ba0a9c-e800-0000-0000-000000000000')",
            ]
        );
        for parent in PARTITIONED {
            owner.run(&format!("SELECT nudge.drop_partition('{parent}', '2030-01-31')")).await;
            owner.run(&format!("SELECT nudge.drop_partition('{parent}', '2030-02-01')")).await;
        }
    }
    // The last millisecond of January and the first of February.
    for parent in ["2030-01-01", "2030-02-01"] {
        owner.run(&format!("SELECT nudge.make_partition('recommendation_logs', '{parent}')")).await;
    }
    for (id, month) in [
        ("01b97a6a-d7ff-7fff-bfff-ffffffffffff", "nudge.recommendation_logs_2030_01"),
        ("01b97a6a-d800-7000-8000-000000000000", "nudge.recommendation_logs_2030_02"),
    ] {
        owner.run(&decision(1, "ann").replace(&crate::support::id(1), id)).await;
        let place = owner
            .one(&format!("SELECT tableoid::regclass FROM public.recommendation_logs WHERE id = '{id}'"))
            .await;
        assert_eq!(place, month);
    }
}

#[tokio::test]
async fn months_far_away_are_made_and_impossible_ones_refused() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    for month in ["1970-01-01", "9999-12-31"] {
        for parent in PARTITIONED {
            assert_eq!(owner.one(&format!("SELECT nudge.make_partition('{parent}', '{month}')")).await, "t");
        }
    }
    for arguments in [
        "'recommendation_logs', '1969-12-31'",
        "'recommendation_logs', '10000-01-01'",
        "'recommendation_logs', NULL",
        "NULL, '2030-01-01'",
        "'profiles', '2030-01-01'",
        "'recommendation_logs; DROP TABLE public.profiles', '2030-01-01'",
    ] {
        let refused = owner.refused(&format!("SELECT nudge.make_partition({arguments})")).await;
        assert_eq!(refused.code, SqlState::INVALID_PARAMETER_VALUE, "{arguments}");
    }
    for arguments in ["'recommendation_logs', '1969-12-31'", "'profiles', '2030-01-01'", "NULL, NULL"] {
        assert_eq!(owner.one(&format!("SELECT nudge.drop_partition({arguments})")).await, "f");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_make_a_month_one_does() {
    let database = std::sync::Arc::new(Database::migrated().await);
    let mut servers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let database = std::sync::Arc::clone(&database);
        servers.spawn(async move {
            let client = database.owner().await;
            let mut made = 0;
            for month in ["2031-01-01", "2031-02-01", "2031-03-01"] {
                let sql = format!("SELECT nudge.make_partition('recommendation_events', '{month}')");
                // As the service does: a lock that was not to be had is asked for again.
                loop {
                    match client.simple_query(&sql).await {
                        Ok(_) => break,
                        Err(error) => {
                            assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{}", tell(&error))
                        }
                    }
                }
                made += 1;
            }
            made
        });
    }
    while let Some(made) = servers.join_next().await {
        assert_eq!(made.unwrap(), 3);
    }
    let owner = database.owner().await;
    assert_eq!(owner.one("SELECT count(*) FROM nudge.partitions WHERE name LIKE '%_2031_%'").await, "3");
}

#[tokio::test]
async fn a_month_is_made_while_others_read_and_write() {
    let database = Database::migrated().await;
    let (reader, writer, owner) = (database.owner().await, database.owner().await, database.owner().await);
    reader.run("BEGIN; SELECT * FROM public.recommendation_logs").await;
    writer.run(&format!("BEGIN; {}", decision(1, "ann"))).await;
    assert_eq!(owner.one("SELECT nudge.make_partition('recommendation_logs', '2032-01-01')").await, "t");
    reader.run("COMMIT").await;
    writer.run("COMMIT").await;
}

#[tokio::test]
async fn a_drop_gives_up_after_a_tenth_of_a_second() {
    let database = Database::migrated().await;
    let (reader, owner) = (database.owner().await, database.owner().await);
    owner.run("SELECT nudge.make_partition('recommendation_logs', '2020-01-01')").await;
    reader.run("BEGIN; SELECT * FROM public.recommendation_logs").await;
    let begun = Instant::now();
    let refused = owner.refused("SELECT nudge.drop_partition('recommendation_logs', '2020-01-01')").await;
    let took = begun.elapsed();
    assert_eq!(refused.code, SqlState::LOCK_NOT_AVAILABLE);
    assert!(took >= Duration::from_millis(100), "{took:?}");
    reader.run("COMMIT").await;
    assert_eq!(owner.one("SELECT nudge.drop_partition('recommendation_logs', '2020-01-01')").await, "t");
    assert_eq!(owner.one("SELECT to_regclass('nudge.recommendation_logs_2020_01')").await, "∅");
    // The caller's own setting is as it was.
    assert_eq!(owner.one("SHOW lock_timeout").await, "0");
}

#[tokio::test]
async fn there_is_no_default_partition_and_none_in_public() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let strays = owner
        .column(
            "SELECT c.oid::regclass FROM pg_class AS c WHERE c.relispartition AND c.relkind IN ('r', 'p')
               AND (c.relnamespace <> 'nudge'::regnamespace OR pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT')",
        )
        .await;
    assert!(strays.is_empty(), "{strays:?}");
}

#[tokio::test]
async fn an_event_lies_beside_its_decision_however_late_it_comes() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let late = event(1, "ann").replace(DAY, "2031-05-05T00:00:00Z");
    owner.run(&(decision(1, "ann") + &late)).await;
    let places = owner
        .column(
            "SELECT tableoid::regclass::text FROM public.recommendation_logs
             UNION ALL SELECT tableoid::regclass::text FROM public.recommendation_events ORDER BY 1",
        )
        .await;
    assert_eq!(places, ["nudge.recommendation_events_2026_11", "nudge.recommendation_logs_2026_11"]);
}

#[tokio::test]
async fn a_table_in_the_way_is_not_taken_for_a_partition() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run("CREATE TABLE nudge.recommendation_logs_2033_01 (n integer)").await;
    let refused = owner.refused("SELECT nudge.make_partition('recommendation_logs', '2033-01-01')").await;
    assert_eq!(refused.code, SqlState::DUPLICATE_TABLE);
}

#[tokio::test]
async fn keys_are_such_that_the_tables_of_users_can_be_distributed_by_user() {
    // Citus: every unique key has to contain the column that rows are distributed by.
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let others = owner
        .column(
            "SELECT i.indexrelid::regclass FROM pg_index AS i
             WHERE i.indisunique AND i.indrelid = ANY (ARRAY['public.user_archetypes', 'public.recommendation_logs',
                 'public.recommendation_events']::regclass[])
               AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attname = 'user_id'
                 AND a.attnum = ANY (i.indkey))",
        )
        .await;
    assert!(others.is_empty(), "{others:?}");
}
