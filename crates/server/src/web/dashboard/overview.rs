//! The overview: what the defaults come to, beside what they are wanted to, how it moves, and how the service stands.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use nudge_store::DecisionSearch;

use super::error::PageError;
use super::guard::Admin;
use super::input::{Input, address};
use super::page::{Part, Time, page};
use super::recommendations;
use super::ui::{Tone, archetype, count, empty, figure, scrolling, tag};
use super::{alerts, live, path, plot};
use crate::api::App;
use crate::usecases::report::{
    Figure, FigureKey, Of, Question, Report, Trend, Verdict, Window, report, thousands, trends,
};

/// Decisions that are shown.
const NEWEST: usize = 8;
/// Spans of days that can be chosen; the second is the usual one.
const SPANS: [u32; 4] = [7, 28, 90, 365];
/// The figures that are followed day by day.
const FOLLOWED: [FigureKey; 4] = [
    FigureKey::FollowRate,
    FigureKey::AcceptedRate,
    FigureKey::AverageTransactionValue,
    FigureKey::TimeToDecision,
];
/// Most days that are drawn.
const DRAWN_DAYS: u32 = 90;

/// Shows the overview.
pub async fn get_overview(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    let wanted = input.get("days").and_then(|days| days.parse().ok()).filter(|days| SPANS.contains(days));
    let days = wanted.unwrap_or(SPANS[1]);
    let now = app.clock.now();
    // Days of a report are UTC days.
    let today = now.to_zoned_datetime(TimeZone::UTC).date();
    let question = Question { window: Window::last_days(days, today), of: Of::Personalized, by: None };
    let made = report(&app.store, question, now).await?;
    let drawn = Window::last_days(days.min(DRAWN_DAYS), today);
    let followed = trends(&app.store, drawn, Of::Personalized, &FOLLOWED).await?;
    let search = DecisionSearch { limit: NEWEST, ..DecisionSearch::default() };
    let newest = app.store.find_decisions(search).await?;
    let content = html! {
        h1 { "Overview" }
        (live::part(live::Part::Service, "Service", &service(&app)))
        (live::part(live::Part::Raised, "Alerts", &alerts::raised(&app).await?))
        section aria-labelledby="figures" {
            h2 #figures { "What the defaults come to" }
            (span(days))
            (figures(&app, &made))
        }
        section aria-labelledby="trends" {
            h2 #trends { "Day by day" }
            @if made.decisions.total == 0 {
                (empty("Nothing to follow yet.", &html! {}))
            } @else {
                div.pair { @for each in &followed { (trend(each)?) } }
            }
        }
        section aria-labelledby="people" {
            h2 #people { "People" }
            dl.figures { @for each in &made.archetypes { (card(each.archetype.label(), &each.figure)) } }
            p { a href=(path::ARCHETYPES) { "Distribution and confidence" } }
        }
        section aria-labelledby="newest" {
            h2 #newest { "Newest recommendations" }
            @if newest.rows.is_empty() {
                (empty("Nothing has been recommended yet.", &html! { p { "The " a href="/" { "start page" } " has a call to try." } }))
            } @else {
                (scrolling("Newest recommendations", &recommendations::table(&app, &newest.rows)))
                p { a href=(path::RECOMMENDATIONS) { "All recommendations" } }
            }
        }
    };
    Ok(page(&app, &admin, Part::Overview, "Overview", &content))
}

fn span(chosen: u32) -> Markup {
    html! {
        nav.spans aria-label="Span" {
            @for days in SPANS {
                a href=(address(path::HOME, &[("days", Some(&days.to_string()))])) aria-current=[(days == chosen).then_some("true")] {
                    (days) " days"
                }
            }
        }
    }
}

/// How the service stands; kept up to date while the page is open.
pub fn service(app: &App) -> Markup {
    let waiting = app.recorder.stats().spool_depth;
    html! {
        dl.figures {
            (figure("Recording", &html! { @if waiting == 0 { "direct" } @else { (waiting) } }, &html! {
                @if waiting == 0 { (tag(Tone::Good, "ok")) " every decision goes to the database at once" }
                @else { (tag(Tone::Warn, "spooled")) " decisions wait for the database" }
            }))
            (figure("Requests in work", &html! { (app.in_flight()) }, &html! { "of " (count(app.limits.in_flight as u64)) " at most" }))
            (figure("Writes waiting", &html! { (app.store.queue_depth()) }, &html! { "in the writer's queue" }))
        }
    }
}

