//! Decisions while the database cannot take them, or cannot be read.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    ARCHETYPE, As, DATE, Harness, INGEST, Lock, OUTCOMES, RECOMMENDATIONS, eventually, facts,
};

const DRAIN: Duration = Duration::from_secs(20);

fn impatient() -> Harness {
    let server = Harness::with(&[("NUDGE_COMMIT_TIMEOUT_MS", "50")]);
    server.seed(facts::home());
    server.usual(); // Both archetypes are stored now.
    server
}

/// Lets writers in again, but no decision about a night of April.
fn refuse_april(held: Lock) {
    held.release_after(
        "CREATE TRIGGER no_april BEFORE INSERT ON recommendation_logs WHEN NEW.target_date = '2026-04-20'
         BEGIN SELECT raise(ABORT, 'not in April'); END",
        "CREATE FUNCTION public.no_april() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not in April'; END $$;
         CREATE TRIGGER no_april BEFORE INSERT ON recommendation_logs FOR EACH ROW
           WHEN (NEW.target_date = '2026-04-20') EXECUTE FUNCTION public.no_april()",
    );
}

fn spool_depth(server: &Harness) -> i64 {
    server.get(As::Nobody, "/health/ready").json()["spoolDepth"].as_i64().unwrap()
}

fn is_recorded_once(server: &Harness, id: &str) -> bool {
    server.count(&format!("SELECT count(*) FROM recommendation_logs WHERE id = '{id}'")) == 1
}

fn id(answer: &Value) -> String {
    answer["recommendationId"].as_str().unwrap().to_owned()
}

#[test]
fn answers_go_on_while_the_database_is_locked_and_each_is_recorded_once() {
    let server = impatient();
    let held = server.lock();
    let mut ids: Vec<String> = (0..30).map(|_| id(&server.usual())).collect();
    ids.push(id(&server.recommend(As::Anon, "x", DATE, "y").ok()));
    assert_eq!(spool_depth(&server), 31);
    assert!(server.metric("nudge_spool_depth") > 0);
    assert_eq!(server.metric("nudge_recorder_away"), 1);
    assert!(ids.iter().all(|id| server.decision(id).is_none()), "the lock is real");
    drop(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    assert!(ids.iter().all(|id| is_recorded_once(&server, id)));
    assert_eq!(server.count("SELECT count(*) FROM recommendation_logs"), 32);
    let direct = id(&server.usual());
    eventually(DRAIN, "and the database is used again", || is_recorded_once(&server, &direct));
    assert_eq!(server.metric("nudge_recorder_away"), 0);
    // Whatever the engine calls the order in which rows came in.
    let in_order = if server.is_embedded() { "rowid" } else { "ctid" };
    let stored = server.rows(&format!("SELECT id FROM recommendation_logs ORDER BY {in_order}"));
    let stored: Vec<String> = stored.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    // The first of them may have waited for its commit and come in late; the rest are replayed in order.
    let replayed: Vec<_> = stored.iter().filter(|id| ids[1..].contains(id)).cloned().collect();
    assert_eq!(replayed, ids[1..]);
}

#[test]
fn what_needs_the_database_is_503_while_it_is_locked_and_changes_nothing() {
    let server = impatient();
    let held = server.lock();
    let spooled = id(&server.usual());
    let before = server.contents();
    let outcome = json!({ "recommendationId": spooled, "event": "viewed" });
    let fact = facts::insert(
        "date_change_requests",
        facts::request("r", "alice", "bob", json!({ "recommendation_id": spooled })),
    );
    let change = json!({ "userId": "alice", "archetypeType": "high_flexibility", "reason": "a test" });
    for answer in [
        server.post(As::User("alice"), OUTCOMES, &outcome),
        server.post(As::Service, INGEST, &fact),
        server.post(As::Service, INGEST, &facts::profile("zoe", "member", false)),
        server.put(As::Service, ARCHETYPE, &change),
        server.post(As::Service, ARCHETYPE, &json!({ "userId": "alice" })),
    ] {
        answer.refused(503, "unavailable");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    server.archetype(As::User("alice"), "alice").ok();
    server.contents().are_still(&before, "what should change nothing");
    drop(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    assert_eq!(server.post(As::User("alice"), OUTCOMES, &outcome).ok()["recorded"], 1);
    server.post(As::Service, INGEST, &fact).ok();
    server.put(As::Service, ARCHETYPE, &change).ok();
}

#[test]
fn a_commit_that_comes_late_and_went_to_the_spool_too_stays_once() {
    let server = Harness::with(&[("NUDGE_COMMIT_TIMEOUT_MS", "1")]);
    server.seed(facts::home());
    let ids: Vec<String> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..10).map(|_| id(&server.usual())).collect::<Vec<_>>()))
            .collect();
        asks.into_iter().flat_map(|ask| ask.join().unwrap()).collect()
    });
    assert!(server.app.recorder.stats().spooled > 0, "a millisecond is too short for some");
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    eventually(DRAIN, "all are there", || server.count("SELECT count(*) FROM recommendation_logs") == 80);
    assert!(ids.iter().all(|id| is_recorded_once(&server, id)));
}

