//! Lists for people: every row once, in order, however they are paged, and the sessions that were ended.

use crate::support::*;
use jiff::SignedDuration;
use nudge_engine::{Archetype, TransactionType};
use nudge_store::browse::SEARCH_WINDOW;
use nudge_store::*;
use uuid::Uuid;

/// Decision number `n`, every third of ann's, every fifth by another rule.
fn numbered(n: u64) -> DecisionRow {
    let who = (!n.is_multiple_of(7)).then_some(if n.is_multiple_of(3) { "ann" } else { "eve" });
    let rule = if n.is_multiple_of(5) { "flexible_swap" } else { "average_medium" };
    DecisionRow { rule: rule.into(), ..decision(n, who, TransactionType::Crash) }
}

async fn many(engine: Engine, count: u64) -> Fixture {
    let f = Fixture::new(engine).await;
    for n in 1..=count {
        f.store.record_decision(numbered(n)).await.unwrap();
    }
    f
}

/// Reads every page of a search and gives the numbers of the decisions.
async fn all(f: &Fixture, search: DecisionSearch) -> Vec<u64> {
    let mut search = search;
    let mut numbers = Vec::new();
    loop {
        let page = f.store.find_decisions(search.clone()).await.unwrap();
        assert!(page.rows.len() <= search.limit);
        numbers.extend(page.rows.iter().map(|row| row.id.as_u64_pair().1 & 0xffff_ffff));
        match page.next {
            Some(next) => search.before = Some(next),
            None => return numbers,
        }
    }
}

async fn a_search_gives_every_decision_once_newest_first_whatever_the_page(engine: Engine) {
    let f = many(engine, 40).await;
    let expected = |wanted: &dyn Fn(u64) -> bool| (1..=40).rev().filter(|n| wanted(*n)).collect::<Vec<u64>>();
    let anns = |n: u64| n.is_multiple_of(3) && !n.is_multiple_of(7);
    for limit in [1, 7, 39, 40, 41] {
        let search = DecisionSearch { limit, ..DecisionSearch::default() };
        assert_eq!(all(&f, search.clone()).await, expected(&|_| true), "{limit}");
        let of_ann = DecisionSearch { user: Some(user("ann")), ..search.clone() };
        assert_eq!(all(&f, of_ann.clone()).await, expected(&anns), "{limit}");
        let rule = Some("flexible_swap".to_owned());
        let by_rule = DecisionSearch { rule: rule.clone(), ..search.clone() };
        assert_eq!(all(&f, by_rule).await, expected(&|n| n.is_multiple_of(5)), "{limit}");
        let both = DecisionSearch { rule, ..of_ann };
        assert_eq!(all(&f, both).await, expected(&|n| n.is_multiple_of(5) && anns(n)), "{limit}");
        let nobody = DecisionSearch { user: Some(user("nobody")), ..search.clone() };
        assert_eq!(all(&f, nobody).await, [] as [u64; 0]);
    }
}

async fn a_search_by_time_is_one_of_ids(engine: Engine) {
    let f = many(engine, 30).await;
    // The time in the id of decision n is n milliseconds after that of 0.
    let at = |n: i64| {
        let millis = i64::try_from(id(0).as_u64_pair().0 >> 16).unwrap() + n;
        jiff::Timestamp::from_millisecond(millis).unwrap()
    };
    for (since, until, expected) in [
        (Some(10), Some(20), 10..=19),
        (None, Some(5), 1..=4),
        (Some(28), None, 28..=30),
        (Some(12), Some(13), 12..=12),
    ] {
        let search = DecisionSearch {
            since: since.map(at),
            until: until.map(at),
            limit: 4,
            ..DecisionSearch::default()
        };
        assert_eq!(all(&f, search).await, expected.rev().collect::<Vec<u64>>());
    }
}

