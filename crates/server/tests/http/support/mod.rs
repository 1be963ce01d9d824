//! A server in a temporary folder, a client for it, and short ways to write facts down.

pub mod client;
pub mod facts;
pub mod keypair;
pub mod logs;

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
use nudge_store::StoredDecision;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use client::{Request, Response};

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

    fn launch(settings: &[(&'static str, &str)], share: Share) -> Self {
        logs::capture();
        let folder = tempfile::tempdir().unwrap();
        let mut flags = BTreeMap::from([
            ("NUDGE_DATA_DIR", folder.path().display().to_string()),
            ("NUDGE_PORT", "0".to_owned()),
            ("NUDGE_SPOOL_MIB", "1".to_owned()),
            ("SUPABASE_JWT_SECRET", SECRET.to_owned()),
            ("SUPABASE_PUBLISHABLE_KEYS", json!({ "default": PUBLISHABLE }).to_string()),
            ("SUPABASE_SECRET_KEYS", json!({ "default": SECRET_KEY }).to_string()),
            // The machine that runs the tests is busy: a commit gets its time unless a test is about that.
            ("NUDGE_COMMIT_TIMEOUT_MS", "20000".to_owned()),
        ]);
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

    pub fn database(&self) -> PathBuf {
        self.folder().join("nudge.db")
    }

    /// A connection to the database beside the server's, as another process has one.
    pub fn raw(&self) -> rusqlite::Connection {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.busy_timeout(Duration::from_secs(20)).unwrap();
        conn
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.raw().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Everything that the database holds.
    pub fn contents(&self) -> Contents {
        let conn = self.raw();
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                     AND name <> 'nudge_schema_migrations' ORDER BY name";
        let mut tables = conn.prepare(names).unwrap();
        let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
        let mut lines = Vec::new();
        for table in tables {
            let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let cell = |i| match row.get_ref(i).unwrap() {
                    rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                };
                lines.push(format!("{table}: {}", (0..columns).map(cell).collect::<Vec<_>>().join(" | ")));
            }
        }
        Contents(lines)
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
