//! Values in the form in which both engines keep or show them.

use jiff::Timestamp;

/// Writes a time as stored: UTC, six decimals, always 27 characters for the years 0 to 9999.
pub(crate) fn time_text(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// Drops what is finer than a stored time.
pub(crate) fn to_microsecond(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Rounds to two decimals, like `numeric(3,2)`.
pub(crate) fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