async fn a_listed_decision_says_what_came_of_it(engine: Engine) {
    let f = many(engine, 3).await;
    let event = |kind, transaction_type| OutcomeEvent {
        recommendation_id: id(3),
        kind,
        transaction_type,
        time_to_decision_seconds: None,
        nps_score: (kind == EventKind::Nps).then_some(9),
        occurred_at: None,
    };
    let events = vec![
        event(EventKind::Submitted, Some(TransactionType::Crash)),
        event(EventKind::Accepted, None),
        event(EventKind::Nps, None),
    ];
    f.store.record_outcomes(OutcomeReporter::Service, events, at("2026-03-01T12:00:09Z")).await.unwrap();
    let search = DecisionSearch { limit: 2, ..DecisionSearch::default() };
    let page = f.store.find_decisions(search).await.unwrap();
    let whole = f.store.decision(id(3)).await.unwrap().unwrap();
    let listed = &page.rows[0];
    assert_eq!(listed.outcome, whole.outcome);
    assert_eq!(listed.outcome.request_accepted, Some(true));
    assert_eq!(
        (&listed.user_id, listed.primary, &listed.rule, listed.created_at, listed.target_date),
        (&whole.row.user_id, whole.row.primary, &whole.row.rule, whole.row.created_at, whole.row.target_date)
    );
    assert_eq!(page.rows[1].outcome, Outcome::default());
}

async fn a_search_by_rule_says_how_far_it_has_looked(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.store.record_decision(DecisionRow { rule: "flexible_swap".into(), ..numbered(1) }).await.unwrap();
    let columns = "(id, user_id, target_date, primary_recommendation, archetype_type, archetype_confidence,
        days_until_checkin, urgency_level, rule, policy, personalized, propensity, confidence, response_time_ms,
        created_at, options, context)";
    let values = "'eve', '2026-03-15', 'crash', 'average_user', 0.5, 1, 'LOW', 'new_user', 'p'";
    let window = SEARCH_WINDOW;
    let sqlite = format!(
        "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n <= {window})
         INSERT INTO recommendation_logs {columns}
         SELECT printf('0198%04x-%04x-7000-8000-%012x', n / 65536, n % 65536, n), {values}, 1, 1, 1, 1,
           '2026-03-01T12:00:00.000000Z', '[]', '{{}}'
         FROM n"
    );
    let postgres = format!(
        "INSERT INTO recommendation_logs {columns}
         SELECT ('0198' || lpad(to_hex(n / 65536), 4, '0') || '-' || lpad(to_hex(n % 65536), 4, '0') || '-7000-8000-'
           || lpad(to_hex(n), 12, '0'))::uuid, {values}, true, 1, 1, 1, '2026-03-01T12:00:00Z', '[]', '{{}}'
         FROM generate_series(2, {window} + 1) AS n"
    );
    f.sql(&sqlite, &postgres).await.unwrap();
    let rule =
        |rule: &str| DecisionSearch { rule: Some(rule.to_owned()), limit: 10, ..DecisionSearch::default() };
    let looked = f.store.find_decisions(rule("flexible_swap")).await.unwrap();
    assert_eq!((looked.rows.len(), looked.window_ended), (0, true));
    assert_eq!(looked.next, Some(id(2)), "the last one that it looked at");
    let rest = f
        .store
        .find_decisions(DecisionSearch { before: looked.next, ..rule("flexible_swap") })
        .await
        .unwrap();
    assert_eq!((rest.rows.len(), rest.next, rest.window_ended), (1, None, false));
    let full = f.store.find_decisions(rule("new_user")).await.unwrap();
    assert_eq!(
        (full.rows.len(), full.window_ended),
        (10, false),
        "a page that is full is no end of a window"
    );
}

async fn archetypes_are_listed_by_user_and_by_what_they_are(engine: Engine) {
    let f = Fixture::new(engine).await;
    for n in 0..20 {
        let archetype = Archetype::ALL[n % 3];
        f.compute(&format!("user-{n:02}"), archetype).await;
    }
    for n in [4, 9] {
        let change = ArchetypeChange::Override {
            archetype: Archetype::BigSpender,
            reason: "because".into(),
            expires_at: (n == 4).then(|| at("2026-04-01T00:00:00Z")),
            computed: computed(Archetype::AverageUser),
        };
        let id = user(&format!("user-{n:02}"));
        f.store.change_archetype(id, change, admin(), at("2026-03-01T12:00:01Z")).await.unwrap();
    }
    let pages = async |filter, limit| {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = f.store.list_archetypes(filter, after.as_ref(), limit).await.unwrap();
            let Some(last) = page.last() else { return found };
            after = Some(last.user_id.clone());
            found.extend(page);
        }
    };
    for limit in [1, 6, 50] {
        let everybody = pages(ArchetypeFilter::All, limit).await;
        assert_eq!(everybody.len(), 20);
        assert!(everybody.is_sorted_by(|a, b| a.user_id < b.user_id));
        let swappers = pages(ArchetypeFilter::Of(Archetype::HighFlexibility), limit).await;
        assert!(swappers.iter().all(|row| row.archetype == Archetype::HighFlexibility));
        assert_eq!(swappers.len(), 6, "one of seven was overridden");
        let overridden = pages(ArchetypeFilter::Overridden, limit).await;
        let ends = overridden.iter().map(|row| (row.user_id.as_str(), row.override_expires_at));
        let expected = [("user-04", Some(at("2026-04-01T00:00:00Z"))), ("user-09", None)];
        assert_eq!(ends.collect::<Vec<_>>(), expected);
        assert!(overridden.iter().all(|row| row.overridden && row.confidence.total_cmp(&1.0).is_eq()));
    }
    assert_eq!(f.store.count_overridden().await.unwrap(), 2);
    let steps = f.store.archetype_confidences().await.unwrap();
    let counted: Vec<_> = steps.iter().map(|s| (s.archetype, s.step, s.count)).collect();
    let expected = [
        (Archetype::AverageUser, 13, 6),
        (Archetype::BigSpender, 13, 6),
        (Archetype::BigSpender, 20, 2),
        (Archetype::HighFlexibility, 13, 6),
    ];
    assert_eq!(counted, expected);
    assert!((steps[0].sum - 6.0 * 0.67).abs() < 1e-9, "{steps:?}");
}

