//! Decisions: searched by user, id, rule and date, newest first, page by page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use maud::{Markup, html};
use nudge_engine::{Rule, UserId};
use nudge_store::browse::SEARCH_WINDOW;
use nudge_store::{DecisionListed, DecisionPage, DecisionSearch, Outcome};
use uuid::Uuid;

use super::error::PageError;
use super::guard::Admin;
use super::input::{Input, address};
use super::page::{Part, Time, page, redirect};
use super::path;
use super::ui::{Tone, archetype, choice, count, empty, kind, notice, pager, scrolling, tag, user, words};
use crate::api::App;

/// Decisions on a page.
const PAGE: usize = 50;

/// Lists decisions.
pub async fn get_recommendations(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    if let Some(id) = input.get("id").and_then(|id| Uuid::try_parse(id).ok()) {
        return Ok(redirect(&decision_address(id)));
    }
    let (search, problem) = match search(&app, &input) {
        Ok(search) => (search, None),
        Err(problem) => (DecisionSearch { limit: PAGE, ..DecisionSearch::default() }, Some(problem)),
    };
    let found = match &problem {
        None => app.store.find_decisions(search).await?,
        Some(_) => DecisionPage::default(),
    };
    let content = html! {
        h1 { "Recommendations" }
        (form(&input))
        @match &problem {
            Some(problem) => (notice(Tone::Bad, problem)),
            None => (results(&app, &input, &found)),
        }
    };
    Ok(page(&app, &admin, Part::Recommendations, "Recommendations", &content))
}

/// The address of a decision's page.
pub fn decision_address(id: Uuid) -> String {
    format!("{}/{id}", path::RECOMMENDATIONS)
}

/// Reads what is searched for; the error says what is wrong with it.
fn search(app: &App, input: &Input) -> Result<DecisionSearch, String> {
    if input.get("id").is_some() {
        return Err(
            "The id of a recommendation is a UUID, such as 0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff.".into()
        );
    }
    let user = input.get("user").map(UserId::parse).transpose();
    let user = user.map_err(|error| format!("This is not a user id: {error}."))?;
    let rule = input.get("rule").map(str::parse::<Rule>).transpose();
    let rule = rule.map_err(|error| format!("This is not a rule: {error}."))?;
    let before = input.get("before").map(Uuid::try_parse).transpose();
    let before = before.map_err(|_| "The address of this page is damaged; search again.".to_owned())?;
    Ok(DecisionSearch {
        user,
        rule: rule.map(|rule| rule.as_str().to_owned()),
        since: day(app, input, "from", 0)?,
        until: day(app, input, "to", 1)?,
        before,
        limit: PAGE,
    })
}

/// Reads a day and gives the time at which it begins in the configured zone, or the one after so many days.
fn day(app: &App, input: &Input, name: &str, plus: i64) -> Result<Option<Timestamp>, String> {
    let Some(text) = input.get(name) else { return Ok(None) };
    let date: Date = text.parse().map_err(|_| format!("`{name}` is a date, such as 2026-03-09."))?;
    let date = date.saturating_add(Span::new().days(plus));
    let start =
        date.to_zoned_datetime(app.zone.clone()).map_err(|_| format!("`{name}` is beyond the calendar."))?;
    Ok(Some(start.timestamp()))
}

fn form(input: &Input) -> Markup {
    let value = |name: &str| input.get(name).unwrap_or_default().to_owned();
    html! {
        form.search method="get" action=(path::RECOMMENDATIONS) role="search" {
            label { "User id" input name="user" value=(value("user")) maxlength="64" autocomplete="off" spellcheck="false"; }
            label { "Recommendation id" input name="id" value=(value("id")) maxlength="36" autocomplete="off" spellcheck="false"; }
            label { "Rule"
                select name="rule" {
                    (choice("", "any", input.get("rule").is_none()))
                    @for rule in Rule::ALL {
                        (choice(rule.as_str(), rule.as_str(), input.get("rule") == Some(rule.as_str())))
                    }
                }
            }
            label { "Made from" input type="date" name="from" value=(value("from")); }
            label { "to" input type="date" name="to" value=(value("to")); }
            button { "Search" }
        }
    }
}

fn results(app: &App, input: &Input, found: &DecisionPage) -> Markup {
    let filters = ["user", "rule", "from", "to"].map(|name| (name, input.get(name)));
    let searched = filters.iter().any(|(_, value)| value.is_some());
    let next = found.next.map(|next| {
        let next = next.to_string();
        let [a, b, c, d] = filters;
        address(path::RECOMMENDATIONS, &[a, b, c, d, ("before", Some(&next))])
    });
    let first = input.get("before").map(|_| address(path::RECOMMENDATIONS, &filters));
    html! {
        @if found.rows.is_empty() && found.next.is_none() {
            @if searched || first.is_some() {
                (empty("Nothing was recorded that fits.", &html! { p { a href=(path::RECOMMENDATIONS) { "Show all recommendations" } } }))
            } @else {
                (empty("Nothing has been recommended yet.", &html! {
                    p { "The first answer of " code { "GET /functions/v1/transaction-recommendations" } " appears here. The "
                        a href="/" { "start page" } " has one to try." }
                }))
            }
        } @else if !found.rows.is_empty() {
            (scrolling("Recommendations", &table(app, &found.rows)))
        }
        @if found.window_ended {
            p.soft {
                "Looked at " (count(SEARCH_WINDOW as u64)) " decisions of any rule so far; there are older ones. "
                "A user or a range of dates makes the search shorter."
            }
        }
        (pager(first.as_deref(), next.as_deref(), if found.window_ended { "look further back" } else { "older" }))
    }
}

/// A table of decisions.
pub fn table(app: &App, rows: &[DecisionListed]) -> Markup {
    html! {
        table.lines {
            thead { tr {
                th scope="col" { "Made" } th scope="col" { "User" } th scope="col" { "Night" }
                th.number scope="col" { "Days" } th scope="col" { "Default" } th scope="col" { "Rule" }
                th scope="col" { "Archetype" } th scope="col" { "Outcome" }
            } }
            tbody {
                @for row in rows { tr {
                    td { a href=(decision_address(row.id)) { (Time(app, row.created_at).markup()) } }
                    td { (user(row.user_id.as_ref())) }
                    td.date { (row.target_date.to_string()) }
                    td.number { (row.days_until_checkin) }
                    td { (kind(row.primary)) }
                    td { (words(&row.rule)) }
                    td { @if row.personalized { (archetype(row.archetype)) } @else { span.soft { "neutral" } } }
                    td { (outcome(&row.outcome)) }
                } }
            }
        }
    }
}

/// What came of a decision, in a word or two.
pub fn outcome(outcome: &Outcome) -> Markup {
    html! {
        @match (outcome.followed_recommendation, outcome.user_selected) {
            (Some(true), _) => (tag(Tone::Good, "followed")),
            (Some(false), Some(selected)) => { (tag(Tone::Warn, "chose")) " " (selected.as_str()) },
            (Some(false), None) => (tag(Tone::Warn, "not followed")),
            (None, _) => span.soft { "open" },
        }
        @match (outcome.request_accepted, outcome.request_submitted) {
            (Some(true), _) => { " · accepted" },
            (Some(false), _) => { " · not accepted" },
            (None, true) => { " · sent" },
            (None, false) => {},
        }
        @if let Some(score) = outcome.nps_score { " · NPS " (score) }
    }
}
