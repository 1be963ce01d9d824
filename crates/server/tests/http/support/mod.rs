//! A server in a temporary folder, a client for it, and short ways to write facts down.

pub mod client;
pub mod facts;
pub mod keypair;
pub mod logs;
pub mod receiver;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use nudge::api::App;
use nudge::auth::keys::sign;
use nudge::clock::Clock;
use nudge::config::{Config, Values};
use nudge::server::{DataDirLock, Server};
use nudge_store::{PostgresOptions, Store, StoreOptions, StoredDecision};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

pub use client::{Request, Response};

use crate::postgres::TestDatabase;

/// The time at which every server starts: a Monday.
pub const NOW: &str = "2026-03-09T10:00:00Z";
/// `NOW` in seconds since the epoch.
pub const NOW_SECS: i64 = 1_773_050_400;
/// The target date of most tests: seven days later.
pub const DATE: &str = "2026-03-16";

pub const SECRET: &str = "a secret of these tests that is long enough";
pub const PUBLISHABLE: &str = "sb_publishable_of_the_tests_1";
pub const SECRET_KEY: &str = "sb_secret_of_the_tests_00001";

pub const RECOMMENDATIONS: &str = "/functions/v1/transaction-recommendations";
pub const ARCHETYPE: &str = "/functions/v1/user-archetype";
pub const OUTCOMES: &str = "/functions/v1/recommendation-outcomes";
pub const INGEST: &str = "/functions/v1/ingest";

/// Held by every test's server; taken whole by a test that reads the process's counters.
static PROCESS: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held, never looked at")]
enum Share {
    Some(RwLockReadGuard<'static, ()>),
    All(RwLockWriteGuard<'static, ()>),
}

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As<'a> {
    Nobody,
    Anon,
    User(&'a str),
    Service,
}

/// The rows of a database, to be compared.
#[derive(PartialEq, Eq)]
pub struct Contents(Vec<String>);

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows", self.0.len())
    }
}

impl Contents {
    /// Fails with the rows that came in or went away.
    #[track_caller]
    pub fn are_still(&self, before: &Self, what: &str) {
        let new: Vec<_> = self.0.iter().filter(|line| !before.0.contains(line)).collect();
        let gone: Vec<_> = before.0.iter().filter(|line| !self.0.contains(line)).collect();
        assert!(self == before, "{what} wrote {new:#.400?}\nfor {gone:#.400?}");
    }
}

/// A running server.
pub struct Harness {
    pub app: Arc<App>,
    pub address: SocketAddr,
    pub clock: Clock,
    pub anon: String,
    pub service: String,
    folder: tempfile::TempDir,
    /// Where the rows are, if they are on a server.
    database: Option<TestDatabase>,
    flags: BTreeMap<&'static str, String>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
    share: Option<Share>,
}

