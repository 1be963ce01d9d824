//! On a file: kills, a frozen process, a stop, rows that cannot be used.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use super::fresh::{Rows, compare, now};
use super::{JOB, Town, adds_up, expire, person, processed, start_slow_run, wait_for};
use crate::support::{Random, eventually, finish, number, texts};

/// Goes on with the run here, to its end.
fn finished(town: &Town) -> Value {
    town.folder.run(&["job", "run", "--all", "--json"]).json()
}

fn rows(town: &Town) -> i64 {
    number(&town.conn(), "SELECT count(*) FROM user_archetypes", [])
}

/// Checks a run that was just killed: what the row says is what the rows say.
fn is_whole(town: &Town, since: Timestamp) {
    let conn = town.conn();
    let [cursor, totals] = ["cursor", "metadata -> '$.totals'"].map(|column| {
        texts(&conn, &format!("SELECT coalesce({column}, '') FROM archetype_job_logs")).remove(0)
    });
    let totals: Value = serde_json::from_str(&totals).unwrap();
    let of = |name: &str| totals[name].as_i64().unwrap_or_default();
    assert_eq!(of("processed"), processed(&conn));
    let done = number(
        &conn,
        "SELECT count(*) FROM user_archetypes WHERE computed_at >= ?1 AND is_manual_override = 0 AND user_id <= ?2",
        [since.to_string(), cursor.clone()],
    );
    assert_eq!(of("processed"), done + of("overrideSkipped") + of("optedOut"), "{cursor}: {totals}");
    let beyond = "SELECT count(*) FROM user_archetypes WHERE is_manual_override = 0 AND user_id > ?1";
    assert_eq!(number(&conn, beyond, [&cursor]), 0, "behind the cursor: {cursor}");
}

