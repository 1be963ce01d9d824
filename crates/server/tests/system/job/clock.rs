//! A clock that jumps, under a real process: Debian's libfaketime tells it another time, which is read from a file.

use std::path::{Path, PathBuf};

use super::fresh::{Rows, compare, now};
use super::{JOB, Town, adds_up, person, processed, start_slow_run, wait_for};
use crate::support::{eventually, finish, number};

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is not here; please install: faketime")
}

/// Tells the processes that read the file another time.
fn jump(file: &Path, by: &str) {
    // As a whole, for it is read at any time.
    let next = file.with_extension("next");
    std::fs::write(&next, by).unwrap();
    std::fs::rename(&next, file).unwrap();
}

#[test]
fn a_clock_that_jumps_costs_nobody_their_turn() {
    let town = Town::new(500).overridden(&[99]);
    let (conn, keys) = (town.conn(), town.keys());
    let time = town.folder.path().join("time");
    jump(&time, "+0");
    let mut command = town.folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", &time)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let since = now();
    let mut server = town.folder.start_command(&mut command);
    let id = start_slow_run(&server.client(), &keys.service);
    wait_for(&conn, 30);
    // The lease is over from one moment to the next; the run goes on under the next term.
    jump(&time, "+2h");
    wait_for(&conn, 120);
    let resumed = "SELECT metadata ->> '$.totals.resumed' FROM archetype_job_logs";
    assert!(number(&conn, resumed, []) >= 1, "the lease of before the jump is over");
    // Back: what is renewed from now on ends sooner than what was.
    jump(&time, "-3h");
    let from = processed(&conn);
    wait_for(&conn, from + 60);
    // Killed with a lease of the next year: the next server does not wait for it.
    jump(&time, "+400d");
    let from = processed(&conn);
    wait_for(&conn, from + 30);
    server.kill();
    assert!(processed(&conn) < town.everybody(), "it was too quick");
    let ends = "SELECT expires_at > strftime('%Y-%m-%d', 'now', '+300 days') FROM nudge_job_leases";
    assert_eq!(number(&conn, ends, []), 1, "the lease is one of the next year");

    let right = town.folder.start(&["serve"]);
    eventually("the run goes on and ends", || {
        let run = right.client().get(&format!("{JOB}?jobId={id}"), Some(&keys.service)).unwrap();
        (run.body["status"] == "completed").then_some(())
    });
    let rows = || number(&conn, "SELECT count(*) FROM user_archetypes", []);
    adds_up(&town.folder.run(&["job", "status", &id, "--json"]).json(), town.everybody(), rows());
    // Archetypes of the next year are not what a nightly run leaves: the next one takes them for old.
    let ahead =
        "SELECT count(*) FROM user_archetypes WHERE computed_at > strftime('%Y-%m-%d', 'now', '+300 days')";
    assert!(number(&conn, ahead, []) > 0);
    let mut tomorrow = town.folder.command(&["job", "run", "--json", "--data-dir", "data"]);
    finish(tomorrow.env("LD_PRELOAD", library()).env("FAKETIME", "+24h"), None).good();
    assert_eq!(number(&conn, ahead, []), 0);
    town.folder.run(&["job", "run", "--all", "--json"]).good();
    compare(&Rows::of_file(&conn), since, &[99].map(person), &[]);
}