#[test]
fn when_neither_can_take_a_decision_no_answer_leaves() {
    let server = impatient();
    let before = server.count("SELECT count(*) FROM recommendation_logs");
    let held = server.lock();
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let mut answered = 0;
    let mut ids = Vec::new();
    let refused = loop {
        let answer = server.get(As::User("alice"), &target);
        if answer.status != 200 {
            break answer;
        }
        ids.push(id(&answer.json()));
        answered += 1;
        assert!(answered < 5_000, "a mebibyte does not hold that many");
    };
    refused.refused(503, "not_recorded");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(answered > 100, "{answered}");
    server.get(As::User("alice"), &target).refused(503, "not_recorded");
    drop(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    // The two that were refused may have come in late. Nobody has seen them.
    let there = server.count("SELECT count(*) FROM recommendation_logs") - before;
    assert!((answered..=answered + 2).contains(&there), "{there} of {answered}");
    assert!(ids.iter().all(|id| is_recorded_once(&server, id)));
    server.usual();
}

#[test]
fn what_was_spooled_survives_a_restart() {
    let mut server = impatient();
    let held = server.lock();
    let ids: Vec<String> = (0..5).map(|_| id(&server.usual())).collect();
    server.ask_to_stop();
    server.wait_for_end();
    drop(held);
    // A server of a database may still commit what it was told before, once nobody holds the lock any more.
    let in_spool_only = !ids.iter().all(|id| is_recorded_once(&server, id));
    assert!(in_spool_only || !server.is_embedded(), "they are in the spool only");
    server.start_again();
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    assert!(ids.iter().all(|id| is_recorded_once(&server, id)));
}

#[test]
fn a_spooled_decision_that_the_disk_has_changed_costs_no_other_one() {
    let mut server = impatient();
    let held = server.lock();
    let ids: Vec<String> = (0..6).map(|_| id(&server.usual())).collect();
    server.ask_to_stop();
    server.wait_for_end();
    let spool = server.folder().join("spool.bin");
    let mut bytes = std::fs::read(&spool).unwrap();
    // The first may be in the database, too, which took it late.
    let place = bytes.windows(36).position(|found| found == ids[2].as_bytes()).unwrap();
    bytes[place] = b'?';
    std::fs::write(&spool, bytes).unwrap();
    server.start_again();
    drop(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    let there: Vec<bool> = ids.iter().map(|id| is_recorded_once(&server, id)).collect();
    assert_eq!(there, [true, true, false, true, true, true]);
    let kept = std::fs::read(server.folder().join("spool-damaged-1.bin")).unwrap();
    assert!(String::from_utf8_lossy(&kept).contains(&ids[2][1..]), "it can be looked at");
    server.usual();
}

#[test]
fn nothing_waits_behind_a_refused_row_that_cannot_be_written_to_its_file() {
    let server = impatient();
    std::fs::create_dir(server.folder().join("spool-refused.ndjson")).unwrap();
    let held = server.lock();
    let mut ids = Vec::new();
    for date in [DATE, "2026-04-20", DATE] {
        ids.push(id(&server.recommend(As::User("alice"), "alice", date, "bob").ok()));
    }
    refuse_april(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    assert!(is_recorded_once(&server, &ids[0]) && is_recorded_once(&server, &ids[2]));
    let kept = std::fs::read(server.folder().join("spool-damaged-1.bin")).unwrap();
    assert!(String::from_utf8_lossy(&kept).contains(&ids[1]), "it is kept elsewhere");
    server.usual();
}

#[test]
fn a_row_that_the_database_refuses_for_good_is_set_aside_and_nothing_waits_behind_it() {
    let server = impatient();
    let held = server.lock();
    let mut ids = Vec::new();
    for date in [DATE, "2026-04-20", DATE, "2026-04-20", DATE] {
        ids.push(id(&server.recommend(As::User("alice"), "alice", date, "bob").ok()));
    }
    // The first waited for its commit; it may be committed before the trigger is there.
    refuse_april(held);
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    let there: Vec<bool> = ids.iter().map(|id| is_recorded_once(&server, id)).collect();
    assert_eq!(there, [true, false, true, false, true]);
    let aside = std::fs::read_to_string(server.folder().join("spool-refused.ndjson")).unwrap();
    assert_eq!(aside.lines().count(), 2);
    assert!(aside.contains(&ids[1]) && aside.contains(&ids[3]));
    assert_eq!(server.app.recorder.stats().set_aside, 2);
    server.usual();
}

/// A database whose every page reads as garbage until it is mended.
struct Broken {
    conn: rusqlite::Connection,
    files: Vec<(std::path::PathBuf, Vec<u8>)>,
}

impl Broken {
    fn now(server: &Harness) -> Self {
        let conn = server.raw();
        // A commit, so that what the server's connections have in memory counts as old.
        conn.execute("INSERT INTO leases (id, created_at) VALUES ('x', '2026-03-09T10:00:00.000000Z')", [])
            .unwrap();
        let names = ["nudge.db", "nudge.db-wal"].map(|name| server.folder().join(name));
        let files: Vec<_> = names.map(|path| (path.clone(), std::fs::read(&path).unwrap())).into();
        for (path, bytes) in &files {
            Self::write(path, &vec![0xFF; bytes.len()]);
        }
        Self { conn, files }
    }

    fn write(path: &std::path::Path, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    }

    fn mend(self) {
        for (path, bytes) in &self.files {
            Self::write(path, bytes);
        }
        self.conn.execute("DELETE FROM leases WHERE id = 'x'", []).unwrap();
    }
}

#[test]
fn a_database_that_cannot_be_read_gives_neutral_defaults_and_no_made_up_archetype() {
    // A server that is down is a test of its own, with the program.
    let server = Harness::embedded(&[("NUDGE_COMMIT_TIMEOUT_MS", "50"), ("NUDGE_SPOOL_MIB", "2")]);
    server.seed(facts::home());
    let healthy = server.usual();
    assert!(healthy["metadata"].get("degraded").is_none());
    let broken = Broken::now(&server);

    // What is in memory is used until the next look at the feed of changes fails.
    eventually(DRAIN, "nothing cached is used", || server.usual()["metadata"].get("degraded").is_some());
    let degraded = server.usual();
    assert_eq!(degraded["metadata"]["degraded"], true);
    assert_eq!(degraded["personalized"], false);
    assert_eq!(degraded["metadata"]["rule"], "new_user");
    assert_eq!(degraded["contextFactors"]["pricingSource"], "default");
    assert_eq!(
        degraded["userArchetype"],
        json!({ "type": "average_user", "confidence": 0.4, "label": "Standard User" })
    );
    assert!(degraded["contextFactors"].get("roommateArchetype").is_none());
    // Without the checks that need the data.
    let mut ids = vec![id(&degraded)];
    for (date, roommate) in [("2026-03-17", "bob"), (DATE, "dave")] {
        let answer = server.recommend(As::User("alice"), "alice", date, roommate).ok();
        assert_eq!(answer["metadata"]["degraded"], true);
        ids.push(id(&answer));
    }
    let anonymous = server.recommend(As::Anon, "alice", DATE, "bob").ok();
    assert!(anonymous["metadata"].get("degraded").is_none(), "nothing personal was wanted");
    ids.push(id(&anonymous));

    let ready = server.get(As::Nobody, "/health/ready");
    assert_eq!((ready.status, &ready.json()["database"]), (503, &json!("unavailable")));
    for answer in [
        server.archetype(As::User("alice"), "alice"),
        server.archetype(As::User("alice"), "bob"),
        server.put(
            As::User("root"),
            ARCHETYPE,
            &json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "r" }),
        ),
        server.recommend(As::User("alice"), "bob", DATE, "carol"),
        server.post(As::Service, INGEST, &facts::profile("zoe", "member", false)),
        server.post(
            As::User("alice"),
            OUTCOMES,
            &json!({ "recommendationId": id(&healthy), "event": "viewed" }),
        ),
    ] {
        answer.refused(503, "unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    // What needs no data is refused as ever: no call of the database is made for it.
    for bad in ["x,id.not.is.null", "%00", &"x".repeat(10_240)] {
        server.archetype(As::Service, bad).bad("userId");
    }
    server.recommend(As::User("alice"), "alice", "2026-02-30", "bob").bad("targetDate");

    broken.mend();
    eventually(DRAIN, "the service recovers", || {
        let answer = server.get(
            As::User("alice"),
            &format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob"),
        );
        answer.status == 200 && answer.json()["metadata"].get("degraded").is_none()
    });
    eventually(DRAIN, "the spool drains", || spool_depth(&server) == 0);
    assert!(ids.iter().all(|id| is_recorded_once(&server, id)));
    let stored = server.decision(&ids[0]).unwrap().row;
    assert!(stored.context.contains("degraded") && !stored.personalized);
    assert_eq!(server.get(As::Nobody, "/health/ready").status, 200);
}

#[test]
fn facts_that_a_query_trips_over_degrade_the_answer_and_are_not_hidden_elsewhere() {
    let server = Harness::with_home();
    server
        .sql(
            "ALTER TABLE lease_nights RENAME TO lost_nights",
            "ALTER VIEW nudge.lease_nights RENAME TO lost_nights",
        )
        .unwrap();
    let answer = server.usual();
    assert_eq!(answer["metadata"]["degraded"], true);
    assert_eq!(answer["personalized"], false);
    server
        .sql(
            "ALTER TABLE lost_nights RENAME TO lease_nights",
            "ALTER VIEW nudge.lost_nights RENAME TO lease_nights",
        )
        .unwrap();
    assert_eq!(server.usual()["personalized"], true);
}
