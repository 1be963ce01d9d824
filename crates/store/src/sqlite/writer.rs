//! The one thread that writes: what has queued up goes into one transaction, and each caller is answered after its
//! commit.
//!
//! A plain decision is one statement and fails alone if it breaks a constraint. Every other job runs in a savepoint, so
//! that it rolls back alone. When the transaction cannot begin or commit, every job of the batch is answered with
//! [`StoreError::Unavailable`] and nothing of it stays. A job that panics fails alone, and a call that has waited too long
//! is given up unless it has begun. Where next: `checkpoint.rs` keeps the write-ahead log short.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::convert::{Within, statements};
use super::{connection, decision, decision_index};
use crate::error::StoreError;
use crate::options::{StoreOptions, WriterStats};
use crate::record::DecisionRow;

statements! {
    BEGIN_WRITE = "BEGIN IMMEDIATE";
    COMMIT_WRITE = "COMMIT";
    ROLLBACK_WRITE = "ROLLBACK";
    BEGIN_JOB = "SAVEPOINT job";
    KEEP_JOB = "RELEASE job";
    UNDO_JOB = "ROLLBACK TO job";
}

/// The writer waits for more jobs for this share of a commit's time, and so often; `gather_micros` limits each wait.
const GATHER_SHARE: u64 = 4;
const GATHER_ROUNDS: usize = 2;

/// The answer to a plain decision.
type DecisionReply = oneshot::Sender<Result<(), StoreError>>;

/// What the writer is asked to do.
enum Job {
    Decision(Arc<DecisionRow>, DecisionReply),
    Call(Box<dyn Work>),
    Close,
}

/// A job of many statements, whatever it gives back.
trait Work: Send {
    /// Runs the statements; says whether what they did is to be kept.
    fn run(&mut self, conn: &Connection) -> bool;
    /// Answers the caller: `lost` says why nothing was committed.
    fn answer(self: Box<Self>, lost: Option<&str>);
}

struct Call<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    taken: Arc<AtomicBool>,
}

impl<F, T, E> Work for Call<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, conn: &Connection) -> bool {
        if self.taken.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.result = self.work.take().map(|work| caught(|| work(conn)));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, lost: Option<&str>) {
        let answer = match (self.result, lost) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (_, lost) => Err(unavailable(lost.unwrap_or("the job did not run")).into()),
        };
        // The caller may have stopped waiting; what is committed stays.
        let _ = self.reply.send(answer);
    }
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    rows: AtomicU64,
    failures: AtomicU64,
    last_commit_micros: AtomicU64,
}

/// The callers' side of the writer.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
    call_deadline: Duration,
}

