//! The recalculation job: its runs, how far the one under way is, and what came of those before.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use nudge_store::job::{Run, RunCancelled, RunCause, RunStatus, RunTotals};
use serde_json::Value;
use uuid::Uuid;

use super::error::PageError;
use super::guard::{Admin, Posted};
use super::input::{Input, address};
use super::page::{Part, Time, form_token, page, redirect};
use super::ui::{
    Tone, archetype, choice, count, empty, fact, figure, notice, number, percent, scrolling, tag,
    user_address, words,
};
use super::{live, path};
use crate::api::App;
use crate::usecases::job::{By, JobConfig, Triggered};
use crate::usecases::job_result::{JobResult, totals};

/// Runs that are listed.
const RUNS: u32 = 50;

/// Lists the runs.
pub async fn get_jobs(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: axum::http::request::Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    let runs = app.jobs.runs(RUNS).await?;
    let content = html! {
        h1 { "Jobs" }
        @if let Some((tone, text)) = input.get("done").and_then(done) { (notice(tone, text)) }
        (live::part(live::Part::Job, "Now", &now(&app, &admin).await?))
        section aria-labelledby="runs" {
            h2 #runs { "Runs" }
            @if runs.is_empty() {
                (empty("The job has not run yet.", &html! { p { "It runs by itself at the time above, or now with the button." } }))
            } @else {
                (scrolling("Runs", &table(&app, &runs)))
            }
        }
    };
    Ok(page(&app, &admin, Part::Jobs, "Jobs", &content))
}

/// The address of a run's page.
pub fn run_address(id: Uuid) -> String {
    format!("{}/{id}", path::JOBS)
}

/// How the job stands now: the run under way, or how to start one. Kept up to date while the page is open.
pub async fn now(app: &App, admin: &Admin) -> Result<Markup, PageError> {
    let current = app.jobs.current().await?;
    let next = app.job_schedule.next_due(app.clock.now(), &app.zone);
    Ok(html! {
        @match &current {
            Some(run) => (under_way(app, admin, run)),
            None => (start(admin)),
        }
        p.soft {
            @match next {
                Some(at) => { "Runs by itself next " (Time(app, at).text()) "." },
                None => "Does not run by itself.",
            }
        }
    })
}

fn under_way(app: &App, admin: &Admin, run: &Run) -> Markup {
    html! {
        div.card {
            h3 { "A run is " (status(run.status)) ", " a href=(run_address(run.id)) { "begun " (Time(app, run.started_at).markup()) } }
            dl.facts {
                (fact("Users looked at", &html! { (whole(run.processed)) }))
                (fact("Changed", &html! { (whole(run.updated)) }))
                (fact("Failed", &html! { (whole(run.failed)) }))
                (fact("Rate", &html! { (rate(app, run)) }))
                @if let Some(cursor) = &run.cursor { (fact("Last user done", &html! { (cursor) })) }
                @if let Some(at) = run.heartbeat_at { (fact("Last sign of life", &html! { (Time(app, at).text()) })) }
            }
            @if run.status == RunStatus::Interrupted { p { "Nobody works on it now. A server goes on with it within seconds, where it stopped." } }
            form method="post" action=(path::JOB_CANCEL) {
                (form_token(admin)) input type="hidden" name="id" value=(run.id.to_string());
                button.plain { "Cancel the run" }
            }
        }
    }
}

fn start(admin: &Admin) -> Markup {
    html! {
        form.card.stacked method="post" action=(path::JOB_START) {
            (form_token(admin))
            label.wide { "Whose archetypes are computed again"
                select name="who" {
                    (choice("stale", "those of users with news or an old archetype", true))
                    (choice("all", "everybody's", false))
                }
            }
            div.wide { button { "Start a run" } }
        }
    }
}

fn whole(number: i64) -> String {
    count(number.unsigned_abs())
}

fn seconds(app: &App, run: &Run) -> f64 {
    match run.duration_ms {
        Some(ms) => ms as f64 / 1_000.0,
        None => app.clock.now().duration_since(run.started_at).as_secs_f64().max(0.0),
    }
}

