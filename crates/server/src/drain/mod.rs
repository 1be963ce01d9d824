//! Log drains: the log of requests, sent to where an operator wants it.
//!
//! Drains are rows of the database, so every replica knows them, and each sends the events of its own requests. A server
//! looks every few seconds for drains that have come or gone. Each has a bounded queue and a task of its own: one that
//! hangs or is slow fills its queue, loses what does not fit, counts it, and holds up nobody else.
//!
//! What leaves is made of fixed words, numbers, times, the request's id, and the user as the log keeps them: nothing that a
//! client has sent. Where next: [`filter`] for which events, [`delivery`] for how they are sent.

pub mod delivery;
pub mod filter;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use metrics::{counter, gauge};
use nudge_store::{LogDrain, RequestRow};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::outbound::signature::{SecretError, Signer};
use crate::outbound::{Destination, DestinationError};
use crate::request_log::buffer::Buffer;
use crate::request_log::{Surroundings, wait};
use filter::{FilterError, Filters};

/// Events that wait for one drain.
const WAITING: usize = 10_000;
/// How often the database's list is read.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a drain cannot be sent to as it is.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The URL.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The filters.
    #[error(transparent)]
    Filters(#[from] FilterError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A header that HTTP does not know, or that the server sets itself. The value is not quoted.
    #[error(
        "the header `{name}` cannot be sent: its name or value is not HTTP's, or the server sets it itself"
    )]
    Header {
        /// Its name.
        name: String,
    },
}

/// A drain as it is sent to.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Where to.
    pub destination: Destination,
    /// Which events.
    pub filters: Filters,
    /// Headers of every batch; the values are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What batches are signed with.
    pub signer: Option<Signer>,
}

impl Spec {
    /// Reads a drain of the database.
    ///
    /// # Errors
    /// [`SpecError`] names what cannot be used.
    pub fn parse(drain: &LogDrain) -> Result<Self, SpecError> {
        let header = |(name, value): (&String, &String)| {
            let wrong = || SpecError::Header { name: name.chars().take(60).collect() };
            let parsed: HeaderName = name.parse().map_err(|_| wrong())?;
            if is_ours(&parsed) {
                return Err(wrong());
            }
            let mut value: HeaderValue = value.parse().map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok((parsed, value))
        };
        Ok(Self {
            id: drain.id,
            name: drain.name.as_str().into(),
            destination: drain.destination.parse()?,
            filters: drain.filters.parse()?,
            headers: drain.headers.iter().map(header).collect::<Result<_, SpecError>>()?,
            signer: drain.secret.as_deref().map(Signer::new).transpose()?,
        })
    }
}

/// Says whether a header is the connection's, the body's, or one that says what a batch is.
fn is_ours(name: &HeaderName) -> bool {
    const OURS: [&str; 11] = [
        "host",
        "connection",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
    ];
    let name = name.as_str();
    OURS.contains(&name) || name.starts_with("webhook-") || name.starts_with("x-nudge-")
}

/// A drain with its queue.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) spec: Spec,
    pub(crate) queue: Buffer<Arc<RequestRow>>,
    /// Told when events have come.
    pub(crate) told: Notify,
    /// Set when the drain is gone or the server ends.
    pub(crate) stop: watch::Sender<bool>,
    /// Events of the batch that is being sent.
    pub(crate) in_hand: AtomicUsize,
}

impl Drain {
    pub(crate) fn new(spec: Spec, capacity: usize) -> Self {
        let drain = Self {
            spec,
            queue: Buffer::new(capacity),
            told: Notify::new(),
            stop: watch::Sender::new(false),
            in_hand: AtomicUsize::new(0),
        };
        // So that they are there before anything has happened.
        counter!("nudge_drain_sent_total", "drain" => drain.name()).increment(0);
        drain.failed("network", 0);
        drain.dropped("queue_full", 0);
        drain.show_depth();
        drain
    }

    fn name(&self) -> String {
        self.spec.name.to_string()
    }

    /// Takes an event, if it is one for this drain. Without room it is dropped and counted.
    pub(crate) fn offer(&self, row: &Arc<RequestRow>) {
        if self.spec.filters.let_through(row) && !self.queue.offer(Arc::clone(row)) {
            self.dropped("queue_full", 1);
        }
    }

    pub(crate) fn sent(&self, events: usize) {
        counter!("nudge_drain_sent_total", "drain" => self.name()).increment(events as u64);
    }

    /// Counts attempts that failed, by their cause.
    pub(crate) fn failed(&self, cause: &'static str, attempts: u64) {
        counter!("nudge_drain_failed_total", "drain" => self.name(), "cause" => cause).increment(attempts);
    }

    pub(crate) fn dropped(&self, reason: &'static str, events: usize) {
        counter!("nudge_drain_dropped_total", "drain" => self.name(), "reason" => reason)
            .increment(events as u64);
    }

    pub(crate) fn show_depth(&self) {
        gauge!("nudge_drain_queue_depth", "drain" => self.name()).set(self.queue.len() as f64);
    }
}