impl Writer {
    /// Starts the thread on a connection that is set up.
    pub(super) fn start(conn: Connection, options: StoreOptions) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let counters = Arc::new(Counters::default());
        let call_deadline = Duration::from_millis(options.call_deadline_ms);
        let path = options.path.clone();
        let cannot_start =
            move |error: std::io::Error| StoreError::Open { path: path.clone(), detail: error.to_string() };
        let checkpointer = Checkpointer::start(&options).map_err(&cannot_start)?;
        let worker = Worker { queue, options, conn: None, counters: Arc::clone(&counters), checkpointer };
        let thread = std::thread::Builder::new()
            .name("nudge-writer".into())
            .spawn(move || worker.with_connection(conn).run())
            .map_err(cannot_start)?;
        Ok(Self { jobs, counters, thread: Mutex::new(Some(thread)), call_deadline })
    }

    /// Hands a decision over and waits for its commit.
    pub(super) async fn decision(&self, row: Arc<DecisionRow>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Decision(row, reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Hands a decision over without waiting; gives it back when the queue is full or closed.
    pub(super) fn try_decision(
        &self,
        row: Arc<DecisionRow>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, Arc<DecisionRow>> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Decision(Arc::clone(&row), reply)).map(|()| answer).map_err(|_| row)
    }

    /// Runs a job of many statements, all of them or none, and waits for its commit. One that has not begun by the
    /// deadline never will; one that has is waited for.
    pub(super) async fn call<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let call = Call { work: Some(work), result: None, reply, taken: Arc::clone(&taken) };
        let queued_and_answered = async {
            self.jobs.send(Job::Call(Box::new(call))).await.map_err(|_| closed())?;
            (&mut answer).await.map_err(|_| closed())
        };
        match tokio::time::timeout(self.call_deadline, queued_and_answered).await {
            Ok(answered) => answered?,
            Err(_) if taken.swap(true, Ordering::AcqRel) => answer.await.map_err(|_| closed())?,
            Err(_) => Err(unavailable("the writer is busy").into()),
        }
    }

    pub(super) fn queue_depth(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    pub(super) fn stats(&self) -> WriterStats {
        WriterStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            rows: self.counters.rows.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
            last_commit_micros: self.counters.last_commit_micros.load(Ordering::Relaxed),
        }
    }

    /// Asks the thread to commit what is queued and to end; gives it for joining, the first time.
    pub(super) async fn close(&self) -> Option<JoinHandle<()>> {
        // Closed already: nothing is left to ask for.
        let _ = self.jobs.send(Job::Close).await;
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The thread's side.
struct Worker {
    queue: mpsc::Receiver<Job>,
    options: StoreOptions,
    conn: Option<Connection>,
    counters: Arc<Counters>,
    checkpointer: Checkpointer,
}

/// A job that has run and waits for the commit.
enum Pending {
    Decision(DecisionReply, Result<(), StoreError>),
    Call(Box<dyn Work>),
}

impl Pending {
    fn answer(self, lost: Option<&str>) {
        match self {
            Self::Decision(reply, result) => {
                let answer = result.and_then(|()| lost.map_or(Ok(()), |detail| Err(unavailable(detail))));
                // The caller may have stopped waiting; what is committed stays.
                let _ = reply.send(answer);
            }
            Self::Call(work) => work.answer(lost),
        }
    }
}

impl Worker {
    fn with_connection(mut self, conn: Connection) -> Self {
        self.conn = self.watched(conn).ok();
        self
    }

    fn watched(&self, mut conn: Connection) -> Result<Connection, StoreError> {
        self.checkpointer.watch(&mut conn).within("sqlite_schema")?;
        Ok(conn)
    }

    fn run(mut self) {
        let limit = self.options.commit_max_rows.max(1);
        let mut batch = Vec::with_capacity(limit);
        let mut previous = 0;
        while self.queue.blocking_recv_many(&mut batch, limit) > 0 {
            self.gather(&mut batch, previous.min(limit));
            previous = batch.len();
            self.commit(&mut batch);
            if let Some(conn) = &self.conn {
                self.checkpointer.after_commit(conn);
            }
        }
        self.checkpointer.stop(self.conn.take());
    }

    /// Waits a moment when fewer jobs are there than the last commit answered: its callers are about to send the next
    /// ones, and the moment is short against the commit that they would otherwise miss.
    fn gather(&mut self, batch: &mut Vec<Job>, expected: usize) {
        let commit = self.counters.last_commit_micros.load(Ordering::Relaxed);
        let pause = Duration::from_micros((commit / GATHER_SHARE).min(self.options.gather_micros));
        for _ in 0..GATHER_ROUNDS {
            if batch.len() >= expected || pause.is_zero() {
                return;
            }
            std::thread::sleep(pause);
            while batch.len() < expected
                && let Ok(job) = self.queue.try_recv()
            {
                batch.push(job);
            }
        }
    }

    /// Commits a batch and answers every caller.
    fn commit(&mut self, batch: &mut Vec<Job>) {
        let mut pending = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            match job {
                Job::Decision(row, reply) => pending.push((Some(row), Pending::Decision(reply, Ok(())))),
                Job::Call(work) => pending.push((None, Pending::Call(work))),
                Job::Close => self.queue.close(),
            }
        }
        if pending.is_empty() {
            return;
        }
        let begun = Instant::now();
        let lost = self.transaction(&mut pending).err().map(StoreError::into_detail);
        if let Some(detail) = &lost {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(jobs = pending.len(), detail, "store.commit_failed");
        } else {
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.counters.rows.fetch_add(pending.len() as u64, Ordering::Relaxed);
            self.counters.last_commit_micros.store(micros, Ordering::Relaxed);
        }
        for (_, pending) in pending {
            pending.answer(lost.as_deref());
        }
    }

    /// Runs the jobs in one transaction. An error means that nothing of it stays; the next one opens the connection
    /// again then, which costs less than a millisecond and recovers from whatever it was.
    fn transaction(&mut self, pending: &mut [(Option<Arc<DecisionRow>>, Pending)]) -> Result<(), StoreError> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.watched(connection::reopen_writer(&self.options)?)?,
        };
        let result = run(&conn, BEGIN_WRITE)
            .and_then(|()| run_jobs(&conn, pending))
            .and_then(|()| run(&conn, COMMIT_WRITE));
        if result.is_ok() {
            self.conn = Some(conn);
        } else if !conn.is_autocommit() {
            // Dropping the connection, which comes next, rolls back too.
            let _ = run(&conn, ROLLBACK_WRITE);
        }
        result
    }
}

/// Runs each job; an error means that the transaction is gone.
fn run_jobs(
    conn: &Connection,
    pending: &mut [(Option<Arc<DecisionRow>>, Pending)],
) -> Result<(), StoreError> {
    for (row, pending) in pending {
        match (row, pending) {
            (Some(row), Pending::Decision(_, result)) => match caught(|| decision::insert(conn, row)) {
                Ok(_) => {}
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => *result = Err(error),
            },
            (_, Pending::Call(work)) => {
                run(conn, BEGIN_JOB)?;
                if !work.run(conn) {
                    run(conn, UNDO_JOB)?;
                }
                run(conn, KEEP_JOB)?;
            }
            (None, Pending::Decision(..)) => {}
        }
        if conn.is_autocommit() {
            return Err(unavailable("the transaction was rolled back by the database"));
        }
    }
    decision_index::keep_up(conn)
}

/// Runs a part of a job; a panic of it is an error of it.
fn caught<T, E: From<StoreError>>(part: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // What it may have left half done is rolled back with the job.
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|_| {
        tracing::error!("store.job_panicked");
        Err(StoreError::Statement { detail: "the job panicked".into() }.into())
    })
}

fn run(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute([])).within("sqlite_schema").map(drop)
}

fn unavailable(detail: &str) -> StoreError {
    StoreError::Unavailable { detail: detail.into() }
}

fn closed() -> StoreError {
    unavailable("the store is closed")
}
