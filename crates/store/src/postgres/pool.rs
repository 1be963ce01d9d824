//! Connections that one transaction has for itself.
//!
//! A connection goes back only after its transaction has ended as it should; whatever else happens to it (an error of the
//! connection, a caller that goes away in the middle) it is closed, and nothing of it can meet the next caller.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio_postgres::{Error, Row};

use super::connect::Connector;
use super::convert::{Doing, Statement, is_conflict, is_stale_statement, store_error, unavailable};
use super::lanes::ended;
use super::session::{Session, Values};
use crate::error::StoreError;
use crate::options::PoolStats;

/// Times that a transaction is tried in all when it meets another one.
const TRIES: u32 = 6;
/// Pause after the first such meeting; later ones are longer.
const PAUSE: Duration = Duration::from_millis(5);

/// A connection and what drives it.
struct Owned {
    session: Session,
    driver: AbortHandle,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // The socket closes; the server rolls back what was open as soon as it notices.
        self.driver.abort();
    }
}

/// The pool.
pub(super) struct Pool {
    connector: Arc<Connector>,
    size: usize,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Owned>>,
    /// Longest wait for a connection.
    wait: Duration,
    /// After this time without an answer a connection counts as dead.
    deadline: Duration,
    statement_timeout: Duration,
    closed: AtomicBool,
}

impl Pool {
    pub(super) fn new(
        connector: Arc<Connector>,
        size: usize,
        wait: Duration,
        statement_timeout: Duration,
        deadline: Duration,
    ) -> Self {
        Self {
            connector,
            size: size.max(1),
            places: Arc::new(Semaphore::new(size.max(1))),
            idle: Mutex::default(),
            wait,
            deadline,
            statement_timeout,
            closed: AtomicBool::new(false),
        }
    }

    /// Closes the idle connections and refuses every later transaction.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.places.close();
        self.idle().clear();
    }

    /// Gives the number of connections that may be open, and of those in use.
    pub(super) fn stats(&self, name: &'static str) -> PoolStats {
        PoolStats { name, size: self.size, busy: self.size.saturating_sub(self.places.available_permits()) }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Owned>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection, the one used last, or opens one. One that has died meanwhile is found out by `first`.
    pub(super) async fn take(&self) -> Result<Connection<'_>, StoreError> {
        let place = tokio::time::timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await;
        let place = match place {
            Ok(Ok(place)) => place,
            Ok(Err(_closed)) => return Err(unavailable("the store is closed")),
            Err(_) => return Err(unavailable("every connection is busy")),
        };
        loop {
            let Some(owned) = self.idle().pop() else { break };
            if !owned.session.is_closed() {
                return Ok(Connection { pool: self, owned: Some(owned), _place: place });
            }
        }
        let owned = self.open().await?;
        Ok(Connection { pool: self, owned: Some(owned), _place: place })
    }

    async fn open(&self) -> Result<Owned, StoreError> {
        let (session, driver) = self.connector.open().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "store.connection_ended");
            }
        });
        Ok(Owned { session, driver: driver.abort_handle() })
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_as(Kind::Write).await
    }

    /// Begins a transaction that only reads, and sees one state of the database throughout.
    pub(super) async fn begin_reading(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_as(Kind::Read).await
    }

    async fn begin_as(&self, kind: Kind) -> Result<Transaction<'_>, StoreError> {
        let mut idle = self.idle().len();
        loop {
            let connection = self.take().await?;
            let session = connection.session()?;
            let begin = kind.begin(session.is_pooled().then_some(self.statement_timeout));
            match connection.in_time(session.run(&begin)).await? {
                Ok(()) => {
                    let conflict = AtomicBool::new(false);
                    return Ok(Transaction { connection, conflict, doing: kind.doing() });
                }
                // It had died while it was idle, and nothing has begun: the next one.
                Err(error) if ended(&error) && idle > 0 => idle -= 1,
                Err(error) => return Err(store_error(&error, "pg_class", kind.doing())),
            }
        }
    }

    /// Ends a transaction: commits what went well, rolls the rest back.
    pub(super) async fn end<T, E: From<StoreError>>(
        &self,
        transaction: Transaction<'_>,
        result: Result<T, E>,
        tries: &mut u32,
    ) -> Ended<T, E> {
        let again = transaction.conflict.load(Ordering::Relaxed);
        let result = match result {
            Ok(value) if !again => match transaction.commit().await {
                Ok(()) => return Ended::Done(Ok(value)),
                Err(CommitError { conflict: false, error }) => return Ended::Done(Err(error.into())),
                Err(CommitError { conflict: true, error }) => Err(error.into()),
            },
            Ok(_) => {
                transaction.rollback().await;
                Err(unavailable("another transaction keeps coming first").into())
            }
            Err(error) => {
                transaction.rollback().await;
                if !again {
                    return Ended::Done(Err(error));
                }
                Err(error)
            }
        };
        *tries += 1;
        if *tries >= TRIES {
            return Ended::Done(result);
        }
        tokio::time::sleep(PAUSE * *tries).await;
        Ended::Again
    }
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Write,
}

