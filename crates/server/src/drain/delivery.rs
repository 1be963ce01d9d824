//! How the events of a drain are sent.
//!
//! A batch is a JSON array of at most 250 events, or what has come within a second, compressed with gzip, with an id that stays
//! the same however often it is tried. Batches go one after the other. What fails on the network, with 429 or with 5xx
//! is tried again with growing, scattered pauses, or when the other end says (`Retry-After`); anything else that is no
//! success loses the batch at once: the same bytes would be refused again. A batch whose answer was lost on the way
//! back is sent twice, with the same id.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use nudge_store::RequestRow;
use serde::Serialize;
use uuid::Uuid;

use super::filter::Level;
use super::{Drain, Spec};
use crate::clock::{Clock, new_id};
use crate::outbound::{Advice, Answer, Outbound, OutboundError, Post};

/// Most events of a batch.
pub const BATCH: usize = 250;
/// The header with a batch's id, a UUIDv7.
pub const BATCH_ID: HeaderName = HeaderName::from_static("x-nudge-batch-id");
/// The header with the drain's name.
pub const DRAIN: HeaderName = HeaderName::from_static("x-nudge-drain");

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long the first event of a batch waits for others.
    pub(crate) gather: Duration,
    /// The first pause before another try; each is twice the one before.
    pub(crate) first_pause: Duration,
    /// The longest of those pauses.
    pub(crate) longest_pause: Duration,
    /// The longest pause that the other end may ask for.
    pub(crate) longest_wish: Duration,
    /// How long one batch is tried.
    pub(crate) give_up: Duration,
}

const PACE: Pace = Pace {
    gather: Duration::from_secs(1),
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_secs(30),
    longest_wish: Duration::from_secs(300),
    give_up: Duration::from_secs(600),
};

/// An event as it leaves.
#[derive(Debug, Serialize)]
struct Event<'a> {
    id: Uuid,
    timestamp: Timestamp,
    level: &'static str,
    message: String,
    function_name: &'a str,
    method: &'a str,
    status: u16,
    response_time_ms: u32,
    user_id: Option<&'a str>,
    request_id: Uuid,
    error_code: Option<&'a str>,
    instance: &'a str,
}

impl<'a> Event<'a> {
    fn of(row: &'a RequestRow, instance: &'a str) -> Self {
        let RequestRow { method, function_name, status, response_time_ms, .. } = row;
        Self {
            id: row.id,
            timestamp: row.created_at,
            level: Level::of(row.status).as_str(),
            message: format!("{method} {function_name} {status} in {response_time_ms} ms"),
            function_name,
            method,
            status: *status,
            response_time_ms: *response_time_ms,
            user_id: row.user_id.as_deref(),
            request_id: row.id,
            error_code: row.error_code.as_deref(),
            instance,
        }
    }
}

/// A batch, ready to be sent any number of times.
#[derive(Debug, Clone)]
struct Batch {
    id: String,
    events: usize,
    body: Vec<u8>,
}

impl Batch {
    fn of(rows: &[Arc<RequestRow>], instance: &str, now: Timestamp) -> std::io::Result<Self> {
        let events: Vec<Event<'_>> = rows.iter().map(|row| Event::of(row, instance)).collect();
        // In one piece: the encoder clears a buffer of 32 kB at every write, however short.
        let plain = serde_json::to_vec(&events)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain)?;
        Ok(Self { id: new_id(now).to_string(), events: events.len(), body: gzip.finish()? })
    }

    fn post(&self, spec: &Spec, now: Timestamp) -> Post {
        let plain = |text: &str| HeaderValue::from_str(text).ok();
        let mut headers = spec.headers.clone();
        headers.extend([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        ]);
        headers.extend(plain(&self.id).map(|id| (BATCH_ID, id)));
        headers.extend(plain(&spec.name).map(|name| (DRAIN, name)));
        if let Some(signer) = &spec.signer {
            headers.extend(signer.headers(&self.id, now, &self.body));
        }
        Post { destination: spec.destination.clone(), headers, body: self.body.clone() }
    }
}

/// Sends one event that says it is a test, once, and gives what came back.
///
/// # Errors
/// [`OutboundError`] when there is no complete answer.
pub async fn send_test(
    spec: &Spec,
    outbound: &Outbound,
    instance: &str,
    now: Timestamp,
) -> Result<Answer, OutboundError> {
    let row = RequestRow {
        id: new_id(now),
        function_name: "test",
        method: "GET",
        status: 200,
        response_time_ms: 0,
        user_id: None,
        error_code: None,
        created_at: now,
    };
    let batch = Batch::of(&[Arc::new(row)], instance, now)
        .map_err(|error| OutboundError::Request(error.to_string()))?;
    outbound.post(batch.post(spec, now)).await
}

/// What is to be done with a batch after an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// Try again, and when the other end has said so, not before.
    Again {
        cause: &'static str,
        after: Option<Duration>,
    },
    Lost {
        cause: &'static str,
    },
}

