//! Runs of the recalculation job: leases and terms, batches and what comes in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use nudge_engine::{Archetype, UserId};
use nudge_store::job::*;
use nudge_store::*;
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

on_both!(
    a_run_is_stored_with_its_cursor_and_counts,
    everybody_comes_once_and_in_order,
    stale_users_are_the_marked_the_old_and_those_whose_override_has_ended,
    a_second_run_waits_for_the_first,
    a_holder_whose_term_is_over_writes_nothing,
    a_taken_over_run_goes_on_from_its_cursor,
    cancelling_a_run_ends_its_term,
    what_people_do_with_runs_is_audited_and_nothing_else,
    what_comes_between_the_read_and_the_write_wins,
    a_user_whose_rows_cannot_be_read_fails_alone,
    a_time_of_the_schedule_is_seen_to_once,
    a_finished_run_raises_the_floor_and_an_interrupted_one_does_not,
    a_row_that_cannot_be_used_keeps_nobody_else_from_a_run,
    what_a_clock_that_was_wrong_has_left_does_not_stay,
);

const NOW: &str = "2026-03-01T12:00:00Z";

fn new_run(n: u64) -> NewRun {
    NewRun {
        id: id(n),
        holder: format!("holder-{n}"),
        cause: RunCause::Asked,
        config: json!({ "batchSize": 2 }),
        trigger: "test".to_owned(),
        actor: None,
        now: at(NOW),
    }
}