impl Kind {
    /// Gives the statements that begin it; behind a pooler the timeout belongs to the transaction.
    fn begin(self, timeout: Option<Duration>) -> String {
        let begin = match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Write => "BEGIN",
        };
        match timeout {
            Some(timeout) => format!("{begin}; SET LOCAL statement_timeout = {}", timeout.as_millis()),
            None => begin.to_owned(),
        }
    }

    fn doing(self) -> Doing {
        match self {
            Self::Read => Doing::Reading,
            Self::Write => Doing::Writing,
        }
    }
}

/// How a transaction ended.
pub(super) enum Ended<T, E> {
    Done(Result<T, E>),
    /// It met another one and was rolled back: try it again.
    Again,
}

/// Runs a block in a transaction, again when it meets another one. The block gives a `Result`; it must not return.
macro_rules! in_transaction {
    ($pool:expr, $transaction:ident => $work:expr) => {{
        let mut tries = 0;
        loop {
            let $transaction = $pool.begin().await?;
            let result = $work;
            match $pool.end($transaction, result, &mut tries).await {
                $crate::postgres::pool::Ended::Done(result) => break result,
                $crate::postgres::pool::Ended::Again => {}
            }
        }
    }};
}
pub(super) use in_transaction;

/// A connection that is in use, and its place in the pool.
pub(super) struct Connection<'a> {
    pool: &'a Pool,
    owned: Option<Owned>,
    _place: OwnedSemaphorePermit,
}

impl Connection<'_> {
    pub(super) fn session(&self) -> Result<&Session, StoreError> {
        self.owned.as_ref().map(|owned| &owned.session).ok_or_else(|| unavailable("the connection was lost"))
    }

    /// Runs one statement outside a transaction; gives the driver's error, for a caller that tells them apart.
    pub(super) async fn query(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<Result<Vec<Row>, Error>, StoreError> {
        let session = self.session()?;
        let mut result = self.in_time(session.query(statement, values)).await?;
        if result.as_ref().is_err_and(is_stale_statement) {
            session.forget(statement);
            result = self.in_time(session.query(statement, values)).await?;
        }
        Ok(result)
    }

    /// As [`Connection::query`], and gives each row away as it comes.
    pub(super) async fn each(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
        mut take: impl FnMut(&Row),
    ) -> Result<Result<(), Error>, StoreError> {
        let session = self.session()?;
        let mut result = self.in_time(session.each(statement, values, &mut take)).await?;
        // That is found out before there are rows.
        if result.as_ref().is_err_and(is_stale_statement) {
            session.forget(statement);
            result = self.in_time(session.each(statement, values, &mut take)).await?;
        }
        Ok(result)
    }

    /// Waits for an answer, and not for ever.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let deadline = self.pool.deadline;
        let late = |_| unavailable(format!("no answer within {} ms", deadline.as_millis()));
        tokio::time::timeout(deadline, work).await.map_err(late)
    }

    /// Gives the connection back: nothing is open or in flight on it.
    pub(super) fn give_back(mut self) {
        if let Some(owned) = self.owned.take()
            && !owned.session.is_closed()
            && !self.pool.closed.load(Ordering::Acquire)
        {
            self.pool.idle().push(owned);
        }
    }
}

