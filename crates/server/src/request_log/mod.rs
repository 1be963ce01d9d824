//! The log of requests: a row of `edge_function_logs` a request, and an event for every drain that wants it.
//!
//! A request leaves an [`Entry`] in a bounded queue and is done; that costs a lock held for some nanoseconds, and a full queue
//! refuses the entry, which is counted. Everything else happens on tasks of its own: entries become rows (this is where
//! user ids are hashed), rows are offered to the [drains](crate::drain) and queued for the database, and written in
//! batches. While the database cannot take them they wait for a bounded time, and are dropped and counted then. So the
//! log may have gaps, of which `nudge_request_log_dropped_total` tells, but no request ever waits for it or fails by it.
//!
//! Where next: `writer` for the way to the database and for what is deleted there, [`user`] for what is kept of users.

pub mod buffer;
pub mod user;
mod writer;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use metrics::{counter, gauge};
use nudge_engine::UserId;
use nudge_store::{RequestRow, Retention, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::clock::Clock;
use crate::drain::Drains;
use crate::outbound::Outbound;
use buffer::Buffer;
use user::Users;
use writer::Writer;

/// Entries that wait to become rows. The longest wait is [`TICK`], so this is room for 100,000 requests a second and more.
const INTAKE: usize = 32_768;
/// Entries that are taken at once: more would keep a request waiting for the lock.
const AT_ONCE: usize = 256;
/// How often entries become rows.
const TICK: Duration = Duration::from_millis(100);
/// How long a shutdown waits for the rows that are left, and for the drains.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Below this are the functions, by their names.
const FUNCTIONS_ROOT: &str = "/functions/v1/";
/// What requests to no route are counted as.
const OTHER: &str = "other";
/// What requests to the tables are counted as.
const REST: &str = "rest";
/// Every name that a row may have.
pub const FUNCTIONS: [&str; 7] = [
    "transaction-recommendations",
    "user-archetype",
    "archetype-recalculation-job",
    "recommendation-outcomes",
    "ingest",
    REST,
    OTHER,
];

/// Names the function of a route, or says that its requests are not logged: probes, metrics, pages and descriptions are none.
pub fn function_of(route: &'static str) -> Option<&'static str> {
    if let Some(function) = route.strip_prefix(FUNCTIONS_ROOT) {
        return function.split('/').next();
    }
    match route {
        crate::rest::ROOT => Some(REST),
        OTHER => Some(OTHER),
        _ => None,
    }
}

/// A request that has been answered.
#[derive(Debug)]
pub struct Entry {
    /// The request's id, a UUIDv7.
    pub id: Uuid,
    /// When it came.
    pub at: Timestamp,
    /// Its function, see [`function_of`].
    pub function: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Time from its head to its answer.
    pub took: Duration,
    /// The caller, if a user.
    pub user: Option<UserId>,
    /// The code of an error.
    pub error_code: Option<Cow<'static, str>>,
}

/// Carries the user from the place that reads the credentials to that which makes the entry.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<OnceLock<UserId>>);

impl Seen {
    /// Notes the user.
    pub fn set(&self, user: &UserId) {
        // A request has one caller; whoever asks twice finds the same.
        let _ = self.0.set(user.clone());
    }

    /// Gives the user, if one was noted.
    pub fn get(&self) -> Option<&UserId> {
        self.0.get()
    }
}

/// The log.
#[derive(Debug)]
pub struct RequestLog {
    on: bool,
    users: Users,
    intake: Buffer<Entry>,
    writer: Writer,
    drains: Drains,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the log works with once it runs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where rows and drains are.
    pub store: Store,
    /// Sends to the drains.
    pub outbound: Outbound,
    /// The clock.
    pub clock: Clock,
    /// How long rows are kept.
    pub retention: Retention,
    /// The name of this server among its replicas.
    pub instance: Arc<str>,
}

impl RequestLog {
    /// Makes a log that keeps of users what `users` says. Nothing is written before [`RequestLog::start`].
    pub fn new(on: bool, users: Users) -> Self {
        counter!("nudge_request_log_rows_total").increment(0);
        counter!("nudge_request_log_write_failures_total").increment(0);
        dropped("queue_full", 0);
        gauge!("nudge_request_log_queue_depth").set(0.0);
        Self {
            on,
            users,
            intake: Buffer::new(INTAKE),
            writer: Writer::default(),
            drains: Drains::default(),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        }
    }

    /// Names the function of a route whose requests are logged.
    pub fn function(&self, route: &'static str) -> Option<&'static str> {
        if self.on { function_of(route) } else { None }
    }

    /// Takes a request that has been answered. Never waits; without room the entry is dropped and counted.
    pub fn note(&self, entry: Entry) {
        if !self.intake.offer(entry) {
            dropped("queue_full", 1);
        }
    }

    /// Starts what turns entries into rows, writes them, deletes old ones, and follows the drains.
    pub fn start(self: &Arc<Self>, around: &Surroundings) {
        if !self.on {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let log = Arc::clone(self);
        tasks.spawn(async move {
            let mut stopped = log.stop.subscribe();
            while wait(&mut stopped, TICK).await {
                log.spread();
            }
        });
        let (log, store) = (Arc::clone(self), around.store.clone());
        tasks.spawn(async move { log.writer.run(&store, log.stop.subscribe()).await });
        let (stopped, of) = (self.stop.subscribe(), around.clone());
        tasks.spawn(async move { writer::delete_old(&of, stopped).await });
        let (log, of) = (Arc::clone(self), around.clone());
        tasks.spawn(async move { log.drains.follow(&of, log.stop.subscribe()).await });
    }

    /// Makes rows of the entries that wait, and gives them to the drains and to the writer.
    pub fn spread(&self) {
        let mut entries = Vec::new();
        while self.intake.take(AT_ONCE, &mut entries) > 0 {
            for entry in entries.drain(..) {
                let row = Arc::new(self.row(entry));
                self.drains.offer(&row);
                self.writer.offer(row);
            }
        }
        self.drains.tell();
        gauge!("nudge_request_log_queue_depth").set((self.intake.len() + self.writer.waiting()) as f64);
    }

    fn row(&self, entry: Entry) -> RequestRow {
        let micros = entry.took.as_micros();
        RequestRow {
            id: entry.id,
            function_name: entry.function,
            method: entry.method,
            status: entry.status,
            // To the nearest one, so that an average over many is that of their times.
            response_time_ms: u32::try_from((micros + 500) / 1_000).unwrap_or(u32::MAX),
            user_id: entry.user.as_ref().and_then(|user| self.users.show(user)),
            error_code: entry.error_code,
            created_at: entry.at,
        }
    }

    /// Ends the tasks and writes what is left, to the database and to the drains, within a few seconds.
    pub async fn stop(&self, store: &Store) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            tasks.shutdown().await;
        }
        self.spread();
        let (left, ()) = tokio::join!(self.writer.finish(store, LAST_WORDS), self.drains.stop(LAST_WORDS));
        if left > 0 {
            dropped("shutdown", left);
            tracing::warn!(rows = left, "request_log.rows_lost_at_shutdown");
        }
    }
}

/// Waits for some time; says whether to go on.
pub(crate) async fn wait(stopped: &mut watch::Receiver<bool>, time: Duration) -> bool {
    // Whoever could say stop is gone: stop as well.
    tokio::time::timeout(time, stopped.wait_for(|stopped| *stopped)).await.is_err()
}

fn dropped(reason: &'static str, rows: usize) {
    counter!("nudge_request_log_dropped_total", "reason" => reason).increment(rows as u64);
}

#[cfg(test)]
mod tests {
    use nudge_store::StoreOptions;

    use super::*;
    use crate::api::path;
    use crate::telemetry::Metrics;

    #[test]
    fn functions_and_tables_are_logged_and_probes_and_pages_are_not() {
        assert_eq!(function_of(path::RECOMMENDATIONS), Some("transaction-recommendations"));
        assert_eq!(function_of(path::ARCHETYPE), Some("user-archetype"));
        assert_eq!(function_of(path::OUTCOMES), Some("recommendation-outcomes"));
        assert_eq!(function_of(path::INGEST), Some("ingest"));
        assert_eq!(
            function_of("/functions/v1/archetype-recalculation-job/cancel"),
            Some("archetype-recalculation-job")
        );
        assert_eq!(function_of(path::REST), Some("rest"));
        assert_eq!(function_of("other"), Some("other"));
        for route in [path::LIVE, path::READY, path::METRICS, path::OPENAPI, path::START] {
            assert_eq!(function_of(route), None, "{route}");
        }
    }

    #[test]
    fn every_route_that_is_logged_has_a_name_that_a_filter_knows() {
        for function in path::ALL.into_iter().filter_map(function_of) {
            assert!(FUNCTIONS.contains(&function), "`{function}` is new: add it to FUNCTIONS");
        }
    }

    fn entry(micros: u64) -> Entry {
        Entry {
            id: Uuid::nil(),
            at: Timestamp::UNIX_EPOCH,
            function: "rest",
            method: "GET",
            status: 200,
            took: Duration::from_micros(micros),
            user: None,
            error_code: None,
        }
    }

    fn log() -> RequestLog {
        RequestLog::new(true, Users::new(user::Shown::Hashed, None, "secret"))
    }

    /// The value of a counter of dropped rows.
    fn dropped_so_far(reason: &str) -> usize {
        let text = Metrics::install().render();
        let start = format!("nudge_request_log_dropped_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let log = log();
        let before = dropped_so_far("queue_full");
        (0..INTAKE + 7).for_each(|_| log.note(entry(1)));
        assert_eq!(dropped_so_far("queue_full") - before, 7);
        log.spread();
        assert_eq!((log.intake.len(), log.writer.waiting()), (0, INTAKE));
        log.note(entry(1));
        log.spread();
        assert_eq!(dropped_so_far("queue_full") - before, 8, "nor has the queue of the database");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_that_the_database_does_not_take_are_dropped_after_a_time_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nudge.db");
        let store = Store::open(StoreOptions { path, ..StoreOptions::default() }).unwrap();
        store.close().await;
        let patient = Writer::default();
        let impatient = Writer::holding(Duration::ZERO);
        let row = Arc::new(log().row(entry(1)));
        let before = dropped_so_far("database_away");
        for writer in [&patient, &impatient] {
            writer.offer(Arc::clone(&row));
            let left = writer.finish(&store, Duration::from_secs(60)).await;
            assert_eq!(left, usize::from(std::ptr::eq(writer, &patient)));
        }
        assert_eq!(dropped_so_far("database_away") - before, 1);
    }

    #[test]
    fn times_are_rounded_to_the_nearest_millisecond() {
        let log = log();
        for (micros, millis) in [(0, 0), (499, 0), (500, 1), (1_499, 1), (12_600, 13)] {
            assert_eq!(log.row(entry(micros)).response_time_ms, millis);
        }
    }
}