#[test]
fn twenty_kills_do_not_keep_a_run_from_being_whole() {
    let town = Town::new(700).overridden(&[3, 500]);
    let conn = town.conn();
    let since = now();
    let mut random = Random(8);
    for round in 0..20 {
        let from = processed(&conn);
        let goal = from + i64::try_from(1 + random.below(30)).unwrap();
        let polls = random.below(60);
        let reached = || {
            wait_for(&conn, goal);
            // Anywhere in the batch that follows.
            (0..polls).for_each(|_| assert!(processed(&conn) >= goal));
        };
        if round % 5 == 4 {
            let mut server = town.folder.start(&["serve"]);
            if from == 0 {
                start_slow_run(&server.client(), &town.keys().service);
            }
            reached();
            server.kill();
        } else {
            let mut command = town.folder.command(&["job", "run", "--all", "--batch-size", "1"]);
            let mut child = command.args(["--data-dir", "data"]).spawn().unwrap();
            if round > 0 || random.below(2) == 0 {
                reached();
            } else {
                eventually("a run", || {
                    (number(&conn, "SELECT count(*) FROM archetype_job_logs", []) == 1).then_some(())
                });
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(number(&conn, "SELECT count(*) FROM archetype_job_logs WHERE status = 'running'", []), 1);
        is_whole(&town, since);
        expire(&conn);
    }
    let run = finished(&town);
    // A process that is killed before it has the lease has taken nothing up.
    let resumed = run["metadata"]["totals"]["resumed"].as_i64().unwrap();
    assert!((10..=20).contains(&resumed), "{run}");
    adds_up(&run, town.everybody(), rows(&town));
    compare(&Rows::of_file(&conn), since, &[3, 500].map(person), &[]);
}

#[test]
fn a_server_that_is_told_to_stop_gives_its_run_to_the_next_one_at_once() {
    let town = Town::new(600).overridden(&[42]);
    let (conn, keys) = (town.conn(), town.keys());
    let since = now();
    let mut server = town.folder.start(&["serve"]);
    let id = start_slow_run(&server.client(), &keys.service);
    wait_for(&conn, 20);
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    let row = "SELECT status || ' ' || (cursor IS NOT NULL) || ' ' || error_message FROM archetype_job_logs";
    assert_eq!(texts(&conn, row), ["interrupted 1 the process was asked to stop"]);
    is_whole(&town, since);
    let free = "SELECT count(*) FROM nudge_job_leases WHERE holder IS NULL AND run_id IS NOT NULL
      AND expires_at <= strftime('%Y-%m-%dT%H:%M:%f999Z', 'now')";
    assert_eq!(number(&conn, free, []), 1, "given back");

    let next = town.folder.start(&["serve"]);
    let path = format!("{JOB}?jobId={id}");
    eventually("the run goes on and ends", || {
        let run = next.client().get(&path, Some(&keys.service)).unwrap();
        (run.body["status"] == "completed").then_some(())
    });
    let run = town.folder.run(&["job", "status", &id, "--json"]).json();
    adds_up(&run, town.everybody(), rows(&town));
    compare(&Rows::of_file(&conn), since, &[42].map(person), &[]);
}

#[test]
fn a_process_that_was_frozen_past_its_lease_writes_nothing_more() {
    let town = Town::new(500).overridden(&[250]);
    let (conn, keys) = (town.conn(), town.keys());
    let since = now();
    let frozen = town.folder.start(&["serve"]);
    let id = start_slow_run(&frozen.client(), &keys.service);
    wait_for(&conn, 10);
    // Between two batches: inside one it would hold every writer, as any process does that has such a file locked.
    eventually("stopped between two batches", || {
        frozen.freeze();
        conn.busy_timeout(Duration::from_millis(20)).unwrap();
        let free = conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        conn.busy_timeout(crate::support::PATIENCE).unwrap();
        if !free {
            frozen.signal(Signal::CONT);
        }
        free.then_some(())
    });
    let stopped_at = processed(&conn);
    assert!(stopped_at < town.everybody(), "it was too quick");
    let over = "SELECT expires_at < strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') FROM nudge_job_leases";
    eventually("its lease is over", || (number(&conn, over, []) == 1).then_some(()));
    let run = town.folder.run(&["job", "status", &id, "--json"]).printed();
    assert_eq!(run["status"], "interrupted", "{run}");
    assert_eq!(processed(&conn), stopped_at);
    let run = finished(&town);
    adds_up(&run, town.everybody(), rows(&town));
    let before = texts(&conn, "SELECT user_id || updated_at FROM user_archetypes ORDER BY user_id");
    frozen.signal(Signal::CONT);
    eventually("the zombie sees that it is one", || frozen.log().contains("job.lease_lost").then_some(()));
    assert_eq!(texts(&conn, "SELECT user_id || updated_at FROM user_archetypes ORDER BY user_id"), before);
    assert_eq!(frozen.client().get("/health/ready", None).unwrap().status, 200, "it serves on");
    compare(&Rows::of_file(&conn), since, &[250].map(person), &[]);
}

#[test]
fn one_user_of_ten_thousand_whose_rows_cannot_be_used_fails_alone() {
    let town = Town::new(10_000).overridden(&[77]);
    let (conn, since) = (town.conn(), now());
    let poison =
        "UPDATE date_change_requests SET created_at = '1 is no time, but 27 chars.' WHERE id = 'r-005000-1'";
    conn.execute("UPDATE date_change_requests SET responded_at = NULL WHERE id = 'r-005000-1'", []).unwrap();
    conn.execute(poison, []).unwrap();
    let run = finished(&town);
    adds_up(&run, town.everybody(), rows(&town));
    assert_eq!(run["failed"], 1, "{run}");
    let failure = &run["metadata"]["result"]["failures"][0];
    assert_eq!((&failure["userId"], &failure["attempts"]), (&person(5_000).into(), &3.into()), "{run}");
    assert!(failure["reason"].as_str().unwrap().contains("date_change_requests"), "{failure}");
    let told = finish(town.folder.command(&["job", "history"]).args(["--data-dir", "data"]), None).good();
    assert!(told.contains(&person(5_000)) && told.contains("1 failed"), "{told}");
    compare(&Rows::of_file(&conn), since, &[77].map(person), &[person(5_000)]);
}
