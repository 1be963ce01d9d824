//! How a store is opened, and what it says of itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::rights::Caller;

use crate::postgres::dsn::Dsn;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The database file.
    pub path: PathBuf,
    /// Greatest number of read-only connections; they are opened as they are needed.
    pub readers: usize,
    /// How long a write waits for the lock that another process holds.
    pub busy_timeout_ms: u64,
    /// Greatest number of jobs in one commit.
    pub commit_max_rows: usize,
    /// Greatest number of jobs that wait for the writer.
    pub queue: usize,
    /// Greatest time that the writer waits at once for the callers of the last commit to come back, in microseconds;
    /// 0 means that it never waits. It waits at most twice per commit, each time for a quarter of the last one at most.
    pub gather_micros: u64,
    /// How long a call other than a decision waits for the writer to begin with it.
    pub call_deadline_ms: u64,
    /// A server has the same file open: copying the write-ahead log back is left to it.
    pub beside_server: bool,
    /// How much reads on behalf of callers may take.
    pub reads: ReadLimits,
}

/// How much reads on behalf of callers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Greatest number of such reads at a time; they have connections of their own. One user has half of them at most, the
    /// service all but one. Twice the cores by default, from 4 to 16.
    pub places: usize,
    /// How many of them may count.
    pub counting: usize,
    /// How long a read waits for its place.
    pub wait_ms: u64,
    /// How long a read for an anonymous caller may take.
    pub anonymous_ms: u64,
    /// How long a read for a user may take.
    pub user_ms: u64,
    /// How long a read for the service may take.
    pub service_ms: u64,
}

impl ReadLimits {
    /// Gives the time that a caller's read may take.
    pub fn time_limit(&self, caller: &Caller) -> Duration {
        Duration::from_millis(match caller {
            Caller::Anonymous => self.anonymous_ms,
            Caller::User(_) => self.user_ms,
            Caller::Service => self.service_ms,
        })
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let places = (2 * cores).clamp(4, 16);
        Self {
            places,
            counting: places / 2,
            wait_ms: 2_000,
            anonymous_ms: 3_000,
            user_ms: 8_000,
            service_ms: 30_000,
        }
    }
}

impl StoreOptions {
    /// Gives the options of a command that works beside a server: it waits for its turn, and leaves the log alone.
    pub fn beside_server(path: PathBuf) -> Self {
        Self {
            path,
            readers: 1,
            busy_timeout_ms: 10_000,
            call_deadline_ms: 30_000,
            beside_server: true,
            ..Self::default()
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("nudge-data/nudge.db"),
            readers: 8,
            busy_timeout_ms: 150,
            commit_max_rows: 256,
            queue: 4096,
            gather_micros: 250,
            call_deadline_ms: 10_000,
            beside_server: false,
            reads: ReadLimits::default(),
        }
    }
}

/// How a PostgreSQL database is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// The connection string.
    pub dsn: Dsn,
    /// Connections that reads share; many statements are in flight on each.
    pub readers: usize,
    /// Connections for commits of decisions, each with one group on its way.
    pub writers: usize,
    /// Connections for transactions of other kinds: greatest number of them at once.
    pub calls: usize,
    /// Longest time that the server may take for a statement.
    pub statement_timeout_ms: u64,
    /// How long a transaction waits for a connection.
    pub call_deadline_ms: u64,
    /// Greatest number of decisions in one commit.
    pub commit_max_rows: usize,
    /// Greatest number of decisions that wait for the writer.
    pub queue: usize,
    /// How much reads on behalf of callers may take.
    pub reads: ReadLimits,
}

impl PostgresOptions {
    /// Gives the service's options.
    pub fn new(dsn: Dsn) -> Self {
        Self {
            dsn,
            readers: 4,
            writers: 2,
            calls: 8,
            statement_timeout_ms: 5_000,
            call_deadline_ms: 5_000,
            commit_max_rows: 256,
            queue: 4096,
            reads: ReadLimits::default(),
        }
    }

    /// Gives the options of a command, which has time and needs few connections.
    pub fn of_a_command(dsn: Dsn) -> Self {
        Self { readers: 1, writers: 1, calls: 2, statement_timeout_ms: 60_000, ..Self::new(dsn) }
    }
}

/// How long rows are kept where they are kept by month: a month goes as a whole, once its last day is older. 0 keeps
/// them for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Months of decisions.
    pub decisions_months: u32,
    /// Months of the events of decisions.
    pub events_months: u32,
    /// Days of the log of requests.
    pub requests_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { decisions_months: 24, events_months: 24, requests_days: 30 }
    }
}

/// Figures of the writer, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Decisions and other calls in them; a call with many rows counts once.
    pub rows: u64,
    /// Transactions that failed as a whole.
    pub failures: u64,
    /// Time that the newest commit took, from its first statement to its end.
    pub last_commit_micros: u64,
}

/// How many connections of a kind there may be, and how many are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// What they are for: `reads` for everything that only reads, `calls` for writes, `decisions` for decisions.
    pub name: &'static str,
    /// Connections that may be open at once.
    pub size: usize,
    /// Connections that are in use now.
    pub busy: usize,
}