/// The drains of a running server.
#[derive(Debug)]
pub(crate) struct Drains {
    list: RwLock<Arc<[Arc<Drain>]>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Default for Drains {
    fn default() -> Self {
        Self { list: RwLock::new(Arc::new([])), tasks: tokio::sync::Mutex::default() }
    }
}

impl Drains {
    fn list(&self) -> Arc<[Arc<Drain>]> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Offers an event to every drain.
    pub(crate) fn offer(&self, row: &Arc<RequestRow>) {
        for drain in self.list().iter() {
            drain.offer(row);
        }
    }

    /// Tells the drains that events have come, and shows how many wait.
    pub(crate) fn tell(&self) {
        for drain in self.list().iter() {
            drain.show_depth();
            drain.told.notify_one();
        }
    }

    /// Follows the database's list until it is told to stop.
    pub(crate) async fn follow(&self, around: &Surroundings, mut stopped: watch::Receiver<bool>) {
        // What cannot be used, so that it is said once.
        let mut unusable: Vec<Uuid> = Vec::new();
        loop {
            match around.store.log_drains().await {
                Ok(found) => self.become_those(&found, &mut unusable, around).await,
                // Those that are known go on.
                Err(error) => tracing::debug!(%error, "drain.list_unreadable"),
            }
            if !wait(&mut stopped, LOOK_EVERY).await {
                return;
            }
        }
    }

    /// Starts the drains that are new and stops those that are gone.
    async fn become_those(&self, found: &[LogDrain], unusable: &mut Vec<Uuid>, around: &Surroundings) {
        let known = self.list();
        let same = known
            .iter()
            .map(|drain| drain.spec.id)
            .eq(found.iter().map(|drain| drain.id).filter(|id| !unusable.contains(id)));
        if same {
            return;
        }
        let mut list = Vec::with_capacity(found.len());
        let mut tasks = self.tasks.lock().await;
        for drain in found {
            if let Some(known) = known.iter().find(|known| known.spec.id == drain.id) {
                list.push(Arc::clone(known));
                continue;
            }
            match Spec::parse(drain) {
                Ok(spec) => {
                    tracing::info!(drain = drain.name, destination = %spec.destination, "drain.started");
                    let drain = Arc::new(Drain::new(spec, WAITING));
                    list.push(Arc::clone(&drain));
                    let (outbound, clock) = (around.outbound.clone(), around.clock.clone());
                    let instance = Arc::clone(&around.instance);
                    let delivery = delivery::Delivery::new(drain, outbound, clock, instance);
                    tasks.spawn(async move { delivery.run().await });
                }
                Err(error) => {
                    if !unusable.contains(&drain.id) {
                        tracing::warn!(drain = drain.name, %error, "drain.unusable");
                        unusable.push(drain.id);
                    }
                }
            }
        }
        for drain in known.iter().filter(|drain| !list.iter().any(|kept| kept.spec.id == drain.spec.id)) {
            tracing::info!(drain = %drain.spec.name, "drain.stopped");
            drain.stop.send_replace(true);
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list.into();
        // What has ended is forgotten.
        while tasks.try_join_next().is_some() {}
    }

    /// Lets every drain send what it has, for a limited time.
    pub(crate) async fn stop(&self, within: Duration) {
        let list = self.list();
        for drain in list.iter() {
            drain.stop.send_replace(true);
        }
        let mut tasks = self.tasks.lock().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            tasks.shutdown().await;
        }
        for drain in list.iter() {
            // Of a batch that was broken off nobody knows whether it was taken; it counts as lost.
            let left = drain.queue.len() + drain.in_hand.load(Ordering::Relaxed);
            if left > 0 {
                drain.dropped("shutdown", left);
                tracing::warn!(drain = %drain.spec.name, events = left, "drain.events_lost_at_shutdown");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;

    fn drain(headers: &[(&str, &str)], secret: Option<&str>) -> LogDrain {
        LogDrain {
            id: Uuid::nil(),
            name: "logs".into(),
            destination: "https://logs.example.com/in".into(),
            filters: "status>=500".into(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            secret: secret.map(str::to_owned),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn headers_that_the_server_sets_itself_or_that_are_none_are_refused() {
        assert!(Spec::parse(&drain(&[("authorization", "Bearer x"), ("x-source", "a")], None)).is_ok());
        for (name, value) in [
            ("Host", "internal"),
            ("Content-Length", "1"),
            ("transfer-encoding", "chunked"),
            ("content-encoding", "br"),
            ("webhook-signature", "v1,x"),
            ("X-Nudge-Batch-Id", "1"),
            ("a b", "1"),
            ("", "1"),
            ("x-a", "1\r\nx-b: 2"),
            ("x-a\r\nx-b", "1"),
        ] {
            let error = Spec::parse(&drain(&[(name, value)], None)).unwrap_err();
            assert!(matches!(error, SpecError::Header { .. }), "{name}: {error:?}");
        }
    }

    #[test]
    fn no_secret_shows_in_a_drain_that_is_shown() {
        let spec =
            Spec::parse(&drain(&[("authorization", "Bearer hidden")], Some("hidden hidden hidden"))).unwrap();
        assert!(!format!("{spec:?}").contains("hidden"), "{spec:?}");
        let wrong =
            LogDrain { headers: BTreeMap::from([("host".into(), "hidden".into())]), ..drain(&[], None) };
        let error = Spec::parse(&wrong).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hidden"));
    }
}
