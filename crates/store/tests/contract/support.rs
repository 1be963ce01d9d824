//! A store on either engine, and short ways to write facts and decisions down.

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, EntityId, Policy, RequestStatus, Signals, TransactionType, UserId};
use nudge_store::*;
use uuid::Uuid;

use crate::postgres::TestDatabase;

/// What keeps the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Runs tests, functions of an engine, on both.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_both;

pub struct Fixture {
    pub store: Store,
    place: Place,
}

enum Place {
    /// The folder goes away with it.
    Sqlite(#[expect(dead_code, reason = "kept for its end")] tempfile::TempDir, StoreOptions),
    Postgres(TestDatabase),
}

impl Fixture {
    pub async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::sqlite(|_| {}),
            Engine::Postgres => Self::postgres(|_| {}).await,
        }
    }

    pub fn sqlite(adjust: impl FnOnce(&mut StoreOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
        adjust(&mut options);
        Self { store: Store::open(options.clone()).unwrap(), place: Place::Sqlite(folder, options) }
    }

    pub async fn postgres(adjust: impl FnOnce(&mut PostgresOptions)) -> Self {
        let database = TestDatabase::new().await;
        // The month that the ids of tests fall into.
        let months = "SELECT nudge.make_partition(v.parent, '2025-07-01')
          FROM unnest('{recommendation_logs, recommendation_events, edge_function_logs}'::text[]) AS v (parent)";
        database.owner().await.batch_execute(months).await.unwrap();
        let mut options =
            PostgresOptions { readers: 2, calls: 4, ..PostgresOptions::new(database.url().parse().unwrap()) };
        options.dsn.pooler = Some(false);
        adjust(&mut options);
        Self { store: Store::connect(options).await.unwrap(), place: Place::Postgres(database) }
    }

    /// The options of the file.
    pub fn file(&self) -> &StoreOptions {
        let Place::Sqlite(_, options) = &self.place else { panic!("it is no file") };
        options
    }

    pub fn database(&self) -> &TestDatabase {
        let Place::Postgres(database) = &self.place else { panic!("it is a file") };
        database
    }

    /// A connection to the file beside the store, as another process has one.
    pub fn raw(&self) -> rusqlite::Connection {
        let conn = rusqlite::Connection::open(&self.file().path).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        conn
    }

    /// Runs statements beside the store, those of the engine.
    pub async fn sql(&self, sqlite: &str, postgres: &str) -> Result<(), String> {
        match &self.place {
            Place::Sqlite(..) => self.raw().execute_batch(sqlite).map_err(|error| error.to_string()),
            Place::Postgres(database) => {
                let owner = database.owner().await;
                owner.batch_execute(postgres).await.map_err(|error| format!("{error:?}"))
            }
        }
    }

    /// Opens the same database once more.
    pub async fn reopen(&self) -> Store {
        match &self.place {
            Place::Sqlite(_, options) => Store::open_existing(options.clone()).unwrap(),
            Place::Postgres(database) => {
                Store::connect(PostgresOptions::of_a_command(database.url().parse().unwrap())).await.unwrap()
            }
        }
    }

    /// Keeps every writer from committing until it is released.
    pub async fn lock(&self) -> Lock {
        match &self.place {
            Place::Sqlite(..) => {
                let raw = self.raw();
                raw.execute_batch("BEGIN IMMEDIATE").unwrap();
                Lock::Sqlite(raw)
            }
            Place::Postgres(database) => {
                let owner = database.owner().await;
                let lock = "BEGIN; LOCK TABLE recommendation_logs IN EXCLUSIVE MODE";
                owner.batch_execute(lock).await.unwrap();
                Lock::Postgres(owner)
            }
        }
    }

    /// The database's clock.
    pub async fn now(&self) -> Timestamp {
        match &self.place {
            Place::Sqlite(..) => {
                let now = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
                at(&self.raw().query_row(now, [], |row| row.get::<_, String>(0)).unwrap())
            }
            Place::Postgres(database) => {
                let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
                at(database.owner().await.query_one(now, &[]).await.unwrap().get(0))
            }
        }
    }

    pub async fn facts(&self, rows: impl IntoIterator<Item = FactRow>) -> FactsApplied {
        let changes = rows.into_iter().map(FactChange::Upsert).collect();
        self.store.apply_facts(changes, at("2026-03-01T12:00:00Z")).await.unwrap()
    }

    pub async fn person(&self, id: &str) -> PersonFacts {
        self.store.load_person(&user(id), WithRequests::Always, 50, 10).await.unwrap()
    }

    /// Reads what a person's archetype needs and stores one, as the service does.
    pub async fn compute(&self, id: &str, archetype: Archetype) -> ArchetypeSaved {
        let version = self.person(id).await.version;
        self.store.save_archetype(user(id), computed(archetype), version).await.unwrap()
    }
}

