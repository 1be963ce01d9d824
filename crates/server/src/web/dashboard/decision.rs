//! One decision: what it was made from, what it says, what came of it, and what would have given another one.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use nudge_engine::archetype::Side;
use nudge_engine::{
    Archetype, Audience, NeutralCause, Person, Personal, Policy, ScoreRow, TransactionType, classify,
    score_table,
};
use nudge_store::{EventKind, StoredDecision};
use serde::Deserialize;
use uuid::Uuid;

use super::error::PageError;
use super::guard::Admin;
use super::page::{Part, Time, page};
use super::recommendations::outcome;
use super::ui::{
    Tone, archetype, dollars, empty, fact, kind, notice, number, percent, scrolling, tag, user, words,
};
use crate::api::App;
use crate::usecases::counterfactual::{Change, Counterfactuals, counterfactuals};
use crate::usecases::explain::{Again, Explained, explain};

/// An option as it was recorded. Money is in dollars.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedOption {
    r#type: TransactionType,
    price: f64,
    platform_fee: f64,
    total_cost: f64,
    roommate_receives: f64,
    platform_receives: f64,
    savings_vs_buyout: Option<f64>,
    confidence: f64,
    estimated_acceptance_probability: f64,
    potential_matches: Option<u32>,
    reasoning: Vec<String>,
}

/// Shows a decision.
pub async fn get_decision(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let missing = || {
        PageError::missing(
            "There is no recommendation with this id. One that was made while the database was away appears once it is back.",
        )
    };
    let id = Uuid::try_parse(&id).map_err(|_| missing())?;
    let stored = app.store.decision(id).await?.ok_or_else(missing)?;
    let explained = explain(&stored, &app.policy)?;
    let options: Vec<RecordedOption> = serde_json::from_str(&stored.row.options)?;
    let content = html! {
        h1 { "A " (kind(stored.row.primary)) " for " (user(stored.row.user_id.as_ref())) }
        p.soft { "Recommendation " code { (stored.row.id) } ", made " (Time(&app, stored.row.created_at).markup()) }
        (again(&explained, &app.policy))
        (facts(&app, &stored, &explained))
        section aria-labelledby="options" {
            h2 #options { "The three options" }
            (scrolling("The three options", &ledger(&options)))
            div.reasons {
                @for option in &options {
                    div {
                        h3 { "Said of the " (kind(option.r#type)) }
                        ul { @for reason in &option.reasoning { li { (reason) } } }
                    }
                }
            }
        }
        section aria-labelledby="why" {
            h2 #why { "What would have to change" }
            (changes(&counterfactuals(&explained.context.snapshot, &app.policy), &stored, explained.decision.urgency.days))
        }
        section aria-labelledby="inputs" {
            h2 #inputs { "What it was made from" }
            (inputs(&explained, &app.policy))
        }
        section aria-labelledby="outcome" {
            h2 #outcome { "What came of it" }
            (timeline(&app, &stored))
        }
    };
    Ok(page(&app, &admin, Part::Recommendations, "A recommendation", &content))
}

fn again(explained: &Explained, policy: &Policy) -> Markup {
    match explained.again {
        Again::Same => html! {},
        Again::Different => notice(
            Tone::Bad,
            "Computed again, the recorded facts give ANOTHER answer than the recorded one. The options below are the recorded ones.",
        ),
        Again::OtherPolicy => notice(
            Tone::Info,
            &format!(
                "Recorded with policy {}. The options below are the recorded ones; scores and changes are those of {}.",
                explained.context.policy, policy.name
            ),
        ),
    }
}

fn facts(app: &App, stored: &StoredDecision, explained: &Explained) -> Markup {
    let (row, decision) = (&stored.row, &explained.decision);
    html! {
        dl.facts {
            (fact("Rule", &html! { strong { (words(&row.rule)) } " of " (row.policy) ", confidence " (number(row.confidence)) }))
            (fact("Night", &html! {
                (row.target_date.to_string()) ", " (days(explained.context.snapshot.days_until_check_in)) " (" (row.urgency_level.to_lowercase()) ")"
            }))
            (fact("Price", &html! {
                (decision.night.base_price.to_string()) " × urgency " (number(decision.urgency.multiplier()))
                " × demand " (number(decision.night.demand.factor()))
                @if decision.night.source.as_str() == "default" { " " (tag(Tone::Plain, "default price")) }
            }))
            (fact("Asked of", &user_or_nobody(stored)))
            @if let Some(lease) = &row.lease_id { (fact("Lease", &html! { (lease.as_str()) })) }
            (fact("Computed again", &match explained.again {
                Again::Same => tag(Tone::Good, "the same answer"),
                Again::Different => tag(Tone::Bad, "another answer"),
                Again::OtherPolicy => tag(Tone::Plain, "not compared"),
            }))
            (fact("Took", &html! { (row.response_time_ms) " ms" }))
            @if let Some(source) = &explained.context.source { (fact("Source", &html! { (source) })) }
            @if let Some(session) = &row.session_id { (fact("Session", &html! { (session) })) }
            @if let Some(agent) = &row.user_agent { (fact("User agent", &html! { (agent) })) }
            (fact("Made", &html! { (Time(app, row.created_at).text()) }))
        }
    }
}

fn user_or_nobody(stored: &StoredDecision) -> Markup {
    match &stored.row.roommate_id {
        Some(roommate) => user(Some(roommate)),
        None => html! { span.soft { "nobody in particular" } },
    }
}

fn days(days: i64) -> String {
    match days {
        ..0 => format!("{} days ago", -days),
        0 => "the same day".to_owned(),
        1 => "in 1 day".to_owned(),
        n => format!("in {n} days"),
    }
}

fn ledger(options: &[RecordedOption]) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Option" } th.number scope="col" { "Price" } th.number scope="col" { "Fee" }
                th.number scope="col" { "Requester pays" } th.number scope="col" { "Roommate gets" }
                th.number scope="col" { "Platform gets" } th.number scope="col" { "Less than a buyout" }
                th.number scope="col" { "Roommate takes it" } th.number scope="col" { "Estimated" }
            } }
            tbody {
                @for (place, option) in options.iter().enumerate() {
                    tr.chosen[place == 0] {
                        th scope="row" {
                            (kind(option.r#type))
                            @if place == 0 { " " (tag(Tone::Good, "default")) }
                            @if let Some(nights) = option.potential_matches { div.soft { (nights) " nights to offer" } }
                        }
                        td.number { (dollars(option.price)) }
                        td.number { (dollars(option.platform_fee)) }
                        td.number { strong { (dollars(option.total_cost)) } }
                        td.number { (dollars(option.roommate_receives)) }
                        td.number { (dollars(option.platform_receives)) }
                        td.number { (option.savings_vs_buyout.map_or_else(|| "–".to_owned(), dollars)) }
                        td.number { (percent(option.confidence)) }
                        td.number { (percent(option.estimated_acceptance_probability)) }
                    }
                }
            }
        }
    }
}

