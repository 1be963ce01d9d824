//! Alerts: where each stands, what has changed, and what is silenced.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use nudge_store::{AlertSilence, AlertState, AlertTransition};
use uuid::Uuid;

use super::error::PageError;
use super::guard::{Admin, Posted};
use super::input::{Input, address};
use super::page::{Part, Time, form_token, page_with, redirect};
use super::ui::{Tone, choice, count, empty, notice, number, scrolling, tag, words};
use super::{live, path};
use crate::alert::rule::Rule;
use crate::api::App;
use crate::usecases::alerts::{Shown, SilenceError, SilenceWanted};

/// Changes of state that are shown.
const HISTORY: u32 = 50;
/// Silences that are shown.
const SILENCES: usize = 30;
/// Hours for which an alert can be silenced here.
const HOURS: [i64; 6] = [1, 4, 24, 72, 168, 720];

/// What was tried and what came of it, above a page that is shown again.
#[derive(Debug, Default)]
struct Tried {
    input: Input,
    problem: Option<String>,
}

/// Lists the alerts.
pub async fn get_alerts(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    show(&app, &admin, StatusCode::OK, Tried { input, problem: None }).await
}

async fn show(app: &App, admin: &Admin, status: StatusCode, tried: Tried) -> Result<Response, PageError> {
    let now = app.clock.now();
    let history = app.alerts.history(None, HISTORY).await?;
    let silences = app.alerts.silences().await?;
    let content = html! {
        h1 { "Alerts" }
        @if let Some((tone, text)) = tried.input.get("done").and_then(done) { (notice(tone, text)) }
        @if let Some(problem) = &tried.problem { (notice(Tone::Bad, problem)) }
        (live::part(live::Part::Alerts, "State", &states(app).await?))
        section aria-labelledby="silence" {
            h2 #silence { "Silence" }
            (silence_form(admin, &tried.input))
            @if !silences.is_empty() { (scrolling("Silences", &silences_table(app, admin, &silences, now))) }
        }
        section aria-labelledby="history" {
            h2 #history { "History" }
            @if history.is_empty() { (empty("No alert has changed its state yet.", &html! {})) }
            @else { (scrolling("History", &history_table(app, &history))) }
        }
    };
    Ok(page_with(status, app, admin, Part::Alerts, "Alerts", &content))
}

/// Where each alert stands. Kept up to date while the page is open.
pub async fn states(app: &App) -> Result<Markup, PageError> {
    let shown = app.alerts.list(app.clock.now()).await?;
    Ok(html! {
        @if shown.is_empty() {
            (empty("No alert has been evaluated yet.", &html! { p { "The first evaluation comes within a minute of a server's start." } }))
        } @else {
            (scrolling("Alerts", &html! {
                table {
                    thead { tr {
                        th scope="col" { "Alert" } th scope="col" { "State" } th scope="col" { "Since" } th.number scope="col" { "Value" }
                        th.number scope="col" { "Above" } th scope="col" { "Window" } th.number scope="col" { "Sample" } th scope="col" { "Server" } th scope="col" { "What to do" }
                    } }
                    tbody { @for each in &shown { (row(app, each)) } }
                }
            }))
        }
    })
}

/// Alerts that are not as they should be, in one line each; for the overview.
pub async fn raised(app: &App) -> Result<Markup, PageError> {
    let shown = app.alerts.list(app.clock.now()).await?;
    let raised: Vec<&Shown> = shown
        .iter()
        .filter(|each| !each.stale && matches!(each.row.state, AlertState::Firing | AlertState::Pending))
        .collect();
    Ok(html! {
        @if raised.is_empty() {
            p { (tag(Tone::Good, "ok")) " No alert is firing or pending. " a href=(path::ALERTS) { "All alerts" } }
        } @else {
            ul.raised { @for each in raised { li {
                (state(each)) " " strong { (each.rule.title()) } ": " (value(each.rule, each.row.value))
                ", above " (value(each.rule, Some(each.row.threshold))) ", since " (Time(app, each.row.since).markup())
            } } }
            p { a href=(path::ALERTS) { "All alerts" } }
        }
    })
}