async fn audit_entries_are_listed_newest_first_also_of_one_user(engine: Engine) {
    let f = Fixture::new(engine).await;
    for n in 0..9 {
        let change = ArchetypeChange::Override {
            archetype: Archetype::BigSpender,
            reason: format!("reason {n}"),
            expires_at: None,
            computed: computed(Archetype::AverageUser),
        };
        let id = user(["ann", "bob"][n % 2]);
        f.store.change_archetype(id, change, admin(), at("2026-03-01T12:00:00Z")).await.unwrap();
    }
    let first = f.store.audit_entries(None, None, 4).await.unwrap();
    assert_eq!(first.iter().map(|entry| entry.id).collect::<Vec<_>>(), [9, 8, 7, 6]);
    assert_eq!(Some(first[0].hash.clone()), f.store.audit_head().await.unwrap());
    let newest = &first[0];
    assert_eq!((newest.admin_id.as_str(), newest.actor_role.as_str()), ("root", "admin"));
    assert_eq!(
        (newest.action.as_str(), newest.target_user_id.as_deref()),
        ("override_archetype", Some("ann"))
    );
    assert_eq!(
        (newest.metadata["reason"].as_str(), newest.ip_address.as_deref()),
        (Some("reason 8"), Some("::1"))
    );
    let rest = f.store.audit_entries(None, Some(6), 50).await.unwrap();
    assert_eq!(rest.iter().map(|entry| entry.id).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    let of_bob = f.store.audit_entries(Some(&user("bob")), Some(8), 2).await.unwrap();
    assert_eq!(of_bob.iter().map(|entry| entry.id).collect::<Vec<_>>(), [6, 4]);
    assert_eq!(f.store.audit_entries(Some(&user("eve")), None, 9).await.unwrap(), []);
}

async fn an_ended_session_has_ended_for_every_server_until_it_expires(engine: Engine) {
    let f = Fixture::new(engine).await;
    let other = f.reopen().await;
    let (first, second) = (Uuid::from_u128(1 << 76), Uuid::from_u128(2 << 76));
    let now = at("2026-03-01T12:00:00Z");
    let soon = now + SignedDuration::from_mins(5);
    for _ in 0..2 {
        f.store.end_session(first, soon, now).await.unwrap();
    }
    assert!(other.session_has_ended(first).await.unwrap());
    assert!(!other.session_has_ended(second).await.unwrap());
    // The next one to end takes away what has expired.
    let later = soon + SignedDuration::from_secs(1);
    other.end_session(second, later + SignedDuration::from_hours(1), later).await.unwrap();
    assert!(!f.store.session_has_ended(first).await.unwrap());
    assert!(f.store.session_has_ended(second).await.unwrap());
}

on_both!(
    a_search_gives_every_decision_once_newest_first_whatever_the_page,
    a_search_by_time_is_one_of_ids,
    a_listed_decision_says_what_came_of_it,
    a_search_by_rule_says_how_far_it_has_looked,
    archetypes_are_listed_by_user_and_by_what_they_are,
    audit_entries_are_listed_newest_first_also_of_one_user,
    an_ended_session_has_ended_for_every_server_until_it_expires,
);