fn changes(found: &Counterfactuals, stored: &StoredDecision, now: i64) -> Markup {
    html! {
        @if found.flips.is_empty() {
            (empty("No single change of an input gives another default.", &html! {}))
        } @else {
            p.soft { "Each line changes one input and leaves the others as they were; the engine decided again each time. \
                      Signals depend on each other in real histories, so such a change rarely comes alone." }
            (scrolling("Changes that give another default", &html! {
                table {
                    thead { tr {
                        th scope="col" { "If" } th scope="col" { "instead of" } th scope="col" { "the default is" } th scope="col" { "by rule" }
                    } }
                    tbody {
                        @for flip in &found.flips { tr {
                            (change(&flip.change, stored, now))
                            td { (kind(flip.primary)) }
                            td { (words(flip.rule.as_str())) }
                        } }
                    }
                }
            }))
        }
        @if !found.without_effect.is_empty() {
            p { "Tried without effect on the default: " (found.without_effect.join(", ")) "." }
        }
    }
}

fn change(change: &Change, stored: &StoredDecision, now: i64) -> Markup {
    match change {
        Change::Days(days) => html! {
            td { "check-in were " strong { (self::days(*days)) } }
            td { (self::days(now)) }
        },
        Change::Archetype(to) => html! {
            td { "the requester were a " (archetype(*to)) " (by an override)" }
            td { (archetype(stored.row.archetype)) }
        },
        Change::PriorRequests(0) => {
            html! { td { "the requester had no earlier request" } td { "having some" } }
        }
        Change::PriorRequests(_) => {
            html! { td { "the requester had an earlier request" } td { "having none" } }
        }
        Change::Signal { name, from, to, archetype: becomes } => html! {
            td { code { (name) } " were " strong { (number(*to)) } ", which makes a " (archetype(*becomes)) }
            td { (number(*from)) }
        },
    }
}

fn inputs(explained: &Explained, policy: &Policy) -> Markup {
    match &explained.context.snapshot.audience {
        Audience::Neutral(cause) => html! {
            p {
                "Nothing personal: " (neutral(*cause)) " The neutral default is the same for everybody who asks for this night."
            }
        },
        Audience::Personal(personal) => html! {
            (history(personal))
            div.pair {
                (person("The requester", &personal.requester, policy))
                (person("The roommate", &personal.roommate, policy))
            }
        },
    }
}

