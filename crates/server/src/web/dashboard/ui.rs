//! Small pieces that several pages are made of.

use maud::{Markup, PreEscaped, html};
use nudge_engine::{Archetype, TransactionType, UserId};

use super::input::address;
use super::path;

/// What a word or figure means to the reader, beside its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Info,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => "tag",
            Self::Good => "tag good",
            Self::Warn => "tag warn",
            Self::Bad => "tag bad",
            Self::Info => "tag info",
        }
    }
}

/// A word with a colour that says the same.
pub fn tag(tone: Tone, text: &str) -> Markup {
    html! { span class=(tone.class()) { (text) } }
}

/// A transaction type.
pub fn kind(transaction_type: TransactionType) -> Markup {
    html! { span class=(format!("kind {}", transaction_type.as_str())) { (transaction_type.as_str()) } }
}

/// An archetype by the name that people see, with its wire name.
pub fn archetype(archetype: Archetype) -> Markup {
    html! {
        span class=(format!("who-is {}", archetype.as_str())) title=(archetype.as_str()) { (archetype.label()) }
    }
}

/// A link to a user's page; of an anonymous caller the word.
pub fn user(user: Option<&UserId>) -> Markup {
    html! {
        @match user {
            Some(user) => a.id href=(user_address(user)) { (user.as_str()) },
            None => span.soft { "anonymous" },
        }
    }
}

/// The address of a user's page. In the query, as an id may be `..`.
pub fn user_address(user: &UserId) -> String {
    address(path::USER, &[("id", Some(user.as_str()))])
}

/// A table that scrolls on its own where the screen is narrow, and can be reached with the keyboard.
pub fn scrolling(label: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// What is said in place of a list without rows, and what to do.
pub fn empty(text: &str, next: &Markup) -> Markup {
    html! { div.empty { p { (text) } (next) } }
}

/// Something that was done, or not.
pub fn notice(tone: Tone, text: &str) -> Markup {
    let (class, role) = match tone {
        Tone::Bad | Tone::Warn => ("notice bad", "alert"),
        Tone::Good | Tone::Info | Tone::Plain => ("notice good", "status"),
    };
    html! { p class=(class) role=(role) { (text) } }
}

/// A figure with its name.
pub fn figure(name: &str, value: &Markup, note: &Markup) -> Markup {
    html! {
        div.figure { dt { (name) } dd.value { (value) } dd.note { (note) } }
    }
}

/// A name and what it is, in a list of such pairs.
pub fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The link to the next page, and to the first one.
pub fn pager(first: Option<&str>, next: Option<&str>, next_name: &str) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav.pager aria-label="Pages" {
                @if let Some(first) = first { a href=(first) { "← first page" } }
                @if let Some(next) = next { a rel="next" href=(next) { (next_name) " →" } }
            }
        }
    }
}

/// One choice of a list, selected or not.
pub fn choice(value: &str, text: &str, selected: bool) -> Markup {
    html! { option value=(value) selected[selected] { (text) } }
}

/// Dollars from JSON, as money is recorded.
pub fn dollars(amount: f64) -> String {
    let sign = if amount < 0.0 { "−" } else { "" };
    let amount = amount.abs();
    if amount.fract() < 0.005 { format!("{sign}${amount:.0}") } else { format!("{sign}${amount:.2}") }
}

/// A share as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number with commas between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with as many decimals as it needs, three at most.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A wire name as words.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A plot that was drawn here, hidden from those who read the table beside it.
pub fn drawn(svg: String) -> Markup {
    html! { div.plot aria-hidden="true" { (PreEscaped(svg)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (count(7), count(1_234), count(1_000_000)),
            ("7".into(), "1,234".into(), "1,000,000".into())
        );
        assert_eq!(
            (dollars(228.0), dollars(3.5), dollars(-4.0)),
            ("$228".into(), "$3.50".into(), "−$4".into())
        );
        assert_eq!(
            (number(0.5), number(24.0), number(1.0 / 3.0)),
            ("0.5".into(), "24".into(), "0.333".into())
        );
        assert_eq!(percent(0.1234), "12.3 %");
    }

    #[test]
    fn what_is_shown_is_escaped() {
        let shown = notice(Tone::Bad, "<script>alert(1)</script>").into_string();
        assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script"), "{shown}");
        let id = UserId::parse("..").unwrap();
        assert_eq!(user_address(&id), "/dashboard/user?id=..");
    }
}