impl Verdict {
    fn of(sent: &Result<Answer, OutboundError>) -> Self {
        match sent {
            Ok(answer) => match answer.advice() {
                Advice::Taken => Self::Taken,
                Advice::Later if answer.status == 429 => {
                    Self::Again { cause: "status_429", after: answer.retry_after }
                }
                Advice::Later => Self::Again { cause: "status_5xx", after: answer.retry_after },
                Advice::Never => Self::Lost { cause: "status_other" },
            },
            Err(error) if error.is_worth_a_retry() => Self::Again { cause: "network", after: None },
            Err(OutboundError::Refused(_)) => Self::Lost { cause: "address_refused" },
            Err(_) => Self::Lost { cause: "unsendable" },
        }
    }
}

/// The task of a drain.
#[derive(Debug)]
pub(crate) struct Delivery {
    drain: Arc<Drain>,
    outbound: Outbound,
    clock: Clock,
    instance: Arc<str>,
    pace: Pace,
    /// Whether the last attempt failed, so that a fault is logged once.
    failing: AtomicBool,
}

impl Delivery {
    pub(crate) fn new(drain: Arc<Drain>, outbound: Outbound, clock: Clock, instance: Arc<str>) -> Self {
        Self { drain, outbound, clock, instance, pace: PACE, failing: AtomicBool::new(false) }
    }

    /// Sends batches until the drain is stopped and nothing is left to send.
    pub(crate) async fn run(&self) {
        while let Some(rows) = self.gather().await {
            let events = rows.len();
            self.drain.in_hand.store(events, Ordering::Relaxed);
            let now = self.clock.now();
            // Some milliseconds of work, which is for a thread that may be busy.
            let instance = Arc::clone(&self.instance);
            let made = tokio::task::spawn_blocking(move || Batch::of(&rows, &instance, now)).await;
            match made {
                Ok(Ok(batch)) => self.deliver(&batch).await,
                problem => {
                    tracing::error!(?problem, "drain.batch_not_made");
                    self.drain.dropped("unsendable", events);
                }
            }
            self.drain.in_hand.store(0, Ordering::Relaxed);
            self.drain.show_depth();
        }
    }

    /// Waits for a batch: full, or a moment after its first event. `None` once there will be no more.
    async fn gather(&self) -> Option<Vec<Arc<RequestRow>>> {
        let mut stopped = self.drain.stop.subscribe();
        while self.drain.queue.is_empty() {
            tokio::select! {
                () = self.drain.told.notified() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {
                    if self.drain.queue.is_empty() {
                        return None;
                    }
                }
            }
        }
        let moment = tokio::time::sleep(self.pace.gather);
        tokio::pin!(moment);
        while self.drain.queue.len() < BATCH && !*stopped.borrow_and_update() {
            tokio::select! {
                () = self.drain.told.notified() => {}
                () = &mut moment => break,
                _ = stopped.changed() => {}
            }
        }
        let mut rows = Vec::new();
        self.drain.queue.take(BATCH, &mut rows);
        Some(rows)
    }

    /// Sends a batch until it is taken, lost or given up.
    async fn deliver(&self, batch: &Batch) {
        let mut stopped = self.drain.stop.subscribe();
        let begun = Instant::now();
        let mut pause = self.pace.first_pause;
        loop {
            let sent = self.outbound.post(batch.post(&self.drain.spec, self.clock.now())).await;
            let verdict = Verdict::of(&sent);
            self.note(&verdict, &sent);
            let after = match verdict {
                Verdict::Taken => return self.drain.sent(batch.events),
                Verdict::Lost { cause } => return self.drain.dropped(cause, batch.events),
                Verdict::Again { after, .. } => after,
            };
            if begun.elapsed() >= self.pace.give_up {
                return self.drain.dropped("gave_up", batch.events);
            }
            let wish = after.map(|wish| wish.min(self.pace.longest_wish));
            let pause_now = scattered(wish, pause);
            pause = (2 * pause).min(self.pace.longest_pause);
            let ended = tokio::time::timeout(pause_now, stopped.wait_for(|stopped| *stopped)).await;
            if ended.is_ok() {
                return self.drain.dropped("shutdown", batch.events);
            }
        }
    }

    /// Counts an attempt that failed, and logs where failing begins and ends.
    fn note(&self, verdict: &Verdict, sent: &Result<Answer, OutboundError>) {
        let drain = &*self.drain.spec.name;
        let cause = match verdict {
            Verdict::Taken => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(drain, "drain.delivering_again");
                }
                return;
            }
            Verdict::Again { cause, .. } | Verdict::Lost { cause } => cause,
        };
        self.drain.failed(cause, 1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let status = sent.as_ref().map_or(0, |answer| answer.status);
            let error = sent.as_ref().err().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(drain, cause, status, error, "drain.delivery_failed");
        }
    }
}

/// Gives the pause before another try: what the other end asked for and a little, or between half of the usual one and all
/// of it, so that many servers that failed together do not come back together.
fn scattered(wish: Option<Duration>, usual: Duration) -> Duration {
    match wish {
        Some(wish) => wish + usual.mul_f64(0.2 * fastrand::f64()),
        None => usual.mul_f64(0.5 + 0.5 * fastrand::f64()),
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
