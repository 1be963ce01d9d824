//! The one place that reads the machine's clock and makes ids. Everything else takes the time as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

/// A source of time: the machine's clock, or a fixed one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds since the epoch; `None` for the machine's clock.
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// Makes a clock that stands at `now` until it is moved.
    pub fn fixed(now: Timestamp) -> Self {
        Self { fixed: Some(Arc::new(AtomicI64::new(now.as_microsecond()))) }
    }

    /// Moves a fixed clock forward; does nothing to the machine's.
    pub fn advance(&self, seconds: i64) {
        if let Some(fixed) = &self.fixed {
            fixed.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
        }
    }

    /// Gives the time, in whole microseconds.
    pub fn now(&self) -> Timestamp {
        match &self.fixed {
            Some(fixed) => {
                Timestamp::from_microsecond(fixed.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
            }
            None => machine_time(),
        }
    }

    /// Gives the calendar day in a time zone.
    pub fn today(&self, zone: &TimeZone) -> Date {
        day_of(self.now(), zone)
    }
}

/// Gives the calendar day of an instant in a time zone.
pub fn day_of(at: Timestamp, zone: &TimeZone) -> Date {
    at.to_zoned_datetime(zone.clone()).date()
}

#[expect(clippy::disallowed_methods, reason = "this is the edge at which the machine's clock is read")]
fn machine_time() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Makes a UUIDv7 whose time part is `at`.
pub fn new_id(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    let nanos = u32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis / 1_000, nanos))
}
