//! The few connections that reads share: many statements are in flight on each, none of them waits for an answer of
//! another. A connection that breaks is opened again, with growing pauses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::{Error, Row};

use super::connect::{Connector, Driver};
use super::convert::{Doing, Statement, is_stale_statement, store_error, unavailable};
use super::session::{Session, Values};
use crate::error::StoreError;

/// First and longest pause between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type Slot = Arc<RwLock<Result<Arc<Session>, Arc<str>>>>;

/// The connections.
pub(super) struct Lanes {
    slots: Vec<Slot>,
    next: AtomicUsize,
    /// After this time without an answer a connection counts as dead; the server's own timeout comes before it.
    deadline: Duration,
    /// Keeps the connections open for as long as it lives.
    keepers: std::sync::Mutex<JoinSet<()>>,
}

impl Lanes {
    /// Opens the connections.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub(super) async fn open(
        connector: &Arc<Connector>,
        count: usize,
        deadline: Duration,
    ) -> Result<Self, StoreError> {
        let mut slots = Vec::with_capacity(count);
        let mut keepers = JoinSet::new();
        for _ in 0..count.max(1) {
            let (session, driver) = connector.open().await?;
            let session = Arc::new(session);
            let slot: Slot = Arc::new(RwLock::new(Ok(Arc::clone(&session))));
            keepers.spawn(keep(Arc::clone(connector), Arc::clone(&slot), session, driver));
            slots.push(slot);
        }
        Ok(Self { slots, next: AtomicUsize::new(0), deadline, keepers: std::sync::Mutex::new(keepers) })
    }

    /// Closes the connections. What is asked for later is unavailable.
    pub(super) fn close(&self) {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        for slot in &self.slots {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = Err("the store is closed".into());
        }
    }

    /// Runs a statement that reads. A connection that broke in the middle is made up for by another, once.
    pub(super) async fn query(
        &self,
        table: &'static str,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut again = true;
        loop {
            let session = self.pick()?;
            match tokio::time::timeout(self.deadline, session.query(statement, values)).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) if again && is_stale_statement(&error) => session.forget(statement),
                Ok(Err(error)) if again && ended(&error) => {}
                Ok(Err(error)) => return Err(store_error(&error, table, Doing::Reading)),
                Err(_) => {
                    session.give_up();
                    let millis = self.deadline.as_millis();
                    return Err(unavailable(format!("no answer to {} within {millis} ms", statement.name)));
                }
            }
            again = false;
        }
    }

    /// Takes the next connection that is open.
    fn pick(&self) -> Result<Arc<Session>, StoreError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut why = None;
        for n in 0..self.slots.len() {
            let slot = self.slots.get((first + n) % self.slots.len());
            match slot.map(|slot| slot.read().unwrap_or_else(PoisonError::into_inner).clone()) {
                Some(Ok(session)) if !session.is_closed() => return Ok(session),
                Some(Err(problem)) => why = Some(problem),
                Some(Ok(_)) | None => {}
            }
        }
        Err(unavailable(why.as_deref().unwrap_or("the connection was lost")))
    }
}

/// Says whether an error is the end of its connection.
pub(super) fn ended(error: &Error) -> bool {
    // 57P01 to 57P03: an administrator's doing, or a server that starts or stops.
    error.is_closed() || error.code().is_none_or(|code| code.code().starts_with("57P"))
}

/// Drives a connection, and opens the next one when it ends.
async fn keep(connector: Arc<Connector>, slot: Slot, session: Arc<Session>, driver: Driver) {
    let set = |state| *slot.write().unwrap_or_else(PoisonError::into_inner) = state;
    let (mut session, mut driver) = (session, driver);
    loop {
        let ended = tokio::select! {
            ended = driver => ended.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()),
            () = session.given_up.notified() => "given up: no answer in time".to_owned(),
        };
        tracing::warn!(cause = %ended, "store.connection_lost");
        set(Err("the connection was lost".into()));
        (session, driver) = reconnect(&connector, &set).await;
        set(Ok(Arc::clone(&session)));
        tracing::info!("store.connection_back");
    }
}

async fn reconnect(
    connector: &Connector,
    set: &impl Fn(Result<Arc<Session>, Arc<str>>),
) -> (Arc<Session>, Driver) {
    let mut pause = FIRST_PAUSE;
    loop {
        match connector.open().await {
            Ok((session, driver)) => return (Arc::new(session), driver),
            Err(error) => {
                if pause == FIRST_PAUSE {
                    tracing::warn!(%error, "store.cannot_connect");
                }
                set(Err(error.into_detail().into()));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