async fn started(store: &Store, n: u64) -> RunLease {
    match store.start_run(new_run(n)).await.unwrap() {
        RunStarted::Started(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Lets the lease be over, as time would.
async fn expire(f: &Fixture) {
    let sqlite = "UPDATE nudge_job_leases SET expires_at = '2020-01-01T00:00:00.000000Z'";
    let postgres = "UPDATE nudge.job_leases SET expires_at = '2020-01-01T00:00:00Z'";
    f.sql(sqlite, postgres).await.unwrap();
}

/// Reads users and gives everybody an archetype, as a runner does.
async fn worked(store: &Store, users: &[&str], archetype: Archetype) -> Vec<(UserId, Worked)> {
    let users: Vec<UserId> = users.iter().map(|name| user(name)).collect();
    let read = store.run_facts(users.clone(), 50, at(NOW)).await.unwrap();
    let work = |state: Result<PersonState, String>| match state {
        Err(reason) => Worked::Failed(reason),
        Ok(state) if state.opted_out => Worked::OptedOut,
        Ok(state) if state.overridden => Worked::Overridden,
        Ok(state) => Worked::Computed(Box::new(computed(archetype)), state.version),
    };
    users.into_iter().zip(read.into_iter().map(work)).collect()
}

fn batch(items: Vec<(UserId, Worked)>, totals: RunTotals) -> Arc<RunBatch> {
    let upto = items.last().map(|(user, _)| user.clone());
    Arc::new(RunBatch { items, upto, again: false, totals })
}

async fn save(store: &Store, lease: RunLease, items: Vec<(UserId, Worked)>, totals: RunTotals) -> RunTotals {
    let wanted = items.len();
    match store.save_run_batch(lease, batch(items, totals)).await.unwrap() {
        BatchSaved::Saved { items, totals } => {
            assert_eq!(items, wanted);
            totals
        }
        BatchSaved::LeaseLost => panic!("the lease was lost"),
    }
}

fn end_as(status: RunStatus) -> RunEnd {
    RunEnd { status, error: None, result: Some(json!({"n": 1})), computed_floor: None, now: at(NOW) }
}

async fn a_run_is_stored_with_its_cursor_and_counts(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([request(1, "ann", "bob"), request(2, "cid", "bob")].map(FactRow::DateChangeRequest)).await;
    let lease = started(&f.store, 1).await;
    let running = f.store.run(lease.run_id).await.unwrap().unwrap();
    assert_eq!((running.status, running.processed, running.cursor), (RunStatus::Running, 0, None));
    assert_eq!(running.metadata["config"], json!({ "batchSize": 2 }));

    let read = f.store.run_facts(vec![user("ann"), user("bob")], 50, at(NOW)).await.unwrap();
    let bob = read[1].as_ref().unwrap();
    let ids: Vec<&str> = bob.requests.iter().map(|request| &*request.id).collect();
    assert_eq!(ids, ["request-0002", "request-0001"], "newest first");
    assert_eq!(bob.requests, f.person("bob").await.requests.unwrap());
    assert_eq!(bob.version, f.person("bob").await.version);

    let items = worked(&f.store, &["ann", "bob"], Archetype::BigSpender).await;
    let totals = save(&f.store, lease, items, RunTotals::default()).await;
    assert_eq!((totals.processed, totals.updated, totals.failed), (2, 2, 0));
    assert_eq!(totals.moves, [Move { from: None, to: Archetype::BigSpender, count: 2 }]);
    let running = f.store.run(lease.run_id).await.unwrap().unwrap();
    assert_eq!((running.processed, running.updated, running.cursor.as_deref()), (2, 2, Some("bob")));
    assert!(running.heartbeat_at.is_some());
    assert_eq!(f.person("ann").await.version.stale_revision, None, "no longer stale");

    // Once more the same: nothing counts as updated, but the rows are fresh.
    let items = worked(&f.store, &["ann"], Archetype::BigSpender).await;
    let totals = save(&f.store, lease, items, totals).await;
    assert_eq!((totals.processed, totals.updated), (3, 2));
    let items = worked(&f.store, &["ann"], Archetype::AverageUser).await;
    let totals = save(&f.store, lease, items, totals).await;
    assert_eq!(totals.updated, 3);
    assert!(totals.moves.contains(&Move {
        from: Some(Archetype::BigSpender),
        to: Archetype::AverageUser,
        count: 1
    }));

    assert!(f.store.end_run(lease, end_as(RunStatus::Completed)).await.unwrap());
    let ended = f.store.run(lease.run_id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.duration_ms), (RunStatus::Completed, Some(0)));
    assert_eq!(ended.completed_at, Some(at(NOW)));
    assert_eq!(ended.metadata["result"], json!({"n": 1}));
    assert_eq!(f.store.job_state().await.unwrap().run_id, None);
    assert_eq!(f.store.runs(10).await.unwrap(), [ended]);
}

async fn everybody_comes_once_and_in_order(engine: Engine) {
    let f = Fixture::new(engine).await;
    let mut rows: Vec<FactRow> =
        (0..40).map(|n| FactRow::DateChangeRequest(request(n, &format!("r{:02}", n % 7), "busy"))).collect();
    rows.extend((0..9).map(|n| profile(&format!("p{n}"), None, Some(n == 3))));
    rows.push(member("home", "only-a-member"));
    f.facts(rows).await;
    let mut wanted: BTreeSet<String> = (0..7).map(|n| format!("r{n:02}")).collect();
    wanted.extend((0..9).map(|n| format!("p{n}")));
    wanted.insert("busy".to_owned());
    for limit in [1, 3, 5, 100] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = f.store.run_people(RunSelection::Everybody, after, limit).await.unwrap();
            assert!(page.users.len() <= limit as usize);
            found.extend(page.users.iter().map(ToString::to_string));
            after = page.upto;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted.iter().cloned().collect::<Vec<_>>(), "{limit}");
    }
}

async fn stale_users_are_the_marked_the_old_and_those_whose_override_has_ended(engine: Engine) {
    let f = Fixture::new(engine).await;
    for name in ["fresh", "old", "ended", "live", "marked"] {
        f.facts([profile(name, None, None)]).await;
        f.compute(name, Archetype::AverageUser).await;
    }
    f.facts([FactRow::DateChangeRequest(request(1, "marked", "asked"))]).await;
    for (name, until) in [("ended", "2026-03-01T11:00:00Z"), ("live", "2026-03-01T13:00:00Z")] {
        let set = ArchetypeChange::Override {
            archetype: Archetype::BigSpender,
            reason: "because".to_owned(),
            expires_at: Some(at(until)),
            computed: computed(Archetype::AverageUser),
        };
        f.store.change_archetype(user(name), set, admin(), at("2026-03-01T10:00:00Z")).await.unwrap();
    }
    let set = "SET computed_at = '2026-02-01T00:00:00.000000Z' WHERE user_id = 'old'";
    f.sql(&format!("UPDATE user_archetypes {set}"), &format!("UPDATE public.user_archetypes {set}"))
        .await
        .unwrap();
    let stale = async |computed_before: Option<&str>, limit| {
        let computed_before = computed_before.map(at);
        let selection = RunSelection::Stale { computed_before, now: at(NOW) };
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = f.store.run_people(selection, after, limit).await.unwrap();
            found.extend(page.users.iter().map(ToString::to_string));
            after = page.upto;
            if after.is_none() {
                return found;
            }
        }
    };
    for limit in [1, 2, 100] {
        assert_eq!(stale(None, limit).await, ["asked", "ended", "marked"]);
        assert_eq!(stale(Some("2026-02-15T00:00:00Z"), limit).await, ["asked", "ended", "marked", "old"]);
    }
    let all = stale(Some("2026-03-01T12:00:00Z"), 2).await;
    assert_eq!(all, ["asked", "ended", "fresh", "marked", "old"], "but the live override");
}