impl Harness {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with other settings than the defaults.
    pub fn with(settings: &[(&'static str, &str)]) -> Self {
        let share = Share::Some(PROCESS.read().unwrap_or_else(PoisonError::into_inner));
        Self::launch(settings, share)
    }

    /// Starts a server while no other test has one, so that the process's counters are its own.
    pub fn alone(settings: &[(&'static str, &str)]) -> Self {
        let share = Share::All(PROCESS.write().unwrap_or_else(PoisonError::into_inner));
        Self::launch(settings, share)
    }

    /// Starts a server with the home that most tests are about.
    pub fn with_home() -> Self {
        let server = Self::start();
        server.seed(facts::home());
        server
    }

    /// Starts a server on the embedded engine, for a test of what only a file has.
    pub fn embedded(settings: &[(&'static str, &str)]) -> Self {
        let share = Share::Some(PROCESS.read().unwrap_or_else(PoisonError::into_inner));
        Self::launch_on(None, settings, share)
    }

    /// Starts a server on PostgreSQL, for a test that compares the engines.
    pub fn on_postgres() -> Self {
        Self::on_postgres_with(&[])
    }

    /// Starts a server on PostgreSQL, for a test of what only that has.
    pub fn on_postgres_with(settings: &[(&'static str, &str)]) -> Self {
        let share = Share::Some(PROCESS.read().unwrap_or_else(PoisonError::into_inner));
        Self::launch_on(Some(test_database()), settings, share)
    }

    fn launch(settings: &[(&'static str, &str)], share: Share) -> Self {
        Self::launch_on(database_of_engine(), settings, share)
    }

    fn launch_on(database: Option<TestDatabase>, settings: &[(&'static str, &str)], share: Share) -> Self {
        logs::capture();
        let folder = tempfile::tempdir().unwrap();
        let mut flags = BTreeMap::from([
            ("NUDGE_DATA_DIR", folder.path().display().to_string()),
            ("NUDGE_PORT", "0".to_owned()),
            ("NUDGE_SPOOL_MIB", "1".to_owned()),
            ("SUPABASE_JWT_SECRET", SECRET.to_owned()),
            ("SUPABASE_PUBLISHABLE_KEYS", json!({ "default": PUBLISHABLE }).to_string()),
            ("SUPABASE_SECRET_KEYS", json!({ "default": SECRET_KEY }).to_string()),
            // Alerts are evaluated when a test says so.
            ("NUDGE_ALERT_INTERVAL_MS", "0".to_owned()),
            // The machine that runs the tests is busy: a commit gets its time unless a test is about that.
            ("NUDGE_COMMIT_TIMEOUT_MS", "20000".to_owned()),
            // Rows that come by themselves would be in the way of tests that compare what is there before and after.
            ("NUDGE_REQUEST_LOG", "0".to_owned()),
            // Nobody is recomputed in the background unless a test is about that.
            ("NUDGE_REFRESH_AFTER_REQUESTS", "0".to_owned()),
        ]);
        if let Some(database) = &database {
            flags.insert("DATABASE_URL", format!("{}?pgbouncer=false", database.url()));
        }
        flags.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let clock = Clock::fixed(NOW.parse().unwrap());
        let (runtime, server) = boot(&flags, &clock);
        let (app, address) = (Arc::clone(&server.app), server.address());
        let (anon, service) = (server.keys.anon.clone(), server.keys.service_role.clone());
        let mut harness = Self {
            app,
            address,
            clock,
            anon,
            service,
            folder,
            database,
            flags,
            stop: None,
            serving: None,
            runtime: Some(runtime),
            share: Some(share),
        };
        harness.serve(server);
        harness
    }

    fn serve(&mut self, server: Server) {
        let (stop, stopped) = oneshot::channel();
        let serving = self.runtime().spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        (self.stop, self.serving) = (Some(stop), Some(serving));
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Asks the server to stop; it goes on with what it has taken.
    pub fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until the server has stopped.
    pub fn wait_for_end(&mut self) {
        let serving = self.serving.take().unwrap();
        self.block_on(async move { tokio::time::timeout(Duration::from_secs(30), serving).await })
            .unwrap()
            .unwrap();
    }

    /// Stops the server and starts another on the same folder.
    pub fn restart(&mut self) {
        self.ask_to_stop();
        self.wait_for_end();
        self.start_again();
    }

    /// Starts a server on the folder of one that has stopped.
    pub fn start_again(&mut self) {
        let (runtime, server) = boot(&self.flags, &self.clock);
        (self.app, self.address) = (Arc::clone(&server.app), server.address());
        self.runtime.replace(runtime).unwrap().shutdown_background();
        self.serve(server);
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn is_embedded(&self) -> bool {
        self.database.is_none()
    }

    /// The settings of another server on the same database.
    pub fn config_of_another(&self, settings: &[(&'static str, &str)]) -> Config {
        let mut flags = self.flags.clone();
        flags.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Config::from_values(Values::gather(&flags, |_| None, None).unwrap()).unwrap()
    }

    /// Another store on the same database, as another process has one.
    pub fn store_beside(&self) -> Store {
        match &self.database {
            None => Store::open_existing(StoreOptions::beside_server(self.file())).unwrap(),
            Some(database) => {
                let options = PostgresOptions::of_a_command(database.url().parse().unwrap());
                self.block_on(Store::connect(options)).unwrap()
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.folder().join("nudge.db")
    }

    /// A connection to the file beside the server's, as another process has one.
    pub fn raw(&self) -> rusqlite::Connection {
        assert!(self.database.is_none(), "the rows are in no file");
        let conn = rusqlite::Connection::open(self.file()).unwrap();
        conn.busy_timeout(Duration::from_secs(20)).unwrap();
        conn
    }

    /// Keeps every writer from committing until it is dropped.
    pub fn lock(&self) -> Lock {
        let Some(database) = &self.database else {
            let conn = self.raw();
            conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            return Lock::File(conn);
        };
        let lock = format!("BEGIN; LOCK TABLE {} IN EXCLUSIVE MODE", self.tables().join(", "));
        let runtime = current_thread();
        let owner = runtime.block_on(async {
            let owner = database.owner().await;
            owner.batch_execute(&lock).await.unwrap();
            owner
        });
        Lock::Server(owner, runtime)
    }

    /// Runs statements beside the server, those of the engine.
    pub fn sql(&self, sqlite: &str, postgres: &str) -> Result<(), String> {
        match &self.database {
            None => self.raw().execute_batch(sqlite).map_err(|error| error.to_string()),
            Some(database) => self.block_on(async {
                let owner = database.owner().await;
                owner.batch_execute(postgres).await.map_err(|error| format!("{error:?}"))
            }),
        }
    }

    /// Makes the audit log take no entry.
    pub fn break_audit_log(&self) {
        self.sql(
            "CREATE TRIGGER no_audit BEFORE INSERT ON admin_audit_log BEGIN SELECT raise(ABORT, 'no room'); END",
            "CREATE OR REPLACE FUNCTION public.no_audit() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no room'; END $$;
             CREATE TRIGGER no_audit BEFORE INSERT ON admin_audit_log FOR EACH ROW EXECUTE FUNCTION public.no_audit()",
        )
        .unwrap();
    }

    /// Gives the rows of a query that both engines understand, every value as text.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let Some(database) = &self.database else { return rows_of_file(&self.raw(), sql) };
        let messages = self.block_on(async { database.owner().await.simple_query(sql).await }).unwrap();
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.rows(sql)[0][0].as_ref().unwrap().parse().unwrap()
    }

    /// The tables that hold the service's rows, parents of partitions for all of them.
    /// The sums of reports are left out: the server moves into them in its own time what was noted before.
    fn tables(&self) -> Vec<String> {
        let names = match &self.database {
            None => {
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                 AND name <> 'nudge_schema_migrations' AND name NOT LIKE 'nudge_report_%' ORDER BY name"
            }
            Some(_) => {
                "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class AS c
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'nudge') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                   AND c.relname NOT LIKE 'report_%'
                 ORDER BY 1"
            }
        };
        self.rows(names).into_iter().map(|mut row| row.remove(0).unwrap()).collect()
    }

    /// Everything that the database holds.
    pub fn contents(&self) -> Contents {
        let lines = self.tables().into_iter().flat_map(|table| {
            let rows = self.rows(&format!("SELECT * FROM {table}"));
            rows.into_iter().map(move |row| format!("{table}: {row:?}"))
        });
        Contents(lines.collect())
    }

    pub fn decision(&self, id: &str) -> Option<StoredDecision> {
        let id: Uuid = id.parse().unwrap();
        self.block_on(self.app.store.decision(id)).unwrap()
    }

    /// Begins a request.
    pub fn request<'a>(&self, caller: As<'_>, method: &'a str, target: &str) -> Request<'a> {
        let request = Request::new(self.address, method, target);
        match caller {
            As::Nobody => request,
            As::Anon => request.header("apikey", &self.anon),
            As::User(id) => request.bearer(&self.token(id)),
            As::Service => request.bearer(&self.service),
        }
    }

    pub fn get(&self, caller: As<'_>, target: &str) -> Response {
        self.request(caller, "GET", target).send()
    }

    pub fn post(&self, caller: As<'_>, target: &str, body: &Value) -> Response {
        self.request(caller, "POST", target).json(body).send()
    }

    pub fn put(&self, caller: As<'_>, target: &str, body: &Value) -> Response {
        self.request(caller, "PUT", target).json(body).send()
    }

    pub fn delete(&self, caller: As<'_>, target: &str) -> Response {
        self.request(caller, "DELETE", target).send()
    }

    /// A user's token, good for an hour.
    pub fn token(&self, id: &str) -> String {
        token(&json!({ "role": "authenticated", "sub": id, "exp": self.clock.now().as_second() + 3_600 }))
    }

    /// Sends facts through the ingest route.
    pub fn seed(&self, changes: impl IntoIterator<Item = Value>) {
        let changes: Vec<Value> = changes.into_iter().collect();
        let answer = self.post(As::Service, INGEST, &Value::Array(changes));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn recommend(&self, caller: As<'_>, user: &str, date: &str, roommate: &str) -> Response {
        self.get(caller, &format!("{RECOMMENDATIONS}?userId={user}&targetDate={date}&roommateId={roommate}"))
    }

    /// A recommendation for alice from bob, on the night that he holds.
    pub fn usual(&self) -> Value {
        self.recommend(As::User("alice"), "alice", DATE, "bob").ok()
    }

    pub fn archetype(&self, caller: As<'_>, user: &str) -> Response {
        self.get(caller, &format!("{ARCHETYPE}?userId={user}"))
    }

    /// The value of a counter or gauge, by the beginning of its line; 0 if there is none yet.
    pub fn metric(&self, line_start: &str) -> i64 {
        let text = self.get(As::Nobody, "/metrics").text();
        let line = text.lines().find(|line| line.starts_with(line_start));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.share = None;
    }
}

/// Keeps writers out for as long as it lives.
pub enum Lock {
    File(rusqlite::Connection),
    Server(tokio_postgres::Client, Runtime),
}

impl Lock {
    /// Commits statements, those of the engine, and lets writers in.
    pub fn release_after(self, sqlite: &str, postgres: &str) {
        match &self {
            Self::File(conn) => conn.execute_batch(&format!("{sqlite}; COMMIT")).unwrap(),
            Self::Server(owner, runtime) => {
                runtime.block_on(owner.batch_execute(&format!("{postgres}; COMMIT"))).unwrap();
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Self::Server(owner, runtime) = self {
            // Nothing is open after a release: a warning then.
            runtime.block_on(owner.batch_execute("ROLLBACK")).unwrap();
        }
    }
}

fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn rows_of_file(conn: &rusqlite::Connection, sql: &str) -> Vec<Vec<Option<String>>> {
    use rusqlite::types::Value::{Blob, Integer, Null, Real, Text};
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let cell = |row: &rusqlite::Row<'_>, column| match row.get(column).unwrap() {
        Null => None,
        Integer(number) => Some(number.to_string()),
        Real(number) => Some(number.to_string()),
        Text(text) => Some(text),
        Blob(bytes) => Some(format!("{bytes:?}")),
    };
    let rows = statement.query_map([], |row| Ok((0..columns).map(|column| cell(row, column)).collect()));
    rows.unwrap().map(Result::unwrap).collect()
}

/// Makes the months in which the clock of these tests stands.
const MONTHS: &str = "SELECT nudge.make_partition(v.parent, m.month::date)
  FROM unnest('{recommendation_logs, recommendation_events, edge_function_logs}'::text[]) AS v (parent),
    generate_series('2026-02-01'::timestamp, '2026-05-01', '1 month') AS m (month)";

/// Makes a database on a server, if that is where the rows of these tests are to be.
fn database_of_engine() -> Option<TestDatabase> {
    match std::env::var("NUDGE_TEST_ENGINE").as_deref() {
        Ok("postgres") => Some(test_database()),
        Ok("sqlite") | Err(_) => None,
        Ok(other) => panic!("NUDGE_TEST_ENGINE is sqlite or postgres, not {other}"),
    }
}

fn test_database() -> TestDatabase {
    let made = async {
        let database = TestDatabase::new().await;
        database.owner().await.batch_execute(MONTHS).await.unwrap();
        database
    };
    current_thread().block_on(made)
}

fn boot(flags: &BTreeMap<&'static str, String>, clock: &Clock) -> (Runtime, Server) {
    let values = Values::gather(flags, |_| None, None).unwrap();
    let mut config = Config::from_values(values).unwrap();
    let lock = DataDirLock::take(&config.data_dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(&mut config, lock, clock.clone())).unwrap();
    (runtime, server)
}

/// Signs claims with the project's secret.
pub fn token(claims: &Value) -> String {
    sign(SECRET.as_bytes(), claims).unwrap()
}

/// Waits until something holds, looking again and again, and fails after a while.
pub fn eventually(within: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    begun.elapsed()
}

/// Takes out of a value what differs from run to run.
pub fn without(mut value: Value, paths: &[&str]) -> Value {
    for path in paths {
        let (parent, key) = path.rsplit_once('/').unwrap();
        if let Some(Value::Object(map)) = value.pointer_mut(parent) {
            map.remove(key);
        }
    }
    value
}