fn neutral(cause: NeutralCause) -> &'static str {
    match cause {
        NeutralCause::Anonymous => "the caller was anonymous.",
        NeutralCause::OptedOut => "the requester has opted out of personalization.",
        NeutralCause::Degraded => "the personal data could not be read at that moment.",
    }
}

fn history(personal: &Personal) -> Markup {
    html! {
        p {
            @match personal.history.prior_requests {
                0 => "The requester had made no request before.",
                1 => "The requester had made 1 request before",
                n => { "The requester had made " @if n >= 10 { "10 or more" } @else { (n) } " requests before" },
            }
            @if let Some(last) = personal.history.last {
                ", the last one a " (kind(last.transaction_type))
                @if last.accepted { ", which was accepted." } @else { ", which was not accepted (yet)." }
            } @else if personal.history.prior_requests > 0 { "." }
            @match personal.offerable_nights {
                Some(1) => " There was 1 night to offer in return.",
                Some(n) => { " There were " (n) " nights to offer in return." },
                None => "",
            }
        }
    }
}

fn person(title: &str, person: &Person, policy: &Policy) -> Markup {
    html! {
        section.card {
            h3 { (title) ": " (archetype(person.archetype)) }
            p.soft {
                "confidence " (number(person.confidence))
                @if person.overridden { " · " (tag(Tone::Info, "set by an admin")) " The scores below are what the signals alone say." }
            }
            (scores(&person.signals, policy))
        }
    }
}

/// The score table of somebody's signals: every row, those that fired first in weight.
pub fn scores(signals: &nudge_engine::Signals, policy: &Policy) -> Markup {
    let rows = score_table(signals, policy);
    let class = classify(signals, policy);
    let totals = [
        (Archetype::BigSpender, class.scores.big_spender),
        (Archetype::HighFlexibility, class.scores.high_flexibility),
        (Archetype::AverageUser, class.scores.average_user),
    ];
    let row = |row: &ScoreRow| {
        let side = match row.side {
            Side::Above => "> ",
            Side::Below => "< ",
        };
        html! {
            tr.fired[row.fires()] {
                th scope="row" { code { (row.signal) } }
                td.number { (number(row.value)) }
                td.number { (side) (number(row.threshold)) }
                td.number { @if row.fires() { "+" (number(row.points)) } @else { span.soft { "–" } } }
                td { @if row.fires() { (archetype(row.archetype)) } @else { span.soft { (row.archetype.label()) } } }
            }
        }
    };
    let (fired, others): (Vec<&ScoreRow>, Vec<&ScoreRow>) = rows.iter().partition(|row| row.fires());
    html! {
        dl.totals {
            @for (each, points) in totals {
                div.leads[each == class.archetype] { dt { (archetype(each)) } dd { (number(points)) " points" } }
            }
        }
        (scrolling("Scores that fired", &html! {
            table.compact {
                thead { tr { th scope="col" { "Signal" } th.number scope="col" { "Value" } th.number scope="col" { "Fires" } th.number scope="col" { "Points" } th scope="col" { "For" } } }
                tbody { @for each in &fired { (row(each)) } }
                @if fired.is_empty() { tbody { tr { td colspan="5" { span.soft { "No row fired." } } } } }
            }
        }))
        @if !others.is_empty() {
            details {
                summary { (others.len()) " rows that did not fire" }
                (scrolling("Scores that did not fire", &html! {
                    table.compact {
                        thead { tr { th scope="col" { "Signal" } th.number scope="col" { "Value" } th.number scope="col" { "Fires" } th.number scope="col" { "Points" } th scope="col" { "For" } } }
                        tbody { @for each in &others { (row(each)) } }
                    }
                }))
            }
        }
    }
}

fn timeline(app: &App, stored: &StoredDecision) -> Markup {
    html! {
        @if stored.events.is_empty() {
            (empty("Nothing has been reported of what came of it.", &html! {
                p { "The app reports it with " code { "POST /functions/v1/recommendation-outcomes" } ", or names this id in its request." }
            }))
        } @else {
            p { (outcome(&stored.outcome))
                @if let Some(seconds) = stored.outcome.time_to_decision_seconds { " · decided after " (number(seconds)) " s" }
            }
            ol.timeline {
                @for event in &stored.events { li {
                    span.when { (Time(app, event.occurred_at).text()) }
                    strong { (event.kind.as_str()) }
                    @if let Some(transaction_type) = event.transaction_type { " " (kind(transaction_type)) }
                    @if event.kind == EventKind::Nps {
                        @if let Some(score) = event.payload.get("npsScore") { " " (score.to_string()) }
                    }
                    @if let Some(source) = event.payload.get("source").and_then(|source| source.as_str()) {
                        span.soft { " told by " (match source { "facts" => "an ingested request", "api" => "the outcomes API", other => other }) }
                    }
                } }
            }
        }
    }
}