async fn a_second_run_waits_for_the_first(engine: Engine) {
    let f = Fixture::new(engine).await;
    let lease = started(&f.store, 1).await;
    assert_eq!(f.store.start_run(new_run(2)).await.unwrap(), RunStarted::Running(lease.run_id));
    assert_eq!(f.store.take_over_run("other").await.unwrap(), None, "the lease is held");
    // Also while the first is interrupted: it is to be gone on with.
    expire(&f).await;
    assert_eq!(f.store.start_run(new_run(2)).await.unwrap(), RunStarted::Running(lease.run_id));
    assert_eq!(f.store.run(id(2)).await.unwrap(), None);
    let read = f.store.run(lease.run_id).await.unwrap().unwrap();
    assert_eq!(read.status, RunStatus::Interrupted, "running with a lease that is over");
    let taken = f.store.take_over_run("other").await.unwrap().unwrap();
    assert!(f.store.end_run(taken.lease, end_as(RunStatus::Completed)).await.unwrap());
    assert!(matches!(f.store.start_run(new_run(2)).await.unwrap(), RunStarted::Started(_)));
}

async fn a_holder_whose_term_is_over_writes_nothing(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let first = started(&f.store, 1).await;
    let items = worked(&f.store, &["ann"], Archetype::BigSpender).await;
    let late = batch(items, RunTotals::default());
    // Over, and nobody has come: it may not write either, the next one may be on the way.
    expire(&f).await;
    assert_eq!(f.store.save_run_batch(first, Arc::clone(&late)).await.unwrap(), BatchSaved::LeaseLost);
    let second = f.store.take_over_run("second").await.unwrap().unwrap().lease;
    assert!(second.term > first.term);
    assert_eq!(f.store.save_run_batch(first, late).await.unwrap(), BatchSaved::LeaseLost);
    assert!(!f.store.renew_run(first).await.unwrap());
    assert!(!f.store.end_run(first, end_as(RunStatus::Failed)).await.unwrap());
    assert_eq!(f.person("ann").await.archetype, None);
    let run = f.store.run(first.run_id).await.unwrap().unwrap();
    assert_eq!((run.status, run.processed, run.cursor), (RunStatus::Running, 0, None));
    assert!(f.store.renew_run(second).await.unwrap());
}

async fn a_taken_over_run_goes_on_from_its_cursor(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let first = started(&f.store, 1).await;
    let items = worked(&f.store, &["ann"], Archetype::BigSpender).await;
    let totals = save(&f.store, first, items, RunTotals::default()).await;
    let pause = RunEnd { error: Some("shut down".to_owned()), ..end_as(RunStatus::Interrupted) };
    assert!(f.store.end_run(first, pause).await.unwrap());
    let paused = f.store.run(first.run_id).await.unwrap().unwrap();
    assert_eq!((paused.status, paused.completed_at), (RunStatus::Interrupted, None));
    assert_eq!(paused.error_message.as_deref(), Some("shut down"));

    let taken = f.store.take_over_run("second").await.unwrap().unwrap();
    assert_eq!(taken.cursor, Some(user("ann")));
    assert_eq!(taken.totals, RunTotals { resumed: 1, ..totals });
    assert_eq!(taken.config, json!({ "batchSize": 2 }));
    assert_eq!(taken.started_at, at(NOW));
    let read = f.store.run(first.run_id).await.unwrap().unwrap();
    assert_eq!((read.status, read.error_message), (RunStatus::Running, None));
}

