//! Reads on behalf of callers: connections of their own, few at a time, each with a clock, so that nobody's filter or count
//! takes anything from recommendations, and counts leave room for plain reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::convert::{Within, statements};
use super::{connection, function, query};
use crate::error::StoreError;
use crate::gate::Gate;
use crate::options::StoreOptions;
use crate::query::plan::Plan;
use crate::query::{ReadAnswer, ReadError};
use crate::rights::Caller;

statements! {
    BEGIN_READ = "BEGIN";
    END_READ = "COMMIT";
}

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 200;

/// When the present read of a connection must be over. Clones share it.
#[derive(Clone)]
pub(super) struct Clock(Arc<Mutex<Arc<Watch>>>);

/// The time of one read.
struct Watch {
    end: Instant,
    /// Nobody waits for the answer any more.
    abandoned: AtomicBool,
}

impl Watch {
    fn until(end: Instant) -> Arc<Self> {
        Arc::new(Self { end, abandoned: AtomicBool::new(false) })
    }

    fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || Instant::now() >= self.end
    }
}

impl Clock {
    fn stopped() -> Self {
        Self(Arc::new(Mutex::new(Watch::until(Instant::now()))))
    }

    fn set(&self, watch: Arc<Watch>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Says whether the present read must end.
    pub(super) fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_over()
    }
}

/// Ends a read when whoever asked has gone away.
struct Abandon(Arc<Watch>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}

/// A connection with its clock.
struct Reader {
    conn: Connection,
    clock: Clock,
}

/// The connections of such reads.
pub(super) struct Reads {
    options: StoreOptions,
    gate: Gate,
    idle: Mutex<Vec<Reader>>,
}

impl Reads {
    pub(super) fn new(options: StoreOptions) -> Self {
        Self { gate: Gate::new(options.reads), idle: Mutex::default(), options }
    }

    /// Closes the idle connections and refuses every later read.
    pub(super) fn close(&self) {
        self.gate.close();
        self.lock().clear();
    }

    /// Reads what a plan says.
    ///
    /// # Errors
    /// [`ReadError::Busy`] when no connection became free in time, [`ReadError::Timeout`] when the read took too long.
    pub(super) async fn read(self: Arc<Self>, caller: Caller, plan: Plan) -> Result<ReadAnswer, ReadError> {
        let place = self.gate.enter(&caller, plan.count.is_some()).await?;
        let limit = self.options.reads.time_limit(&caller);
        let watch = Watch::until(Instant::now() + limit);
        let abandon = Abandon(Arc::clone(&watch));
        let read = move || {
            let answer = self.run(&watch, |conn| query::read(conn, &caller, &plan));
            drop(place);
            answer
        };
        let joined = tokio::task::spawn_blocking(read).await;
        drop(abandon);
        joined.unwrap_or_else(|error| Err(StoreError::Statement { detail: error.to_string() }.into()))
    }

    /// Runs a read in one read transaction. A connection that did not end it is thrown away, and so is one whose read
    /// panicked.
    fn run<T>(
        &self,
        watch: &Arc<Watch>,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let idle = self.lock().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open()?,
        };
        reader.clock.set(Arc::clone(watch));
        let result = run(&reader.conn, BEGIN_READ).map_err(ReadError::from).and_then(|()| read(&reader.conn));
        let over = watch.is_over();
        // The end of the transaction is not hurried.
        reader.clock.set(Watch::until(Instant::now() + Duration::from_secs(60)));
        if run(&reader.conn, END_READ).is_ok() && !self.gate.is_closed() {
            self.lock().push(reader);
        }
        match result {
            Err(ReadError::Store(StoreError::Unavailable { .. } | StoreError::Statement { .. })) if over => {
                Err(ReadError::Timeout)
            }
            result => result,
        }
    }

    fn open(&self) -> Result<Reader, StoreError> {
        let mut conn = connection::open_reader(&self.options)?;
        let clock = Clock::stopped();
        function::register(&conn, &clock).within("sqlite_schema")?;
        let progress = clock.clone();
        conn.progress_handler(STEPS, Some(move || progress.is_over())).within("sqlite_schema")?;
        Ok(Reader { conn, clock })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute([])).within("sqlite_schema").map(drop)
}
