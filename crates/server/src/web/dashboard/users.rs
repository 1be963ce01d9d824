//! Users: found by id, or looked through by archetype.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use maud::{Markup, html};
use nudge_engine::{Archetype, UserId};
use nudge_store::{ArchetypeFilter, ArchetypeListed};

use super::error::PageError;
use super::guard::Admin;
use super::input::{Input, address};
use super::page::{Part, Time, page, redirect};
use super::path;
use super::ui::{Tone, archetype, choice, empty, notice, number, pager, scrolling, tag, user, user_address};
use crate::api::App;

/// Users on a page.
const PAGE: usize = 50;
/// The filter of those that an admin set.
const OVERRIDDEN: &str = "overridden";

/// Lists users with a stored archetype, or goes to the one whose id was given.
pub async fn get_users(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    let problem = match input.get("id").map(UserId::parse) {
        Some(Ok(id)) => return Ok(redirect(&user_address(&id))),
        Some(Err(error)) => Some(format!("This is not a user id: {error}.")),
        None => None,
    };
    let filter = match input.get("archetype") {
        Some(OVERRIDDEN) => ArchetypeFilter::Overridden,
        Some(word) => word.parse().map_or(ArchetypeFilter::All, ArchetypeFilter::Of),
        None => ArchetypeFilter::All,
    };
    let after = input.get("after").and_then(|after| UserId::parse(after).ok());
    // One more than shown tells whether there is a next page.
    let mut rows = app.store.list_archetypes(filter, after.as_ref(), PAGE + 1).await?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let content = html! {
        h1 { "Users" }
        (form(&input))
        @if let Some(problem) = &problem { (notice(Tone::Bad, problem)) }
        (list(&app, &rows, filter))
        (pages(&input, &rows, more))
    };
    Ok(page(&app, &admin, Part::Users, "Users", &content))
}

fn form(input: &Input) -> Markup {
    let chosen = input.get("archetype");
    html! {
        form.search method="get" action=(path::USERS) role="search" {
            label { "User id" input name="id" value=(input.get("id").unwrap_or_default()) maxlength="64" autocomplete="off" spellcheck="false"; }
            label { "Or look through"
                select name="archetype" {
                    (choice("", "everybody with an archetype", chosen.is_none()))
                    @for each in Archetype::ALL { (choice(each.as_str(), each.label(), chosen == Some(each.as_str()))) }
                    (choice(OVERRIDDEN, "those that an admin set", chosen == Some(OVERRIDDEN)))
                }
            }
            button { "Find" }
        }
    }
}

fn list(app: &App, rows: &[ArchetypeListed], filter: ArchetypeFilter) -> Markup {
    let now = app.clock.now();
    html! {
        @if rows.is_empty() {
            @if filter == ArchetypeFilter::Overridden {
                (empty("No archetype is overridden.", &html! { p { "Find a user by id to override theirs." } }))
            } @else {
                (empty("No archetype is stored.", &html! {
                    p { "Archetypes are computed from requests: bring them with " code { "nudge import date_change_requests FILE" }
                        " or the ingest route. A user's archetype is computed when they are first asked for, or by the job." }
                }))
            }
        } @else {
            (scrolling("Users", &html! {
                table.lines {
                    thead { tr {
                        th scope="col" { "User" } th scope="col" { "Archetype" } th.number scope="col" { "Confidence" }
                        th scope="col" { "Set by" } th scope="col" { "Computed or set" }
                    } }
                    tbody { @for row in rows { tr {
                        td { (user(Some(&row.user_id))) }
                        td { (archetype(row.archetype)) }
                        td.number { (number(row.confidence)) }
                        td {
                            @match (row.overridden, row.override_expires_at) {
                                (false, _) => span.soft { "signals" },
                                (true, Some(end)) if end <= now => (tag(Tone::Plain, "override, expired")),
                                (true, Some(end)) => { (tag(Tone::Info, "override")) " until " (Time(app, end).markup()) },
                                (true, None) => { (tag(Tone::Info, "override")) " until reset" },
                            }
                        }
                        td { (Time(app, row.computed_at).markup()) }
                    } } }
                }
            }))
        }
    }
}

fn pages(input: &Input, rows: &[ArchetypeListed], more: bool) -> Markup {
    let chosen = ("archetype", input.get("archetype"));
    let first = input.get("after").map(|_| address(path::USERS, &[chosen]));
    let last = rows.last().filter(|_| more).map(|row| row.user_id.as_str());
    let next = last.map(|last| address(path::USERS, &[chosen, ("after", Some(last))]));
    pager(first.as_deref(), next.as_deref(), "next")
}