async fn cancelling_a_run_ends_its_term(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let lease = started(&f.store, 1).await;
    let items = worked(&f.store, &["ann"], Archetype::BigSpender).await;
    assert_eq!(f.store.cancel_run(id(9), admin(), at(NOW)).await.unwrap(), RunCancelled::Unknown);
    assert_eq!(f.store.cancel_run(lease.run_id, admin(), at(NOW)).await.unwrap(), RunCancelled::Cancelled);
    let late = batch(items, RunTotals::default());
    assert_eq!(f.store.save_run_batch(lease, late).await.unwrap(), BatchSaved::LeaseLost);
    assert!(!f.store.end_run(lease, end_as(RunStatus::Completed)).await.unwrap());
    let run = f.store.run(lease.run_id).await.unwrap().unwrap();
    assert_eq!((run.status, run.completed_at), (RunStatus::Cancelled, Some(at(NOW))));
    let again = f.store.cancel_run(lease.run_id, admin(), at(NOW)).await.unwrap();
    assert_eq!(again, RunCancelled::Ended(RunStatus::Cancelled));
    assert_eq!(f.store.take_over_run("other").await.unwrap(), None);
}

async fn what_people_do_with_runs_is_audited_and_nothing_else(engine: Engine) {
    let f = Fixture::new(engine).await;
    let asked = |n| NewRun { actor: Some(admin()), ..new_run(n) };
    f.store.start_run(asked(1)).await.unwrap();
    assert_eq!(f.store.start_run(asked(2)).await.unwrap(), RunStarted::Running(id(1)));
    assert_eq!(f.store.cancel_run(id(2), admin(), at(NOW)).await.unwrap(), RunCancelled::Unknown);
    assert_eq!(f.store.cancel_run(id(1), admin(), at(NOW)).await.unwrap(), RunCancelled::Cancelled);
    f.store.cancel_run(id(1), admin(), at(NOW)).await.unwrap();
    let by_schedule = started(&f.store, 3).await;
    assert!(f.store.end_run(by_schedule, end_as(RunStatus::Completed)).await.unwrap());
    let entries = f.store.audit_entries(None, None, 9).await.unwrap();
    let told: Vec<_> = entries.iter().map(|e| (e.action.as_str(), &e.admin_id[..], &e.metadata)).collect();
    let cancelled = json!({ "jobId": id(1) });
    let begun = json!({ "jobId": id(1), "config": { "batchSize": 2 } });
    assert_eq!(told, [("cancel_job", "root", &cancelled), ("start_job", "root", &begun)]);
    assert!(f.store.verify_audit(None).await.unwrap().broken.is_none());
}

async fn what_comes_between_the_read_and_the_write_wins(engine: Engine) {
    let f = Fixture::new(engine).await;
    let people = ["early", "newer", "opted", "over"];
    f.facts(people.map(|name| FactRow::DateChangeRequest(request(name.len() as u32 * 7, name, "zoe")))).await;
    f.compute("over", Archetype::AverageUser).await;
    let lease = started(&f.store, 1).await;
    let items = worked(&f.store, &people, Archetype::HighFlexibility).await;

    f.facts([FactRow::DateChangeRequest(request(99, "newer", "zoe")), profile("opted", None, Some(true))])
        .await;
    let set = ArchetypeChange::Override {
        archetype: Archetype::BigSpender,
        reason: "because".to_owned(),
        expires_at: None,
        computed: computed(Archetype::AverageUser),
    };
    f.store.change_archetype(user("over"), set, admin(), at(NOW)).await.unwrap();

    let totals = save(&f.store, lease, items, RunTotals::default()).await;
    let counts =
        (totals.processed, totals.updated, totals.override_skipped, totals.opted_out, totals.superseded);
    assert_eq!(counts, (4, 1, 1, 1, 1));
    assert_eq!(f.person("early").await.archetype.unwrap().archetype, Archetype::HighFlexibility);
    assert_eq!(f.person("newer").await.archetype, None);
    assert!(f.person("newer").await.version.stale_revision.is_some(), "it stays stale");
    assert_eq!(f.person("opted").await.archetype, None);
    let kept = f.person("over").await.archetype.unwrap();
    assert_eq!((kept.archetype, kept.manual.is_some()), (Archetype::BigSpender, true));
    // What is in force when the facts are read is left alone at once.
    let items = worked(&f.store, &["opted", "over"], Archetype::HighFlexibility).await;
    assert_eq!(items, [(user("opted"), Worked::OptedOut), (user("over"), Worked::Overridden)]);
    let totals = save(&f.store, lease, items, totals).await;
    assert_eq!((totals.override_skipped, totals.opted_out), (2, 2));
}

