//! Archetypes: how many of each beside the bands, and how sure they are.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use nudge_engine::Archetype;
use nudge_store::ConfidenceStep;
use nudge_store::job::{Run, RunStatus};

use super::error::PageError;
use super::guard::Admin;
use super::input::address;
use super::page::{Part, Time, page};
use super::ui::{Tone, archetype, count, empty, figure, number, percent, scrolling, tag};
use super::{jobs, path, plot};
use crate::api::App;
use crate::usecases::job_result::{JobResult, band, totals};

/// Runs that are followed.
const RUNS: u32 = 60;
/// Fewest people of whom it is said whether a share is within its band.
const ENOUGH: u64 = 100;

/// One archetype's part of everybody.
struct Share {
    archetype: Archetype,
    count: u64,
    share: f64,
    /// Mean confidence; `None` without anybody.
    confidence: Option<f64>,
}

/// Shows the distribution and the confidences.
pub async fn get_archetypes(State(app): State<Arc<App>>, admin: Admin) -> Result<Response, PageError> {
    let steps = app.dashboard.confidences(&app.store).await?;
    let overridden = app.store.count_overridden().await?;
    let (shares, total) = shares(&steps);
    let runs = app.jobs.runs(RUNS).await?;
    let content = html! {
        h1 { "Archetypes" }
        @if total == 0 {
            (empty("No archetype is stored.", &html! {
                p { "Bring the app's requests with " code { "nudge import date_change_requests FILE" } " or the ingest route, then run the job." }
            }))
        } @else {
            dl.figures {
                @for share in &shares { (figure(share.archetype.label(), &html! { (percent(share.share)) }, &verdict(share, total))) }
                (figure("Everybody", &html! { (count(total)) }, &html! { "with a stored archetype" }))
                (figure("Set by an admin", &html! { (count(overridden)) }, &html! { a href=(address(path::USERS, &[("archetype", Some("overridden"))])) { "show them" } }))
            }
            p.soft { "Counted at most a minute ago." }
            section aria-labelledby="now" {
                h2 #now { "Distribution" }
                (scrolling("Distribution", &distribution(&shares)))
            }
            (over_time(&app, &runs)?)
            section aria-labelledby="confidence" {
                h2 #confidence { "Confidence" }
                p.soft { "How far the first score is ahead of the second: 0.4 is hardly, 0.95 is clearly; 1 is an override." }
                ul.legend { @for each in Archetype::ALL { li { (archetype(*each)) } } }
                (plot::confidences(&steps)?)
                details {
                    summary { "As a table" }
                    (scrolling("Confidence", &confidences(&steps)))
                }
            }
        }
    };
    Ok(page(&app, &admin, Part::Archetypes, "Archetypes", &content))
}

fn shares(steps: &[ConfidenceStep]) -> (Vec<Share>, u64) {
    let total: u64 = steps.iter().map(|step| step.count).sum();
    let shares = Archetype::ALL.iter().map(|archetype| {
        let own = steps.iter().filter(|step| step.archetype == *archetype);
        let (count, sum) = own.fold((0, 0.0), |(count, sum), step| (count + step.count, sum + step.sum));
        Share {
            archetype: *archetype,
            count,
            share: count as f64 / total.max(1) as f64,
            confidence: (count > 0).then(|| sum / count as f64),
        }
    });
    (shares.collect(), total)
}

fn verdict(share: &Share, total: u64) -> Markup {
    let (low, high) = band(share.archetype);
    html! {
        @if total < ENOUGH { (tag(Tone::Plain, "too few to say")) }
        @else if share.share < low { (tag(Tone::Warn, "below")) }
        @else if share.share > high { (tag(Tone::Warn, "above")) }
        @else { (tag(Tone::Good, "within")) }
        " the guide's " (format!("{:.0}–{:.0} %", 100.0 * low, 100.0 * high))
    }
}

