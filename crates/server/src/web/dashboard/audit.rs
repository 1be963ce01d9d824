//! The audit log: its entries, and whether its chain is whole.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use maud::{Markup, html};
use nudge_engine::{Archetype, UserId};
use nudge_store::{AuditEntry, AuditReport};
use serde_json::Value;

use super::error::PageError;
use super::guard::Admin;
use super::input::{Input, address};
use super::page::{Part, Time, page};
use super::path;
use super::ui::{Tone, archetype, count, empty, notice, number, pager, scrolling, tag, user_address, words};
use crate::api::App;

/// Entries on a page.
const PAGE: usize = 50;

/// Lists audit entries.
pub async fn get_audit(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    let (user, problem) = match input.get("user").map(UserId::parse) {
        Some(Ok(user)) => (Some(user), None),
        Some(Err(error)) => (None, Some(format!("This is not a user id: {error}."))),
        None => (None, None),
    };
    let before = input.get("before").and_then(|before| before.parse().ok());
    // One more than shown tells whether there is a next page.
    let mut entries = app.store.audit_entries(user.as_ref(), before, PAGE + 1).await?;
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    let report = app.store.verify_audit(None).await?;
    let chosen = ("user", user.as_ref().map(UserId::as_str));
    let first = before.map(|_: i64| address(path::AUDIT, &[chosen]));
    let last = entries.last().filter(|_| more).map(|entry| entry.id.to_string());
    let next = last.map(|last| address(path::AUDIT, &[chosen, ("before", Some(&last))]));
    let content = html! {
        h1 { "Audit" }
        (chain(&report))
        form.search method="get" action=(path::AUDIT) role="search" {
            label { "User id" input name="user" value=(input.get("user").unwrap_or_default()) maxlength="64" autocomplete="off" spellcheck="false"; }
            button { "Find" }
        }
        @if let Some(problem) = &problem { (notice(Tone::Bad, problem)) }
        @if entries.is_empty() {
            (empty("No entry.", &html! { p { "Every change of an archetype by an admin, the service key or the command line is an entry here." } }))
        } @else {
            (scrolling("Audit entries", &table(&app, &entries)))
        }
        (pager(first.as_deref(), next.as_deref(), "older"))
    };
    Ok(page(&app, &admin, Part::Audit, "Audit", &content))
}

fn chain(report: &AuditReport) -> Markup {
    html! {
        @match &report.broken {
            Some((id, how)) => (notice(Tone::Bad, &format!("The chain is BROKEN at entry {id}: {how}. See \"The audit log\" in docs/DATABASE.md."))),
            None => p.chain {
                (tag(Tone::Good, "chain whole")) " " (count(report.entries)) " entries, each checked against the one before, just now."
                @if let Some(head) = &report.head { br; span.soft { "newest hash " code.hash { (head) } " – compare it with " code { "audit.head" } " in the server's log" } }
            },
        }
    }
}

/// A table of entries.
pub fn table(app: &App, entries: &[AuditEntry]) -> Markup {
    html! {
        table {
            thead { tr {
                th.number scope="col" { "No." } th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "Did" }
                th scope="col" { "To" } th scope="col" { "Change" } th scope="col" { "Reason" } th scope="col" { "From" } th scope="col" { "Hash" }
            } }
            tbody { @for entry in entries { tr {
                td.number { (entry.id) }
                td { (Time(app, entry.created_at).markup()) }
                td { (entry.admin_id) @if entry.actor_role != entry.admin_id { div.soft { (words(&entry.actor_role)) } } }
                td { (words(&entry.action)) }
                td { (target(entry)) }
                td { (change(&entry.metadata)) }
                td.said { (entry.metadata.get("reason").and_then(Value::as_str).unwrap_or_default()) }
                td { @if let Some(address) = &entry.ip_address { (address) }
                    @if let Some(agent) = &entry.user_agent { div.soft.agent title=(agent) { (agent) } } }
                td { code title=(entry.hash) { (entry.hash.get(..12).unwrap_or(&entry.hash)) } }
            } } }
        }
    }
}

fn target(entry: &AuditEntry) -> Markup {
    let Some(id) = &entry.target_user_id else { return html! {} };
    match UserId::parse(id) {
        Ok(user) => html! { a.id href=(user_address(&user)) { (id) } },
        Err(_) => html! { (id) },
    }
}

fn change(metadata: &Value) -> Markup {
    let side = |name: &str| metadata.get(name).filter(|value| value.is_object());
    html! {
        @match (side("old"), side("new")) {
            (None, None) => (others(metadata)),
            (old, new) => { (view(old)) " → " (view(new)) },
        }
    }
}

/// What an entry says that is about no archetype, the reason left out, which has a place of its own.
fn others(metadata: &Value) -> Markup {
    let said = metadata.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (name != "reason").then(|| (words(name), text))
    });
    html! { @for (name, text) in said { div { span.soft { (name) } " " (text) } } }
}

fn view(side: Option<&Value>) -> Markup {
    let Some(side) = side else { return html! { span.soft { "none" } } };
    let word = side.get("archetypeType").and_then(Value::as_str).unwrap_or_default();
    html! {
        @match word.parse::<Archetype>() { Ok(known) => (archetype(known)), Err(_) => (word) }
        @if let Some(confidence) = side.get("confidence").and_then(Value::as_f64) { " " span.soft { (number(confidence)) } }
    }
}