/// A transaction. Dropping it closes its connection, which rolls it back.
pub(super) struct Transaction<'a> {
    connection: Connection<'a>,
    /// Whether it met another one, so that all of it may succeed when it is tried again.
    conflict: AtomicBool,
    doing: Doing,
}

struct CommitError {
    conflict: bool,
    error: StoreError,
}

impl Transaction<'_> {
    /// Runs a statement and gives its rows.
    pub(super) async fn query(
        &self,
        table: &'static str,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let session = self.connection.session()?;
        let result = self.connection.in_time(session.query(statement, values)).await?;
        result.map_err(|error| self.failed(&error, table, statement))
    }

    /// Runs a statement and counts the rows that it changed.
    pub(super) async fn execute(
        &self,
        table: &'static str,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<u64, StoreError> {
        let session = self.connection.session()?;
        let result = self.connection.in_time(session.execute(statement, values)).await?;
        result.map_err(|error| self.failed(&error, table, statement))
    }

    /// Runs a statement without parameters, such as one of savepoints.
    pub(super) async fn run(&self, sql: &'static str) -> Result<(), StoreError> {
        let session = self.connection.session()?;
        let result = self.connection.in_time(session.run(sql)).await?;
        result.map_err(|error| store_error(&error, "pg_class", self.doing))
    }

    /// Runs a statement; gives the driver's error, for a caller that tells them apart.
    pub(super) async fn attempt(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<Result<Vec<Row>, Error>, StoreError> {
        let session = self.connection.session()?;
        let result = self.connection.in_time(session.query(statement, values)).await?;
        if let Err(error) = &result {
            self.note(error);
        }
        Ok(result)
    }

    /// Says that another transaction came in between: this one is to be tried again.
    pub(super) fn came_late(&self) -> StoreError {
        self.conflict.store(true, Ordering::Relaxed);
        unavailable("another transaction came in between")
    }

    fn failed(&self, error: &Error, table: &'static str, statement: &'static Statement) -> StoreError {
        self.note(error);
        if is_stale_statement(error) {
            // The transaction is gone; its next try prepares the statement anew.
            self.conflict.store(true, Ordering::Relaxed);
            if let Ok(session) = self.connection.session() {
                session.forget(statement);
            }
        }
        store_error(error, table, self.doing)
    }

    fn note(&self, error: &Error) {
        if is_conflict(error) {
            self.conflict.store(true, Ordering::Relaxed);
        }
    }

    async fn commit(self) -> Result<(), CommitError> {
        let fail = |error| CommitError { conflict: false, error };
        let session = self.connection.session().map_err(fail)?;
        match self.connection.in_time(session.run("COMMIT")).await.map_err(fail)? {
            Ok(()) => {
                self.connection.give_back();
                Ok(())
            }
            Err(error) => Err(CommitError {
                conflict: is_conflict(&error),
                error: store_error(&error, "pg_class", self.doing),
            }),
        }
    }

    /// Rolls back; a connection on which that fails is closed, which comes to the same.
    pub(super) async fn rollback(self) {
        let rolled_back = match self.connection.session() {
            Ok(session) => self.connection.in_time(session.run("ROLLBACK")).await,
            Err(_) => return,
        };
        if matches!(rolled_back, Ok(Ok(()))) {
            self.connection.give_back();
        }
    }
}