fn row(app: &App, each: &Shown) -> Markup {
    let row = &each.row;
    html! {
        tr {
            th scope="row" { (each.rule.title()) div.soft { (each.rule.as_str()) " · " (each.rule.severity()) } }
            td { (state(each)) }
            td { (Time(app, row.since).markup()) }
            td.number { (value(each.rule, row.value)) }
            td.number { (value(each.rule, Some(row.threshold))) }
            td { (window(row.window_secs)) }
            td.number { @match row.sample_size { Some(n) => { (count(n.unsigned_abs())) " " (each.rule.sample_of()) }, None => "–" } }
            td { @if row.instance.is_empty() { span.soft { "the service" } } @else { (row.instance) } }
            td { a href=(each.runbook) rel="noreferrer" { "runbook" } }
        }
    }
}

fn state(each: &Shown) -> Markup {
    html! {
        @if each.stale { (tag(Tone::Plain, "server gone")) }
        @else { (state_tag(each.row.state)) }
        @if let Some(silence) = &each.silence { " " span title=(silence.reason) { (tag(Tone::Info, "silenced")) } }
    }
}

fn state_tag(state: AlertState) -> Markup {
    match state {
        AlertState::Ok => tag(Tone::Good, "ok"),
        AlertState::Pending => tag(Tone::Warn, "pending"),
        AlertState::Firing => tag(Tone::Bad, "firing"),
        AlertState::NoData => tag(Tone::Plain, "no data"),
    }
}

fn value(rule: Rule, value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let text = number((value * 100.0).round() / 100.0);
    match rule.unit() {
        "percent" => format!("{text} %"),
        "milliseconds" => format!("{text} ms"),
        "hours" => format!("{text} h"),
        _ => text,
    }
}

fn window(seconds: i64) -> String {
    match seconds {
        0 => "now".to_owned(),
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

fn silence_form(admin: &Admin, input: &Input) -> Markup {
    let chosen = input.get("rule");
    html! {
        form.card.stacked method="post" action=(path::SILENCE) {
            (form_token(admin))
            label { "Alert"
                select name="rule" required {
                    (choice("", "choose one", chosen.is_none()))
                    @for rule in Rule::ALL { (choice(rule.as_str(), rule.title(), chosen == Some(rule.as_str()))) }
                    (choice("all", "all of them", chosen == Some("all")))
                }
            }
            label { "For"
                select name="hours" {
                    @for hours in HOURS { (choice(&hours.to_string(), &length(hours), input.get("hours") == Some(hours.to_string().as_str()))) }
                }
            }
            label { "Server (empty: all)" input name="instance" maxlength="128" value=(input.get("instance").unwrap_or_default()); }
            label.wide { "Reason, which the audit log keeps"
                textarea name="reason" required maxlength="2000" rows="2" { (input.get("reason").unwrap_or_default()) }
            }
            div.wide { button { "Silence" } " " span.soft { "It is evaluated on; nobody is told of it." } }
        }
    }
}

fn length(hours: i64) -> String {
    match hours {
        1 => "1 hour".to_owned(),
        hours if hours < 72 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

fn silences_table(app: &App, admin: &Admin, silences: &[AlertSilence], now: Timestamp) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Alert" } th scope="col" { "State" } th scope="col" { "From" } th scope="col" { "Until" } th scope="col" { "By" } th scope="col" { "Reason" } th scope="col" { "End it" }
            } }
            tbody { @for silence in silences.iter().take(SILENCES) { tr {
                th scope="row" { (silence.rule.as_deref().map_or_else(|| "all of them".to_owned(), words)) @if let Some(instance) = &silence.instance { div.soft { (instance) } } }
                td {
                    @if silence.is_live(now) { (tag(Tone::Info, "in force")) }
                    @else if let Some(by) = &silence.lifted_by { (tag(Tone::Plain, "ended")) " by " (by) }
                    @else { (tag(Tone::Plain, "over")) }
                }
                td { (Time(app, silence.created_at).markup()) }
                td { (Time(app, silence.lifted_at.unwrap_or(silence.ends_at)).markup()) }
                td { (silence.created_by) }
                td.said { (silence.reason) }
                td { @if silence.is_live(now) {
                    form method="post" action=(path::UNSILENCE) {
                        (form_token(admin)) input type="hidden" name="id" value=(silence.id.to_string());
                        button.quiet { "End the silence" }
                    }
                } }
            } } }
        }
    }
}