async fn a_user_whose_rows_cannot_be_read_fails_alone(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts(
        ["ann", "bad", "cid"].map(|name| FactRow::DateChangeRequest(request(name.len() as u32, name, "zoe"))),
    )
    .await;
    f.facts((10..13).map(|n| FactRow::DateChangeRequest(request(n, "bad", "yan")))).await;
    f.sql(
        "UPDATE date_change_requests SET created_at = 'no time, but 27 characters.' WHERE id = 'request-0012'",
        "UPDATE date_change_requests SET created_at = 'infinity' WHERE id = 'request-0012'",
    )
    .await
    .unwrap();
    let lease = started(&f.store, 1).await;
    let items = worked(&f.store, &["ann", "bad", "cid"], Archetype::BigSpender).await;
    let kinds: Vec<bool> = items.iter().map(|(_, worked)| matches!(worked, Worked::Failed(_))).collect();
    assert_eq!(kinds, [false, true, false]);
    let totals = save(&f.store, lease, items.clone(), RunTotals::default()).await;
    assert_eq!((totals.processed, totals.updated, totals.failed), (3, 2, 1));
    let failures = f.store.run_failures(lease.run_id, 3, 10).await.unwrap();
    assert_eq!((failures.len(), failures[0].attempts, failures[0].user_id.as_str()), (1, 1, "bad"));
    assert!(!failures[0].reason.is_empty());

    // A further attempt that fails counts once; one that succeeds takes the failure back.
    let again = |items: Vec<(UserId, Worked)>, totals: RunTotals| {
        Arc::new(RunBatch { items, upto: None, again: true, totals })
    };
    let bad = worked(&f.store, &["bad"], Archetype::BigSpender).await;
    let saved = f.store.save_run_batch(lease, again(bad, totals.clone())).await.unwrap();
    assert_eq!(saved, BatchSaved::Saved { items: 1, totals: totals.clone() });
    assert_eq!(f.store.run_failures(lease.run_id, 3, 10).await.unwrap()[0].attempts, 2);
    f.sql(
        "UPDATE date_change_requests SET created_at = '2026-02-20T00:00:00.000000Z' WHERE id = 'request-0012'",
        "UPDATE date_change_requests SET created_at = '2026-02-20T00:00:00Z' WHERE id = 'request-0012'",
    )
    .await
    .unwrap();
    let good = worked(&f.store, &["bad"], Archetype::BigSpender).await;
    let saved = f.store.save_run_batch(lease, again(good, totals)).await.unwrap();
    let BatchSaved::Saved { totals, .. } = saved else { panic!("{saved:?}") };
    assert_eq!((totals.processed, totals.updated, totals.failed), (3, 3, 0));
    assert_eq!(f.store.run_failures(lease.run_id, 9, 10).await.unwrap(), []);
    assert_eq!(f.store.run(lease.run_id).await.unwrap().unwrap().cursor.as_deref(), Some("cid"), "as it was");
}

async fn a_time_of_the_schedule_is_seen_to_once(engine: Engine) {
    let f = Fixture::new(engine).await;
    assert_eq!(f.store.job_state().await.unwrap().scheduled_at, None);
    f.store.see_to_schedule(at("2026-03-01T02:00:00Z")).await.unwrap();
    let due = |n, time: &str| NewRun { cause: RunCause::Due(at(time)), ..new_run(n) };
    for time in ["2026-03-01T02:00:00Z", "2026-02-28T02:00:00Z"] {
        assert_eq!(f.store.start_run(due(1, time)).await.unwrap(), RunStarted::SeenTo);
    }
    let many: Vec<_> = (1..6).map(|n| f.store.start_run(due(n, "2026-03-02T02:00:00Z"))).collect();
    let mut begun = 0;
    for started in many {
        begun += usize::from(matches!(started.await.unwrap(), RunStarted::Started(_)));
    }
    assert_eq!(begun, 1);
    // A time that comes while a run is under way is seen to once that has ended.
    let running = f.store.start_run(due(7, "2026-03-03T02:00:00Z")).await.unwrap();
    assert!(matches!(running, RunStarted::Running(_)), "{running:?}");
    assert_eq!(f.store.job_state().await.unwrap().scheduled_at, Some(at("2026-03-02T02:00:00Z")));
}

