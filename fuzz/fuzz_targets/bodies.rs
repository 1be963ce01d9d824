//! The JSON bodies of every route: whatever the bytes, values that keep to the rules or a refusal that repeats nothing.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use nudge::api::archetype::{OverrideBody, RecalculateBody, parse_expiry};
use nudge::api::body;
use nudge::api::ingest::parse_changes;
use nudge::usecases::admin::parse_reason;
use nudge::api::outcomes::parse_events;

fuzz_target!(|data: &[u8]| {
    if let Ok(events) = parse_events(data) {
        assert!((1..=500).contains(&events.len()));
        for event in events {
            assert!(event.nps_score.is_none_or(|score| score <= 10));
            assert!(
                event.time_to_decision_seconds.is_none_or(|seconds| (0.0..=604_800.0).contains(&seconds))
            );
        }
    }
    if let Ok(changes) = parse_changes(data) {
        assert!(!changes.is_empty());
    }
    let object = data.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    assert!(object || body::parse::<OverrideBody>(data).is_err());
    assert!(object || body::parse::<RecalculateBody>(data).is_err());
    let text = String::from_utf8_lossy(data);
    if let Ok(reason) = parse_reason(&text) {
        assert!((1..=2_000).contains(&reason.chars().count()) && reason.trim() == reason);
    }
    let now = Timestamp::UNIX_EPOCH;
    if let Ok(end) = parse_expiry(&text, now) {
        assert!(end > now);
    }
});