fn figures(app: &App, made: &Report) -> Markup {
    let judged = made.figures.iter().filter(|figure| figure.target.is_some());
    html! {
        p.soft {
            (thousands(made.decisions.personalized)) " personalized decisions from " (made.window.first.to_string()) " to " (made.window.last.to_string())
            " (UTC); " (thousands(made.decisions.neutral)) " neutral and " (thousands(made.decisions.anonymous)) " anonymous ones are left out."
            @if let Some(until) = made.simulated_until { " Those up to " (Time(app, until).markup()) " were simulated by the demo." }
        }
        dl.figures { @for each in judged { (card(each.label, each)) } }
        details {
            summary { "Every figure, with its definition, sample and interval" }
            (scrolling("Figures", &table(&made.figures)))
            @if !made.follow_rates.is_empty() {
                (scrolling("Follow rate by archetype", &html! {
                    table.compact {
                        thead { tr { th scope="col" { "Follow rate of" } (heads()) } }
                        tbody { @for each in &made.follow_rates { tr { th scope="row" { (archetype(each.archetype)) } (cells(&each.figure)) } } }
                    }
                }))
            }
        }
        (scores(made))
    }
}

fn verdict(figure: &Figure) -> Markup {
    html! {
        @match figure.verdict {
            Some(Verdict::Met) => (tag(Tone::Good, Verdict::Met.as_str())),
            Some(Verdict::NotMet) => (tag(Tone::Bad, Verdict::NotMet.as_str())),
            Some(Verdict::NotEnoughData) => (tag(Tone::Plain, Verdict::NotEnoughData.as_str())),
            None => "",
        }
    }
}

fn card(name: &str, each: &Figure) -> Markup {
    figure(
        name,
        &html! { (each.value_text()) },
        &html! {
            div { (verdict(each)) @if !each.target_text().is_empty() { " " span.whole { "target " (each.target_text()) } } }
            @if each.interval.is_some() { span.whole { (each.interval_text()) } " · " } span.whole { (each.n_text()) }
        },
    )
}

fn heads() -> Markup {
    html! {
        th.number scope="col" { "Value" } th scope="col" { "Target" } th scope="col" { "Verdict" }
        th.number scope="col" { "95 % interval" } th.number scope="col" { "Sample" }
    }
}

fn cells(figure: &Figure) -> Markup {
    html! {
        td.number { (figure.value_text()) } td.number { (figure.target_text()) } td { (verdict(figure)) }
        td.number { (figure.interval_text()) } td.number { (figure.n_text()) }
    }
}

fn table(figures: &[Figure]) -> Markup {
    html! {
        table.compact {
            thead { tr { th scope="col" { "Figure" } (heads()) th scope="col" { "Definition" } } }
            tbody { @for each in figures { tr {
                th scope="row" { (each.label) }
                (cells(each))
                td.meaning { (each.definition) @if let Some(method) = each.method { " " span.soft { "Interval: " (method) } } }
            } } }
        }
    }
}

fn scores(made: &Report) -> Markup {
    let given: i64 = made.scores.counts.iter().sum();
    html! {
        @if given > 0 {
            details {
                summary { "Scores given: " (thousands(given)) }
                (scrolling("Scores given", &html! {
                    table.compact {
                        thead { tr { th scope="col" { "Score" } @for score in 0..=10 { th.number scope="col" { (score) } } } }
                        tbody { tr { th scope="row" { "Times" } @for count in made.scores.counts { td.number { (thousands(count)) } } } }
                    }
                }))
            }
        }
    }
}

fn trend(trend: &Trend) -> Result<Markup, PageError> {
    let unit = trend.figure.unit();
    let text = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| unit.text(value));
    Ok(html! {
        figure.trend {
            figcaption { (trend.figure.label()) }
            (plot::trend(trend, unit)?)
            details {
                summary { "As a table" }
                (scrolling(trend.figure.label(), &html! {
                    table.compact {
                        thead { tr { th scope="col" { "Day" } th.number scope="col" { "Value" } th.number scope="col" { "95 % interval" } th.number scope="col" { "Sample" } } }
                        tbody { @for point in trend.points.iter().rev() { tr {
                            th.date scope="row" { (point.day.to_string()) }
                            td.number { (text(point.value)) }
                            td.number { @match point.interval { Some(interval) => (unit.interval_text(interval)), None => "–" } }
                            td.number { (thousands(point.n)) }
                        } } }
                    }
                }))
            }
        }
    })
}
