//! What an admin's change takes and what is said of it, whoever asks: a route, a command or a page.

use super::archetype::{Done, Shown, Verb};

/// Checks an override's reason: 1–2000 characters after trimming, no control characters but newline.
///
/// # Errors
/// What is wrong with it.
pub fn parse_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    let length = reason.chars().count();
    if !(1..=2_000).contains(&length) {
        return Err(format!("must have 1 to 2000 characters; it has {length}"));
    }
    if reason.chars().any(|c| c.is_control() && c != '\n') {
        return Err("must hold no control characters but newline".to_owned());
    }
    Ok(reason.to_owned())
}

/// Says what was done.
pub fn message(verb: &Verb, done: &Done) -> String {
    match (verb, done) {
        (_, Done::OptedOut) => "The user has opted out; nothing was changed.".to_owned(),
        (_, Done::NothingToReset(_)) => "No override was set; nothing was changed.".to_owned(),
        (_, Done::OverrideKept(_)) => {
            "A manual override is in force and was kept; reset it first to recalculate.".to_owned()
        }
        (Verb::Recalculate, Done::Changed(Shown::NoHistory(_))) => {
            "The user has no requests, so nothing was stored.".to_owned()
        }
        (Verb::Recalculate, Done::Changed(_)) => "The archetype was recalculated.".to_owned(),
        (Verb::Override { expires_at: None, .. }, Done::Changed(_)) => {
            "The archetype was overridden until it is reset.".to_owned()
        }
        (Verb::Override { expires_at: Some(at), .. }, Done::Changed(_)) => {
            format!("The archetype was overridden until {at}.")
        }
        (Verb::Reset, Done::Changed(_)) => "The override was reset.".to_owned(),
    }
}
