//! What has been answered is on disk, whatever happens to the process or the database.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{Askers, Load, Promises};
use crate::support::{Folder, Keys, Random, number};

const CLIENTS: u64 = 24;

#[test]
fn twenty_kills_under_load_lose_nothing_that_was_answered() {
    let folder = Folder::with_people(40);
    let askers = Askers::of(&folder);
    let mut random = Random(2026);
    let mut all = Promises::default();
    for round in 0..20 {
        let mut server = folder.start(&["serve"]);
        // In every fourth round the database is locked, so that what is killed has its promises in the spool.
        let locked = round % 4 == 3;
        let lock = folder.database();
        if locked {
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        let load = Load::start(&server, &folder, &askers, CLIENTS, round);
        load.wait_for(1 + random.below(if locked { 150 } else { 300 }));
        load.server_ends();
        server.kill();
        let promised = load.finish();
        if locked {
            lock.execute_batch("ROLLBACK").unwrap();
        }
        drop(lock);

        let server = folder.start(&["serve"]);
        server.drained();
        promised.kept(&folder.database());
        if locked {
            let replayed = server.metric("nudge_decisions_replayed_total");
            assert!(replayed >= promised.answered.len() as f64, "{replayed} rows came back from the spool");
        }
        all.answered.extend(promised.answered);
        all.outcomes.extend(promised.outcomes);
    }
    // Later kills have not taken away what earlier ones left.
    all.kept(&folder.database());
    assert!(all.answered.len() > 500, "{} answers are no load", all.answered.len());
    assert!(all.outcomes.len() > 100, "{} outcomes are no load", all.outcomes.len());
    let whole = folder.database().query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(whole.unwrap(), "ok");
}

#[test]
fn a_locked_database_costs_no_answer_and_no_row() {
    let folder = Folder::with_people(40);
    let askers = Askers::of(&folder);
    let keys = Keys::of(&folder);
    let server = folder.start(&["serve"]);
    let lock = folder.database();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let load = Load::start(&server, &folder, &askers, CLIENTS, 77);
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(3) {
        load.wait_for(10);
    }

    let client = server.client();
    let health = client.get("/health/ready", None).unwrap();
    assert!(health.body["spoolDepth"].as_u64().unwrap() > 0, "{}", health.text);
    let body =
        json!({ "userId": "user-000001", "archetypeType": "big_spender", "reason": "while it is locked" });
    let refused = client.put("/functions/v1/user-archetype", &keys.service, &body).unwrap();
    assert_eq!((refused.status, refused.retry_after.is_some()), (503, true), "{}", refused.text);

    lock.execute_batch("ROLLBACK").unwrap();
    // Back to normal under the same load: outcomes are taken again.
    server.drained();
    load.wait_for(100);
    let promised = load.finish();
    server.drained();
    let conn = folder.database();
    promised.kept(&conn);
    assert!(promised.outcomes.len() > 10, "outcomes are taken once the lock is gone");
    let overridden = number(&conn, "SELECT count(*) FROM user_archetypes WHERE is_manual_override = 1", []);
    assert_eq!(overridden, 0, "what was refused has changed something");
    assert!(server.metric("nudge_decisions_spooled_total") > 0.0);
    assert_eq!(number(&conn, "SELECT count(*) FROM admin_audit_log", []), 0, "nothing was done");
}
