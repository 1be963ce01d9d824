//! One story, told to every engine: the same calls in the same order, and the same answers to each of them. PostgreSQL
//! hears it twice, the second time as behind a transaction pooler, where every statement is sent whole.

use std::fmt::Write as _;

use crate::support::*;
use nudge_engine::Archetype::{AverageUser, BigSpender, HighFlexibility};
use nudge_engine::{RequestStatus, TransactionType};
use nudge_store::*;

const NOW: &str = "2026-03-01T13:00:00Z";

/// What was asked and what was answered, in order.
#[derive(Default)]
struct Told(String);

impl Told {
    fn add(&mut self, answer: &impl std::fmt::Debug) {
        writeln!(self.0, "{answer:?}").unwrap();
    }
}

fn outcome(n: u64, kind: EventKind, transaction_type: Option<TransactionType>) -> OutcomeEvent {
    OutcomeEvent {
        recommendation_id: id(n),
        kind,
        transaction_type,
        time_to_decision_seconds: None,
        nps_score: None,
        occurred_at: Some(at("2026-03-01T12:30:00Z")),
    }
}

async fn facts(f: &Fixture, told: &mut Told) {
    let people = ["ann", "bob", "eve", "Zoe", "a-b", "a_b", "A"];
    let mut rows: Vec<FactRow> = people.iter().map(|id| profile(id, None, None)).collect();
    for (lease, members) in [("home", ["ann", "bob"]), ("Home", ["ann", "eve"]), ("cottage", ["bob", "A"])] {
        rows.push(FactRow::Lease(LeaseRow { id: entity(lease), name: Some("…".into()), created_at: None }));
        rows.extend(members.map(|id| member(lease, id)));
        rows.extend(["03-13", "03-14", "03-15"].map(|d| night(lease, &format!("2026-{d}"), members[0])));
    }
    rows.extend((0..30).map(|n| {
        let status =
            [RequestStatus::Pending, RequestStatus::Accepted, RequestStatus::Cancelled][n as usize % 3];
        let pair = [("ann", "bob"), ("bob", "ann"), ("eve", "ann")][n as usize % 3];
        FactRow::DateChangeRequest(DateChangeRequestRow {
            status,
            responded_at: (n % 2 == 0).then(|| at("2026-02-20T10:00:00.000001Z")),
            base_price_cents: (n % 4 != 0).then_some(10_001 + i64::from(n)),
            ..request(n, pair.0, pair.1)
        })
    }));
    told.add(&f.facts(rows.clone()).await);
    told.add(&f.facts(rows).await);
    let same_twice = [profile("twin", Some(ProfileRole::Admin), None), profile("twin", None, Some(true))];
    told.add(&f.facts(same_twice).await);
    let there_and_away = vec![
        FactChange::Upsert(member("home", "guest")),
        FactChange::Delete(FactKey::LeaseMember(entity("home"), user("guest"))),
        FactChange::Delete(FactKey::Profile(user("A"))),
        FactChange::Delete(FactKey::Profile(user("A"))),
    ];
    told.add(&f.store.apply_facts(there_and_away, at(NOW)).await.unwrap());
    for id in people.iter().chain(&["twin", "nobody"]) {
        told.add(&f.person(id).await);
        told.add(&f.store.leases_of(&user(id)).await.unwrap());
    }
    told.add(&f.store.people_after(None, 100).await.unwrap());
    told.add(&f.store.people_after(Some(&user("a-b")), 2).await.unwrap());
    for leases in [vec!["home"], vec!["Home", "home"], vec!["cottage", "home"], vec!["none"], vec![]] {
        let shared: Vec<_> = leases.into_iter().map(entity).collect();
        for date in ["2026-03-15", "2026-03-16", "1970-01-01", "9999-12-31"] {
            let query = NightQuery {
                requester: &user("ann"),
                shared_leases: &shared,
                target_date: day(date),
                today: day("2026-03-01"),
                swap_window_days: 7,
            };
            told.add(&f.store.load_night(&query).await.unwrap());
        }
    }
}