async fn a_finished_run_raises_the_floor_and_an_interrupted_one_does_not(engine: Engine) {
    let f = Fixture::new(engine).await;
    let lease = started(&f.store, 1).await;
    let floor = async || f.store.job_state().await.unwrap().computed_floor;
    let raise = |status, to: &str| RunEnd { computed_floor: Some(at(to)), ..end_as(status) };
    let pause = end_as(RunStatus::Interrupted);
    assert!(f.store.end_run(lease, pause).await.unwrap());
    assert_eq!(floor().await, None);
    let lease = f.store.take_over_run("next").await.unwrap().unwrap().lease;
    let end = raise(RunStatus::Completed, "2026-03-01T10:00:00Z");
    assert!(f.store.end_run(lease, end).await.unwrap());
    assert_eq!(floor().await, Some(at("2026-03-01T10:00:00Z")));
    let lease = started(&f.store, 2).await;
    let lower = raise(RunStatus::Completed, "2026-02-01T10:00:00Z");
    assert!(f.store.end_run(lease, lower).await.unwrap());
    assert_eq!(floor().await, Some(at("2026-03-01T10:00:00Z")));
}

async fn a_row_that_cannot_be_used_keeps_nobody_else_from_a_run(engine: Engine) {
    let f = Fixture::new(engine).await;
    for name in ["ann", "bob", "cid"] {
        f.facts([profile(name, None, None)]).await;
        f.compute(name, Archetype::AverageUser).await;
    }
    // Written past the service: what is no id, an id in another form than its own, and times that are none.
    let capitals = "0198F000-0000-7000-8000-ABCDEFABCDEF";
    for id in ["a b", "b b b", "bob@example.com", capitals] {
        let insert = format!("INSERT INTO profiles (id, role, created_at) VALUES ('{id}', 'member',");
        f.sql(
            &format!("{insert} '2026-01-01T00:00:00.000000Z')"),
            &format!("{insert} '2026-01-01T00:00:00Z')"),
        )
        .await
        .unwrap();
    }
    let times = "SET computed_at = 'no time, but 27 characters.', updated_at = 'no time, but 27 characters.'";
    f.sql(
        &format!("UPDATE user_archetypes {times} WHERE user_id = 'bob'"),
        "UPDATE public.user_archetypes SET computed_at = 'infinity' WHERE user_id = 'bob'",
    )
    .await
    .unwrap();
    let found = async |selection, limit| {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = f.store.run_people(selection, after, limit).await.unwrap();
            found.extend(page.users.iter().map(ToString::to_string));
            after = page.upto;
            if after.is_none() {
                return found;
            }
        }
    };
    let old = RunSelection::Stale { computed_before: Some(at("2026-01-01T00:00:00Z")), now: at(NOW) };
    for limit in [1, 2, 3, 100] {
        assert_eq!(found(RunSelection::Everybody, limit).await, ["ann", "bob", "cid"], "{limit}");
        assert_eq!(found(old, limit).await, ["bob"], "{limit}");
    }
    let lease = started(&f.store, 1).await;
    let items = worked(&f.store, &["ann", "bob", "cid"], Archetype::BigSpender).await;
    let totals = save(&f.store, lease, items, RunTotals::default()).await;
    assert_eq!((totals.processed, totals.updated, totals.failed), (3, 3, 0));
    assert_eq!(f.person("bob").await.archetype.unwrap().computed_at, at(NOW), "made anew");
    assert_eq!(found(old, 100).await, Vec::<String>::new());
}

