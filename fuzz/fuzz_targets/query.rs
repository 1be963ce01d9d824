//! The query of a recommendation: whatever the bytes, an answer or a refusal, and what is accepted keeps to the rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nudge::api::query::{Query, target_date, timestamp};
use nudge::api::recommendations::question;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok((question, session)) = question(Some(&text)) {
        assert_ne!(question.user, question.roommate);
        for id in [question.user.as_str(), question.roommate.as_str()] {
            assert!((1..=64).contains(&id.len()) && id != "anonymous");
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)));
        }
        assert!((1970..=9999).contains(&question.target_date.year()));
        if let Some(session) = session {
            assert!(
                (1..=128).contains(&session.len()) && session.bytes().all(|b| (b' '..=b'~').contains(&b))
            );
        }
    }
    if let Some(date) = target_date(&text) {
        assert!(text.starts_with(&date.to_string()), "{text} is not {date}");
    }
    if timestamp(&text).is_some() {
        assert!(target_date(&text).is_some() && text.len() >= 20);
    }
    if let Ok(query) = Query::parse(Some(&text), ["userId"]) {
        let _ = query.user(0, &["userId"]);
    }
});
