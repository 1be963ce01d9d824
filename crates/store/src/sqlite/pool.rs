//! A small pool of read-only connections, opened as they are needed and thrown away after a fault.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::connection;
use super::convert::{Within, statements};
use crate::error::StoreError;
use crate::options::{PoolStats, StoreOptions};

statements! {
    BEGIN_READ = "BEGIN";
    END_READ = "COMMIT";
}

/// How long a read waits for a free connection. Reads take microseconds, so this is reached only when all hang.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pool.
pub(super) struct Pool {
    options: StoreOptions,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    open: usize,
    closed: bool,
}

impl Pool {
    pub(super) fn new(options: StoreOptions) -> Self {
        Self { options, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Gives the options of its connections.
    pub(super) fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Gives the file.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.options.path
    }

    /// Runs a read in one read transaction: it sees one state of the database throughout.
    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let conn = self.take()?;
        // A read that panics gives its place back, without the connection.
        let mut place = Place { pool: self, sound: None };
        let result = match run(&conn, BEGIN_READ) {
            Ok(()) => read(&conn),
            Err(error) => Err(error.into()),
        };
        place.sound = run(&conn, END_READ).is_ok().then_some(conn);
        result
    }

    /// Gives the number of connections that may be open, and of those in use.
    pub(super) fn stats(&self) -> PoolStats {
        let state = self.lock();
        PoolStats {
            name: "reads",
            size: self.options.readers.max(1),
            busy: state.open.saturating_sub(state.idle.len()),
        }
    }

    /// Closes the idle connections and refuses every later read.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.open -= state.idle.len();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        self.returned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a list and two numbers: nothing that a panic elsewhere could leave half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection that was used last, whose cache is warmest, or opens one.
    fn take(&self) -> Result<Connection, StoreError> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(unavailable("the store is closed"));
            }
            if let Some(conn) = state.idle.pop() {
                return Ok(conn);
            }
            if state.open < self.options.readers.max(1) {
                break;
            }
            let (next, waited) =
                self.returned.wait_timeout(state, CHECKOUT_TIMEOUT).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() {
                return Err(unavailable("every reader is busy"));
            }
        }
        state.open += 1;
        drop(state);
        connection::open_reader(&self.options).inspect_err(|_| self.give_back(None))
    }

    /// Puts a connection back; `None` for one that is gone.
    fn give_back(&self, conn: Option<Connection>) {
        let mut state = self.lock();
        match conn {
            Some(conn) if !state.closed => state.idle.push(conn),
            _ => state.open = state.open.saturating_sub(1),
        }
        drop(state);
        self.returned.notify_one();
    }
}

/// The place of a connection that is in use, given back in the end.
struct Place<'a> {
    pool: &'a Pool,
    sound: Option<Connection>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.give_back(self.sound.take());
    }
}

fn run(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute([])).within("sqlite_schema").map(drop)
}

fn unavailable(detail: &str) -> StoreError {
    StoreError::Unavailable { detail: detail.into() }
}