fn rate(app: &App, run: &Run) -> String {
    let seconds = seconds(app, run);
    if seconds < 0.1 {
        "–".to_owned()
    } else {
        format!("{} users/s", count((run.processed as f64 / seconds) as u64))
    }
}

fn took(app: &App, run: &Run) -> String {
    let seconds = seconds(app, run);
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

fn status(status: RunStatus) -> Markup {
    let tone = match status {
        RunStatus::Completed => Tone::Good,
        RunStatus::Running => Tone::Info,
        RunStatus::Interrupted | RunStatus::Cancelled => Tone::Warn,
        RunStatus::Failed => Tone::Bad,
    };
    tag(tone, status.as_str())
}

fn table(app: &App, runs: &[Run]) -> Markup {
    html! {
        table.lines {
            thead { tr {
                th scope="col" { "Began" } th scope="col" { "Kind" } th scope="col" { "Status" } th.number scope="col" { "Users" }
                th.number scope="col" { "Changed" } th.number scope="col" { "Failed" } th.number scope="col" { "Took" }
                th scope="col" { "Started by" } th scope="col" { "What went wrong" }
            } }
            tbody { @for run in runs { tr {
                td { a href=(run_address(run.id)) { (Time(app, run.started_at).markup()) } }
                td { (words(&run.job_type)) }
                td { (status(run.status)) }
                td.number { (whole(run.processed)) }
                td.number { (whole(run.updated)) }
                td.number { (whole(run.failed)) }
                td.number { (took(app, run)) }
                td { (trigger(run)) }
                td.said { (run.error_message.as_deref().unwrap_or_default()) }
            } } }
        }
    }
}

fn trigger(run: &Run) -> &str {
    run.metadata.get("trigger").and_then(Value::as_str).unwrap_or("–")
}

/// Shows a run.
pub async fn get_run(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let missing = || PageError::missing("There is no run with this id.");
    let id = Uuid::try_parse(&id).map_err(|_| missing())?;
    let run = app.jobs.run(id).await?.ok_or_else(missing)?;
    let result = JobResult::in_run(&run);
    let counted = totals(&run);
    let content = html! {
        h1 { "A run of the job" }
        p.soft { code { (run.id) } ", " (words(&run.job_type)) }
        dl.figures {
            (figure("Status", &status(run.status), &html! { (took(&app, &run)) }))
            (figure("Users looked at", &html! { (whole(run.processed)) }, &html! { (rate(&app, &run)) }))
            (figure("Changed", &html! { (whole(run.updated)) }, &html! { "another type, or a confidence that moved by more than 0.1" }))
            (figure("Failed", &html! { (whole(run.failed)) }, &html! { "their archetype stays as it was" }))
        }
        dl.facts {
            (fact("Began", &html! { (Time(&app, run.started_at).text()) }))
            @if let Some(at) = run.completed_at { (fact("Ended", &html! { (Time(&app, at).text()) })) }
            (fact("Started by", &html! { (trigger(&run)) }))
            @if let Some(config) = run.metadata.get("config") { (fact("Settings", &html! { (settings(config)) })) }
            @if let Some(problem) = &run.error_message { (fact("What went wrong", &html! { span.said { (problem) } })) }
        }
        @if let Some(counted) = &counted { (left_out(counted)) (moves(counted)) }
        @if let Some(result) = &result { (distribution(result)) (failures(result)) }
        @if result.is_none() && run.status.is_final() {
            p.soft { "Nothing was kept of the distribution after this run." }
        }
    };
    Ok(page(&app, &admin, Part::Jobs, "A run of the job", &content))
}

fn settings(config: &Value) -> String {
    match config.as_object() {
        Some(members) => {
            members.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        }
        None => String::new(),
    }
}

fn left_out(counted: &RunTotals) -> Markup {
    html! {
        p {
            "Left alone: " (count(counted.override_skipped)) " with an override in force, " (count(counted.opted_out)) " who opted out, "
            (count(counted.superseded)) " whose facts changed meanwhile (they stay marked)."
            @if counted.resumed > 0 { " Taken up again " (counted.resumed) " times." }
        }
    }
}

fn moves(counted: &RunTotals) -> Markup {
    html! {
        @if !counted.moves.is_empty() {
            section aria-labelledby="moves" { h2 #moves { "Moves" } (moves_table(counted)) }
        }
    }
}

/// Who moved from what to what.
pub fn moves_table(counted: &RunTotals) -> Markup {
    scrolling(
        "Moves",
        &html! {
            table.compact {
                thead { tr { th scope="col" { "From" } th scope="col" { "To" } th.number scope="col" { "Users" } } }
                tbody { @for each in &counted.moves { tr {
                    td { @match each.from { Some(from) => (archetype(from)), None => span.soft { "none" } } }
                    td { (archetype(each.to)) }
                    td.number { (count(each.count)) }
                } } }
            }
        },
    )
}

fn distribution(result: &JobResult) -> Markup {
    html! {
        section aria-labelledby="distribution" {
            h2 #distribution { "Distribution after the run" }
            (scrolling("Distribution after the run", &html! {
                table {
                    thead { tr { th scope="col" { "Archetype" } th.number scope="col" { "Users" } th.number scope="col" { "Share" } th.number scope="col" { "Run before" } th scope="col" { "Guide" } th scope="col" { "" } } }
                    tbody { @for share in &result.distribution { tr {
                        th scope="row" { (archetype(share.archetype)) }
                        td.number { (count(share.count)) }
                        td.number { (percent(share.share)) }
                        td.number { @match share.previous { Some(previous) => (percent(previous)), None => "–" } }
                        td { (format!("{:.0}–{:.0} %", 100.0 * share.band.0, 100.0 * share.band.1)) " "
                            @if share.within { (tag(Tone::Good, "within")) } @else { (tag(Tone::Warn, "outside")) } }
                        td { @if share.moved { (tag(Tone::Warn, "moved")) " more than " (number(result.drift_points)) " points" } }
                    } } }
                }
            }))
        }
    }
}

fn failures(result: &JobResult) -> Markup {
    html! {
        @if !result.failures.is_empty() {
            section aria-labelledby="failures" {
                h2 #failures { "Users that failed" }
                (scrolling("Users that failed", &html! {
                    table {
                        thead { tr { th scope="col" { "User" } th.number scope="col" { "Tries" } th scope="col" { "Why" } } }
                        tbody { @for failure in &result.failures { tr {
                            td { a.id href=(user_address(&failure.user_id)) { (failure.user_id.as_str()) } }
                            td.number { (failure.attempts) }
                            td.said { (failure.reason) }
                        } } }
                    }
                }))
            }
        }
    }
}

/// Starts a run.
pub async fn post_start(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let only_stale_users = match posted.input.get("who") {
        Some("stale") => true,
        Some("all") => false,
        _ => return Err(PageError::bad("Say whose archetypes are to be computed again.")),
    };
    let config = JobConfig { only_stale_users, ..JobConfig::default() };
    let done = match app.jobs.trigger(config, RunCause::Asked, By::Person(&posted.admin.actor)).await? {
        Triggered::Started(_) => "started",
        Triggered::Running(_) | Triggered::SeenTo => "running",
    };
    Ok(redirect(&address(path::JOBS, &[("done", Some(done))])))
}

/// Cancels a run.
pub async fn post_cancel(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let id = posted.input.get("id").and_then(|id| Uuid::try_parse(id).ok());
    let id = id.ok_or_else(|| PageError::bad("The form names no run."))?;
    let done = match app.jobs.cancel(id, &posted.admin.actor).await? {
        RunCancelled::Cancelled => "cancelled",
        RunCancelled::Ended(_) => "ended",
        RunCancelled::Unknown => return Err(PageError::missing("There is no run with this id.")),
    };
    Ok(redirect(&address(path::JOBS, &[("done", Some(done))])))
}

/// Says what was done, by the word in the address: nothing else of it is shown.
fn done(word: &str) -> Option<(Tone, &'static str)> {
    match word {
        "started" => Some((Tone::Good, "A run was started.")),
        "running" => Some((Tone::Info, "A run is under way already; no other was started.")),
        "cancelled" => Some((Tone::Good, "The run was cancelled. What it had stored stays.")),
        "ended" => Some((Tone::Info, "The run had ended before.")),
        _ => None,
    }
}