/// A lock that another process holds.
pub enum Lock {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
}

impl Lock {
    pub async fn release(self) {
        match self {
            Self::Sqlite(raw) => raw.execute_batch("ROLLBACK").unwrap(),
            Self::Postgres(owner) => owner.batch_execute("ROLLBACK").await.unwrap(),
        }
    }
}

/// Makes JSON text comparable: one engine keeps it as it is, the other as values.
pub fn normal(row: &DecisionRow) -> DecisionRow {
    let normal = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
    DecisionRow { options: normal(&row.options), context: normal(&row.context), ..row.clone() }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn day(text: &str) -> Date {
    text.parse().unwrap()
}

pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub fn entity(id: &str) -> EntityId {
    EntityId::parse(id).unwrap()
}

/// The id of decision number `n`.
pub fn id(n: u64) -> Uuid {
    Uuid::from_u64_pair(0x0198_0000_0000_7000 + (n << 16), 0x8000_0000_0000_0000 + n)
}

pub fn admin() -> Actor {
    Actor { id: "root".into(), role: "admin".into(), ip_address: Some("::1".into()), user_agent: None }
}

pub fn decision(n: u64, user_id: Option<&str>, primary: TransactionType) -> DecisionRow {
    DecisionRow {
        id: id(n),
        user_id: user_id.map(user),
        roommate_id: user_id.map(|_| user("bob")),
        lease_id: user_id.map(|_| entity("home")),
        target_date: day("2026-03-15"),
        primary,
        archetype: Archetype::AverageUser,
        archetype_confidence: 0.62,
        days_until_checkin: 14,
        urgency_level: "MEDIUM".into(),
        options: r#"[{"type":"buyout"}]"#.into(),
        context: r#"{"night":{}}"#.into(),
        rule: "average_medium".into(),
        policy: "rules-v1".into(),
        personalized: user_id.is_some(),
        propensity: 1.0,
        confidence: 0.7,
        session_id: None,
        user_agent: Some("test".into()),
        response_time_ms: 3,
        created_at: at("2026-03-01T12:00:00.123456Z"),
    }
}

pub fn computed(archetype: Archetype) -> ComputedArchetype {
    ComputedArchetype {
        archetype,
        confidence: 0.666,
        signals: Signals::no_data(&Policy::default()),
        reasoning: vec!["because".into()],
        scores: serde_json::json!({"big_spender": 30.0}),
        policy: "rules-v1".into(),
        computed_at: at("2026-03-01T12:00:00Z"),
    }
}

pub fn request(n: u32, from: &str, to: &str) -> DateChangeRequestRow {
    DateChangeRequestRow {
        id: entity(&format!("request-{n:04}")),
        lease_id: Some(entity("home")),
        requester_id: user(from),
        receiver_id: user(to),
        transaction_type: TransactionType::Buyout,
        target_night: day("2026-03-15"),
        offered_night: None,
        proposed_price_cents: Some(12_345),
        base_price_cents: Some(10_001),
        status: RequestStatus::Pending,
        recommendation_id: None,
        created_at: at("2026-02-01T00:00:00Z") + jiff::SignedDuration::from_hours(i64::from(n)),
        responded_at: None,
    }
}

pub fn profile(id: &str, role: Option<ProfileRole>, opted_out: Option<bool>) -> FactRow {
    FactRow::Profile(ProfileRow {
        id: user(id),
        role,
        personalization_opt_out: opted_out,
        created_at: Some(at("2026-01-01T00:00:00Z")),
    })
}

pub fn member(lease: &str, id: &str) -> FactRow {
    FactRow::LeaseMember(LeaseMemberRow { lease_id: entity(lease), user_id: user(id) })
}

pub fn night(lease: &str, date: &str, held_by: &str) -> FactRow {
    FactRow::LeaseNight(LeaseNightRow {
        lease_id: entity(lease),
        night: day(date),
        held_by: Some(user(held_by)),
        base_price_cents: 14_999,
        demand_ten_thousandths: Some(12_345),
    })
}