/// The distribution after each run, and who moved in the newest.
fn over_time(app: &App, runs: &[Run]) -> Result<Markup, PageError> {
    let mut kept: Vec<(&Run, JobResult)> = runs
        .iter()
        .filter(|run| run.status == RunStatus::Completed)
        .filter_map(|run| Some((run, JobResult::in_run(run)?)))
        .collect();
    let moved = kept.first().and_then(|(run, _)| Some((*run, totals(run)?)));
    kept.reverse();
    let share = |result: &JobResult, wanted: Archetype| {
        result.distribution.iter().find(|share| share.archetype == wanted).map(|share| share.share)
    };
    let points: Vec<plot::RunShares> = kept
        .iter()
        .map(|(run, result)| {
            let day = run.started_at.to_zoned_datetime(app.zone.clone()).strftime("%d %b").to_string();
            (
                day,
                [Archetype::BigSpender, Archetype::HighFlexibility, Archetype::AverageUser]
                    .map(|each| share(result, each)),
            )
        })
        .collect();
    Ok(html! {
        section aria-labelledby="over-time" {
            h2 #over-time { "From run to run" }
            @if points.is_empty() {
                (empty("No run of the job has been completed yet.", &html! { p { "After each run the distribution is kept; " a href=(path::JOBS) { "start one" } " to see it here." } }))
            } @else {
                p.soft { @if points.len() == 1 { "The shares after the only completed run so far." } @else { "The shares after each of the last " (points.len()) " completed runs." } " Shaded is the guide's band of each." }
                ul.legend { @for each in Archetype::ALL { li { (archetype(*each)) } } }
                (plot::shares(&points)?)
                details {
                    summary { "As a table" }
                    (scrolling("Shares from run to run", &html! {
                        table.compact {
                            thead { tr { th scope="col" { "Run" } @for each in Archetype::ALL { th.number scope="col" { (each.label()) } } } }
                            tbody { @for (run, result) in kept.iter().rev() { tr {
                                th scope="row" { a href=(jobs::run_address(run.id)) { (Time(app, run.started_at).markup()) } }
                                @for each in Archetype::ALL { td.number { @match share(result, *each) { Some(share) => (percent(share)), None => "–" } } }
                            } } }
                        }
                    }))
                }
                @if let Some((run, counted)) = &moved {
                    h3 { "Moves in the newest run, " a href=(jobs::run_address(run.id)) { (Time(app, run.started_at).markup()) } }
                    @if counted.moves.is_empty() { p.soft { "Nobody moved." } } @else { (jobs::moves_table(counted)) }
                }
            }
        }
    })
}

fn distribution(shares: &[Share]) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Archetype" } th.number scope="col" { "Users" } th.number scope="col" { "Share" }
                th scope="col" { "Guide" } th.number scope="col" { "Mean confidence" } th scope="col" { "Look through" }
            } }
            tbody { @for share in shares {
                @let (low, high) = band(share.archetype);
                tr {
                    th scope="row" { (archetype(share.archetype)) div.soft { (share.archetype.description()) } }
                    td.number { (count(share.count)) }
                    td.number { (percent(share.share)) }
                    td.whole { (format!("{:.0}–{:.0} %", 100.0 * low, 100.0 * high)) }
                    td.number { @match share.confidence { Some(mean) => (number(mean)), None => "–" } }
                    td { a href=(address(path::USERS, &[("archetype", Some(share.archetype.as_str()))])) { "users" } }
                }
            } }
        }
    }
}

fn confidences(steps: &[ConfidenceStep]) -> Markup {
    let rows = plot::by_step(steps);
    html! {
        table.compact {
            thead { tr {
                th scope="col" { "Confidence" }
                @for each in Archetype::ALL { th.number scope="col" { (each.label()) } }
            } }
            tbody { @for (step, counts) in &rows { tr {
                th scope="row" { (plot::step_name(*step)) }
                @for each in counts { td.number { (count(*each)) } }
            } } }
        }
    }
}