async fn what_a_clock_that_was_wrong_has_left_does_not_stay(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([profile("ann", None, None)]).await;
    f.compute("ann", Archetype::AverageUser).await;
    let lease = started(&f.store, 1).await;
    // The database's clock was a year ahead when the lease was renewed last.
    f.sql(
        "UPDATE nudge_job_leases SET expires_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+1 year')",
        "UPDATE nudge.job_leases SET expires_at = clock_timestamp() + interval '1 year'",
    )
    .await
    .unwrap();
    assert!(f.store.job_state().await.unwrap().expired);
    let taken = f.store.take_over_run("next").await.unwrap().unwrap();
    assert!(taken.lease.term > lease.term);

    // A floor of next year gives way to one of now, also to none.
    let ahead = RunEnd {
        computed_floor: Some(at("2027-03-01T10:00:00Z")),
        now: at("2027-03-01T12:00:00Z"),
        ..end_as(RunStatus::Completed)
    };
    assert!(f.store.end_run(taken.lease, ahead.clone()).await.unwrap());
    let lease = started(&f.store, 2).await;
    let right = RunEnd { computed_floor: Some(at("2026-03-01T11:00:00Z")), ..end_as(RunStatus::Completed) };
    assert!(f.store.end_run(lease, right).await.unwrap());
    let floor = f.store.job_state().await.unwrap().computed_floor;
    assert_eq!(floor, Some(at("2026-03-01T11:00:00Z")));

    // An archetype of next year is old.
    let set = "SET computed_at = '2027-03-01T12:00:00.000000Z' WHERE user_id = 'ann'";
    f.sql(&format!("UPDATE user_archetypes {set}"), &format!("UPDATE public.user_archetypes {set}"))
        .await
        .unwrap();
    let old = RunSelection::Stale { computed_before: Some(at("2026-02-01T00:00:00Z")), now: at(NOW) };
    assert_eq!(f.store.run_people(old, None, 10).await.unwrap().users, [user("ann")]);

    // So is a time of the schedule.
    f.store.see_to_schedule(at("2027-03-01T02:00:00Z")).await.unwrap();
    f.store.set_schedule_back(at("2026-03-01T02:00:00Z")).await.unwrap();
    assert_eq!(f.store.job_state().await.unwrap().scheduled_at, Some(at("2026-03-01T02:00:00Z")));
    f.store.set_schedule_back(at("2027-03-01T02:00:00Z")).await.unwrap();
    assert_eq!(
        f.store.job_state().await.unwrap().scheduled_at,
        Some(at("2026-03-01T02:00:00Z")),
        "only back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_job_requests_is_taken_once() {
    let f = Fixture::new(Engine::Postgres).await;
    let owner = f.database().owner().await;
    owner
        .batch_execute("INSERT INTO nudge.job_requests (config) VALUES ('{\"batchSize\": 7}'), ('[]')")
        .await
        .unwrap();
    let (first, config) = f.store.job_state().await.unwrap().request.unwrap();
    assert_eq!(config, json!({ "batchSize": 7 }));
    let asked = |n| NewRun { cause: RunCause::Requested(first), ..new_run(n) };
    let lease = match f.store.start_run(asked(1)).await.unwrap() {
        RunStarted::Started(lease) => lease,
        other => panic!("{other:?}"),
    };
    assert_eq!(f.store.start_run(asked(2)).await.unwrap(), RunStarted::SeenTo);
    let (second, _) = f.store.job_state().await.unwrap().request.unwrap();
    let next = NewRun { cause: RunCause::Requested(second), ..new_run(3) };
    assert_eq!(f.store.start_run(next).await.unwrap(), RunStarted::Running(lease.run_id));
    assert_eq!(f.store.job_state().await.unwrap().request, None);
    let of: Vec<Option<Uuid>> = owner
        .query("SELECT job_id FROM nudge.job_requests ORDER BY id", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(of, [Some(lease.run_id); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_holder_is_ended_by_the_next_one() {
    let f = Fixture::new(Engine::Postgres).await;
    let lease = started(&f.store, 1).await;
    // A process that was stopped in the middle of its write: the server's own limits are not what ends it here.
    let frozen = f.database().owner().await;
    let begun = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0;
         UPDATE nudge.job_leases SET expires_at = clock_timestamp() - interval '6 seconds' WHERE term = {}",
        lease.term
    );
    // What it has written is not to be seen; the lease that others see is over as well.
    let other = f.database().owner().await;
    other
        .batch_execute("UPDATE nudge.job_leases SET expires_at = clock_timestamp() - interval '6 seconds'")
        .await
        .unwrap();
    frozen.batch_execute(&begun).await.unwrap();
    assert_eq!(f.store.take_over_run("next").await.unwrap(), None, "it was in the way");
    let taken = f.store.take_over_run("next").await.unwrap().unwrap();
    assert_eq!(taken.lease.run_id, lease.run_id);
    assert!(frozen.batch_execute("COMMIT").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_requests_mark_those_of_the_time_since_the_last_run() {
    let f = Fixture::new(Engine::Postgres).await;
    assert_eq!(f.store.mark_recent(SignedDuration::ZERO).await.unwrap(), 0, "ours mark as they come");
}
