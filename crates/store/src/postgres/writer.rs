//! Group commit of decisions: what has queued up while the last batches were being committed goes into one INSERT, which
//! is one transaction, and each caller is answered after its commit.
//!
//! A row that breaks a constraint is refused alone. One whose month has no partition yet is answered with
//! [`StoreError::NoPartition`]: it goes to the spool, and the spool's way back makes the month.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::convert::unavailable;
use super::decision;
use super::pool::Pool;
use crate::error::StoreError;
use crate::options::{PoolStats, WriterStats};
use crate::record::DecisionRow;

/// The answer to a decision.
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    Decision(Arc<DecisionRow>, Reply),
    Close,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    rows: AtomicU64,
    failures: AtomicU64,
    last_commit_micros: AtomicU64,
}

/// The callers' side.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the task. `connections` batches may be on their way at once.
    pub(super) fn start(pool: Pool, connections: usize, queue: usize, batch: usize) -> Self {
        let (jobs, waiting) = mpsc::channel(queue.max(1));
        let counters = Arc::new(Counters::default());
        let pool = Arc::new(pool);
        let task = Task {
            waiting,
            pool: Arc::clone(&pool),
            connections: connections.max(1),
            batch: batch.max(1),
            counters: Arc::clone(&counters),
        };
        let task = tokio::spawn(task.run());
        Self { jobs, counters, pool, task: Mutex::new(Some(task)) }
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

    pub(super) fn pool_stats(&self) -> PoolStats {
        self.pool.stats("decisions")
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

    /// Counts a transaction of another kind, so that the figures are those of every write.
    pub(super) fn count(&self, committed: bool, begun: Instant) {
        self.counters.count(committed.then_some(1), begun);
    }

    /// Commits what is queued, and ends.
    pub(super) async fn close(&self) {
        // Closed already: nothing is left to ask for.
        let _ = self.jobs.send(Job::Close).await;
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "store.writer_died");
        }
    }
}

impl Counters {
    fn count(&self, rows: Option<u64>, begun: Instant) {
        match rows {
            Some(rows) => {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.commits.fetch_add(1, Ordering::Relaxed);
                self.rows.fetch_add(rows, Ordering::Relaxed);
                self.last_commit_micros.store(micros, Ordering::Relaxed);
            }
            None => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

struct Task {
    waiting: mpsc::Receiver<Job>,
    pool: Arc<Pool>,
    connections: usize,
    batch: usize,
    counters: Arc<Counters>,
}

impl Task {
    async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.connections));
        let mut jobs = Vec::with_capacity(self.batch);
        // First a place, then the jobs: what comes while every connection is busy makes the next batch larger.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            if self.waiting.recv_many(&mut jobs, self.batch).await == 0 {
                break;
            }
            let mut rows = Vec::with_capacity(jobs.len());
            for job in jobs.drain(..) {
                match job {
                    Job::Decision(row, reply) => rows.push((row, reply)),
                    Job::Close => self.waiting.close(),
                }
            }
            if rows.is_empty() {
                continue;
            }
            let (pool, counters) = (Arc::clone(&self.pool), Arc::clone(&self.counters));
            tokio::spawn(async move {
                commit(&pool, &counters, rows).await;
                drop(place);
            });
        }
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        // Those that are still on their way.
        let _ = places.acquire_many(all).await;
        self.pool.close();
    }
}

/// Commits a batch and answers every caller.
async fn commit(pool: &Pool, counters: &Counters, jobs: Vec<(Arc<DecisionRow>, Reply)>) {
    let begun = Instant::now();
    let (rows, replies): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let answers = decision::insert_batch(pool, &rows).await;
    counters.count(answers.is_ok().then_some(rows.len() as u64), begun);
    let lost = match answers {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                // The caller may have stopped waiting; what is committed stays.
                let _ = reply.send(answer);
            }
            return;
        }
        Err(error) => error.into_detail(),
    };
    tracing::warn!(jobs = rows.len(), detail = lost, "store.commit_failed");
    for reply in replies {
        let _ = reply.send(Err(unavailable(lost.as_str())));
    }
}

fn closed() -> StoreError {
    unavailable("the store is closed")
}