fn history_table(app: &App, history: &[AlertTransition]) -> Markup {
    html! {
        table.compact {
            thead { tr { th scope="col" { "When" } th scope="col" { "Alert" } th scope="col" { "Change" } th.number scope="col" { "Value" } th.number scope="col" { "Above" } th scope="col" { "Server" } } }
            tbody { @for each in history { tr {
                td { (Time(app, each.at).markup()) }
                th scope="row" { (words(&each.rule)) }
                td { (state_tag(each.from)) " → " (state_tag(each.to)) }
                td.number { (figure(&each.rule, each.value)) }
                td.number { (figure(&each.rule, Some(each.threshold))) }
                td { @if each.instance.is_empty() { span.soft { "the service" } } @else { (each.instance) } }
            } } }
        }
    }
}

fn figure(rule: &str, figure: Option<f64>) -> String {
    match rule.parse::<Rule>() {
        Ok(rule) => value(rule, figure),
        Err(_) => figure.map_or_else(|| "–".to_owned(), number),
    }
}

/// Silences an alert.
pub async fn post_silence(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let now = app.clock.now();
    let wanted = match wanted(&posted.input, now) {
        Ok(wanted) => wanted,
        Err(problem) => return again(&app, posted, problem).await,
    };
    match app.alerts.silence(wanted, &posted.admin.actor, now).await {
        Ok(_) => Ok(redirect(&address(path::ALERTS, &[("done", Some("silenced"))]))),
        Err(SilenceError::Store(error)) => Err(error.into()),
        Err(error @ (SilenceError::Reason | SilenceError::End)) => {
            again(&app, posted, error.to_string()).await
        }
    }
}

async fn again(app: &App, posted: Posted, problem: String) -> Result<Response, PageError> {
    let tried = Tried { input: posted.input, problem: Some(problem) };
    show(app, &posted.admin, StatusCode::BAD_REQUEST, tried).await
}

fn wanted(input: &Input, now: Timestamp) -> Result<SilenceWanted, String> {
    let rule = match input.get("rule") {
        Some("all") => None,
        Some(rule) => Some(rule.parse::<Rule>().map_err(|error| error.to_string())?),
        None => return Err("Choose an alert.".to_owned()),
    };
    let hours = input.get("hours").and_then(|hours| hours.parse().ok()).filter(|hours| HOURS.contains(hours));
    let hours = hours.ok_or_else(|| "Choose for how long.".to_owned())?;
    let ends_at = now.checked_add(SignedDuration::from_hours(hours)).map_err(|error| error.to_string())?;
    let reason = input.get("reason").unwrap_or_default().replace("\r\n", "\n");
    Ok(SilenceWanted { rule, instance: input.get("instance").map(str::to_owned), reason, ends_at })
}

/// Ends a silence.
pub async fn post_unsilence(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let id = posted.input.get("id").and_then(|id| Uuid::try_parse(id).ok());
    let id = id.ok_or_else(|| PageError::bad("The form names no silence."))?;
    let done = match app.alerts.unsilence(id, &posted.admin.actor, app.clock.now()).await? {
        Some(_) => "unsilenced",
        None => "over",
    };
    Ok(redirect(&address(path::ALERTS, &[("done", Some(done))])))
}

/// Says what was done, by the word in the address: nothing else of it is shown.
fn done(word: &str) -> Option<(Tone, &'static str)> {
    match word {
        "silenced" => Some((Tone::Good, "The alert was silenced.")),
        "unsilenced" => Some((Tone::Good, "The silence was ended.")),
        "over" => Some((Tone::Info, "The silence was over already.")),
        _ => None,
    }
}