async fn archetypes(f: &Fixture, told: &mut Told) {
    for (id, archetype) in
        [("ann", BigSpender), ("bob", AverageUser), ("twin", BigSpender), ("nobody", AverageUser)]
    {
        told.add(&f.compute(id, archetype).await);
    }
    let mut many = Vec::new();
    for id in ["eve", "ann", "eve", "twin"] {
        many.push((user(id), computed(HighFlexibility), f.person(id).await.version));
    }
    told.add(&f.store.save_archetypes(many).await.unwrap());
    let version = f.person("eve").await.version;
    let changes = [
        ArchetypeChange::Override {
            archetype: HighFlexibility,
            reason: "ä \"reason\"\nof two lines".into(),
            expires_at: Some(at("2026-04-01T00:00:00Z")),
            computed: computed(BigSpender),
        },
        ArchetypeChange::Recalculate { computed: Some(computed(BigSpender)), version: version.clone() },
        ArchetypeChange::Reset { computed: None, version: version.clone() },
        ArchetypeChange::Reset { computed: None, version: f.person("eve").await.version },
    ];
    for change in changes {
        for id in ["eve", "twin"] {
            told.add(&f.store.change_archetype(user(id), change.clone(), admin(), at(NOW)).await.unwrap());
        }
    }
    told.add(&f.store.archetype_counts().await.unwrap());
    told.add(&f.store.audit_head().await.unwrap());
    told.add(&f.store.verify_audit(None).await.unwrap());
    told.add(&f.store.changes_since(0).await.unwrap());
}

async fn decisions(f: &Fixture, told: &mut Told) {
    use EventKind::{Accepted, Cancelled, Selected, Submitted, Viewed};
    for n in 1..6 {
        let primary = TransactionType::ALL[n as usize % 3];
        let who = ["ann", "bob"].get(n as usize % 3).copied();
        told.add(&f.store.record_decision(decision(n, who, primary)).await.is_ok());
    }
    let bad = DecisionRow {
        rule: "x".into(),
        days_until_checkin: -1,
        ..decision(9, Some("ann"), TransactionType::Crash)
    };
    told.add(
        &f.store
            .replay_decisions(vec![bad, decision(1, Some("bob"), TransactionType::Swap)])
            .await
            .map(|answers| answers.iter().map(Result::is_ok).collect::<Vec<_>>())
            .unwrap(),
    );
    let swap = Some(TransactionType::Swap);
    for events in [
        vec![outcome(1, Viewed, None), outcome(4, Selected, swap)],
        vec![outcome(1, Accepted, None), outcome(1, Submitted, swap)],
        vec![outcome(1, Submitted, Some(TransactionType::Crash))],
        vec![outcome(1, Viewed, None), outcome(77, Viewed, None)],
        vec![outcome(4, Cancelled, None), outcome(4, Cancelled, None)],
    ] {
        let recorded = f.store.record_outcomes(OutcomeReporter::Service, events.clone(), at(NOW)).await;
        told.add(&recorded.map_err(|error| error.to_string()));
        let recorded = f.store.record_outcomes(OutcomeReporter::User(user("bob")), events, at(NOW)).await;
        told.add(&recorded.map_err(|error| error.to_string()));
    }
    let naming = DateChangeRequestRow { recommendation_id: Some(id(4)), ..request(90, "bob", "ann") };
    told.add(&f.facts([FactRow::DateChangeRequest(naming)]).await);
    for n in 1..6 {
        let stored = f.store.decision(id(n)).await.unwrap();
        told.add(&stored.map(|stored| (normal(&stored.row), stored.outcome, stored.events)));
    }
}

async fn rows(f: &Fixture, told: &mut Told) {
    let callers =
        [Caller::Anonymous, Caller::User(user("ann")), Caller::User(user("nobody")), Caller::Service];
    for caller in callers {
        told.add(&f.store.grade(&caller).await.unwrap());
        for table in rights::exposed_tables().chain(["pg_class", "stale_users"]) {
            let query = ReadQuery { table: table.to_owned(), ..ReadQuery::default() };
            let answer = f.store.read_as(&caller, &query).await;
            let rows: Result<Vec<serde_json::Map<_, _>>, _> =
                answer.map(|answer| serde_json::from_slice(&answer.body).unwrap());
            // How values are written has tests of its own; here it is which rows there are.
            let keys = |row: &serde_json::Map<String, serde_json::Value>| {
                ["id", "user_id", "lease_id", "recommendation_id", "event"].map(|key| row.get(key).cloned())
            };
            told.add(&rows.map(|rows| rows.iter().map(keys).collect::<Vec<_>>()).map_err(|e| e.to_string()));
        }
    }
}

pub async fn tell(f: &Fixture) -> String {
    let mut told = Told::default();
    facts(f, &mut told).await;
    archetypes(f, &mut told).await;
    decisions(f, &mut told).await;
    rows(f, &mut told).await;
    told.0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_gives_the_same_answers() {
    let file = tell(&Fixture::sqlite(|_| {})).await;
    let server = tell(&Fixture::postgres(|_| {}).await).await;
    let pooled = tell(&Fixture::postgres(|options| options.dsn.pooler = Some(true)).await).await;
    for other in [&server, &pooled] {
        for (n, (one, other)) in file.lines().zip(other.lines()).enumerate() {
            assert_eq!(one, other, "answer {n}");
        }
        assert_eq!(file.lines().count(), other.lines().count());
    }
}
