//! One user: archetype, history, what an override would change, and the actions of an admin.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::DateTime;
use maud::{Markup, html};
use nudge_engine::{Archetype, Request, Role, Signals, UserId};
use nudge_store::{DecisionSearch, Profile, ProfileRole, StoredArchetype, WithRequests};

use super::error::PageError;
use super::guard::{Admin, Posted};
use super::input::{Input, address};
use super::page::{Part, Time, form_token, page_with, redirect};
use super::ui::{
    Tone, archetype, choice, empty, fact, kind, notice, number, percent, scrolling, tag, user as user_link,
    words,
};
use super::{audit, decision, path, recommendations};
use crate::api::App;
use crate::usecases::admin::{message, parse_reason};
use crate::usecases::archetype::{Done, Shown, Verb};
use crate::usecases::preview::{Preselected, Preview, preview};

/// Decisions and audit entries that are shown beside the archetype.
const NEWEST: usize = 10;

/// What was tried and what came of it, above a page that is shown again.
#[derive(Debug, Default)]
struct Tried {
    input: Input,
    problem: Option<String>,
}

/// Shows a user.
pub async fn get_user(
    State(app): State<Arc<App>>,
    admin: Admin,
    parts: Parts,
) -> Result<Response, PageError> {
    let input = Input::of_query(parts.uri.query());
    let user = user_of(&input)?;
    show(&app, &admin, &user, StatusCode::OK, Tried { input, problem: None }).await
}

fn user_of(input: &Input) -> Result<UserId, PageError> {
    let id = input.get("id").ok_or_else(|| PageError::bad("The address names no user."))?;
    UserId::parse(id).map_err(|error| PageError::bad(format!("This is not a user id: {error}.")))
}

/// Overrides the archetype.
pub async fn post_override(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let user = user_of(&posted.input)?;
    match parse_override(&app, &posted.input) {
        Ok(verb) => change(&app, posted, &user, verb).await,
        Err(problem) => {
            let tried = Tried { input: posted.input, problem: Some(problem) };
            show(&app, &posted.admin, &user, StatusCode::BAD_REQUEST, tried).await
        }
    }
}

/// Ends an override.
pub async fn post_reset(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let user = user_of(&posted.input)?;
    change(&app, posted, &user, Verb::Reset).await
}

/// Computes the archetype now.
pub async fn post_recalculate(State(app): State<Arc<App>>, posted: Posted) -> Result<Response, PageError> {
    let user = user_of(&posted.input)?;
    change(&app, posted, &user, Verb::Recalculate).await
}

fn parse_override(app: &App, input: &Input) -> Result<Verb, String> {
    let archetype = input.get("archetype").and_then(|word| word.parse::<Archetype>().ok());
    let archetype = archetype.ok_or_else(|| "Choose an archetype.".to_owned())?;
    // A form sends its line ends with a carriage return.
    let reason = input.get("reason").unwrap_or_default().replace("\r\n", "\n");
    let reason = parse_reason(&reason).map_err(|problem| format!("The reason {problem}."))?;
    let expires_at = input.get("expires_at").map(|text| expiry(app, text)).transpose()?;
    Ok(Verb::Override { archetype, reason, expires_at })
}

/// Reads a local time in the configured zone, as the field for it sends it.
fn expiry(app: &App, text: &str) -> Result<Timestamp, String> {
    let local: DateTime = text.parse().map_err(|_| "The end is a date and a time.".to_owned())?;
    let zoned = local.to_zoned_datetime(app.zone.clone());
    let at = zoned.map_err(|_| "The end is beyond the calendar.".to_owned())?.timestamp();
    if at > app.clock.now() { Ok(at) } else { Err("The end must be in the future.".to_owned()) }
}

async fn change(app: &App, posted: Posted, user: &UserId, verb: Verb) -> Result<Response, PageError> {
    let done = app.archetypes.change(user, &verb, &posted.admin.actor, app.clock.now()).await?;
    if done == Done::OptedOut {
        let tried = Tried { input: Input::default(), problem: Some(message(&verb, &done)) };
        return show(app, &posted.admin, user, StatusCode::CONFLICT, tried).await;
    }
    let done = match (&verb, &done) {
        (Verb::Override { .. }, _) => "overridden",
        (Verb::Recalculate, Done::OverrideKept(_)) => "kept",
        (Verb::Recalculate, _) => "recalculated",
        (Verb::Reset, Done::NothingToReset(_)) => "nothing",
        (Verb::Reset, _) => "reset",
    };
    Ok(redirect(&address(path::USER, &[("id", Some(user.as_str())), ("done", Some(done))])))
}

/// Says what was done, by the word in the address: nothing else of it is shown.
fn done(word: &str) -> Option<(Tone, &'static str)> {
    match word {
        "overridden" => Some((Tone::Good, "The archetype was overridden.")),
        "reset" => Some((Tone::Good, "The override was reset.")),
        "nothing" => Some((Tone::Info, "No override was set; nothing was changed.")),
        "recalculated" => Some((Tone::Good, "The archetype was recalculated.")),
        "kept" => {
            Some((Tone::Info, "A manual override is in force and was kept; reset it first to recalculate."))
        }
        _ => None,
    }
}

async fn show(
    app: &App,
    admin: &Admin,
    user: &UserId,
    status: StatusCode,
    tried: Tried,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let today = app.clock.today(&app.zone);
    let shown = app.archetypes.show(user, now).await?;
    let policy = &app.policy;
    let facts = app
        .store
        .load_person(user, WithRequests::Always, policy.signal_requests, policy.history_requests)
        .await?;
    let previewed = preview(&app.store, &app.people, policy, user, now, today).await?;
    let search = DecisionSearch { user: Some(user.clone()), limit: NEWEST, ..DecisionSearch::default() };
    let decisions = app.store.find_decisions(search).await?;
    let entries = app.store.audit_entries(Some(user), None, NEWEST).await?;
    let all_decisions = address(path::RECOMMENDATIONS, &[("user", Some(user.as_str()))]);
    let all_entries = address(path::AUDIT, &[("user", Some(user.as_str()))]);
    let content = html! {
        h1 { "User " span.id { (user.as_str()) } }
        @if let Some((tone, text)) = tried.input.get("done").and_then(done) { (notice(tone, text)) }
        @if let Some(problem) = &tried.problem { (notice(Tone::Bad, problem)) }
        (standing(app, facts.profile, &shown, now))
        @if shown != Shown::OptedOut {
            section aria-labelledby="preview" {
                h2 #preview { "What an override would change" }
                @if let Some(previewed) = &previewed { (preview_tables(previewed)) }
            }
            (actions(app, admin, user, &shown, &tried.input, now))
        }
        (signals(&shown, app))
        section aria-labelledby="decisions" {
            h2 #decisions { "Recommendations" }
            @if decisions.rows.is_empty() { (empty("Nothing was recommended to this user.", &html! {})) }
            @else { (scrolling("Recommendations", &recommendations::table(app, &decisions.rows))) }
            @if decisions.next.is_some() { p { a href=(all_decisions) { "All recommendations of this user" } } }
        }
        section aria-labelledby="requests" {
            h2 #requests { "Requests that count" }
            (requests(app, facts.requests.as_deref().unwrap_or_default()))
        }
        section aria-labelledby="history" {
            h2 #history { "Changes by admins" }
            @if entries.is_empty() { (empty("No admin has changed this archetype.", &html! {})) }
            @else { (scrolling("Changes by admins", &audit::table(app, &entries))) p { a href=(all_entries) { "In the audit log" } } }
        }
    };
    let title = format!("User {user}");
    Ok(page_with(status, app, admin, Part::Users, &title, &content))
}

fn standing(app: &App, profile: Profile, shown: &Shown, now: Timestamp) -> Markup {
    html! {
        dl.facts {
            @match shown {
                Shown::OptedOut => {
                    (fact("Archetype", &html! { "none: " (tag(Tone::Warn, "opted out")) " of personalization; gets the neutral default" }))
                },
                Shown::NoHistory(computed) => {
                    (fact("Archetype", &html! { (archetype(computed.archetype)) ", confidence " (number(computed.confidence)) }))
                    (fact("Set by", &html! { "no requests, so nothing is stored" }))
                },
                Shown::Stored { row, .. } => {
                    (fact("Archetype", &html! { (archetype(row.archetype)) ", confidence " (number(row.confidence)) }))
                    (set_by(app, row, now))
                    (fact("Computed or set", &html! { (Time(app, row.computed_at).text()) " with " (row.policy) }))
                },
            }
            (fact("Role", &html! {
                @match profile.role { ProfileRole::Admin => (tag(Tone::Info, "admin")), ProfileRole::Member => "member" }
            }))
        }
    }
}

fn set_by(app: &App, row: &StoredArchetype, now: Timestamp) -> Markup {
    let Some(manual) = &row.manual else { return fact("Set by", &html! { "the user's signals" }) };
    let live = row.has_live_override(now);
    html! {
        (fact("Set by", &html! {
            @if live { (tag(Tone::Info, "override")) } @else { (tag(Tone::Plain, "override, expired")) }
            " of " (manual.by)
            @match manual.expires_at {
                Some(end) if live => { ", until " (Time(app, end).text()) },
                Some(end) => { ", ended " (Time(app, end).text()) },
                None => ", until it is reset",
            }
        }))
        (fact("Reason", &html! { span.said { (manual.reason) } }))
    }
}

fn preview_tables(previewed: &Preview) -> Markup {
    html! {
        @if previewed.prior_requests == 0 {
            p { "The user has made no request yet. Until the first one, every archetype gives the standard default." }
        }
        @if previewed.examples {
            p.soft { "No roommate holds a night in the next 60 days, so these are examples at the default price." }
        } @else {
            p.soft { "Nights of the next 60 days that a roommate holds: the default as it stands, and as it would be. Marked is what differs." }
        }
        (scrolling("Defaults of the next nights", &html! {
            table {
                thead { tr {
                    th scope="col" { "Night" } th.number scope="col" { "Days" } th scope="col" { "Asked of" } th scope="col" { "As it stands" }
                    @for each in Archetype::ALL { th scope="col" { "as " (each.label()) } }
                } }
                tbody { @for night in &previewed.nights { tr {
                    th.date scope="row" { (night.night.to_string()) }
                    td.number { (night.days) }
                    td { @match &night.roommate { Some(roommate) => (user_link(Some(roommate))), None => span.soft { "example" } } }
                    td { (preselected(night.now, night.now)) }
                    @for each in night.overridden { td { (preselected(each, night.now)) } }
                } } }
            }
        }))
        p.soft { "When somebody asks this user for a night: how readily the user is said to take it." }
        (scrolling("Acceptance of this user as a roommate", &html! {
            table.compact {
                thead { tr {
                    th scope="col" { "Type" } th.number scope="col" { "As it stands" }
                    @for each in Archetype::ALL { th.number scope="col" { "as " (each.label()) } }
                } }
                tbody { @for row in &previewed.acceptance { tr {
                    th scope="row" { (kind(row.transaction_type)) }
                    td.number { (percent(row.now)) }
                    @for each in row.overridden {
                        td.number { @if (each - row.now).abs() > 0.000_5 { span.differs { (percent(each)) } } @else { (percent(each)) } }
                    }
                } } }
            }
        }))
    }
}

fn preselected(shown: Preselected, now: Preselected) -> Markup {
    html! {
        @if shown.primary == now.primary { (kind(shown.primary)) } @else { span.differs { (kind(shown.primary)) } }
        div.soft { (words(shown.rule.as_str())) }
    }
}

fn actions(app: &App, admin: &Admin, user: &UserId, shown: &Shown, input: &Input, now: Timestamp) -> Markup {
    let (manual, live) = match shown {
        Shown::Stored { row, .. } => (row.manual.is_some(), row.has_live_override(now)),
        Shown::NoHistory(_) | Shown::OptedOut => (false, false),
    };
    let zone = app.zone.iana_name().unwrap_or("the configured zone");
    let chosen = input.get("archetype");
    html! {
        section aria-labelledby="override" {
            h2 #override { @if live { "Override again, or reset" } @else { "Override" } }
            form.card.stacked method="post" action=(path::OVERRIDE) {
                (form_token(admin))
                input type="hidden" name="id" value=(user.as_str());
                label { "Archetype"
                    select name="archetype" required {
                        (choice("", "choose one", chosen.is_none()))
                        @for each in Archetype::ALL { (choice(each.as_str(), each.label(), chosen == Some(each.as_str()))) }
                    }
                }
                label { "Ends (in " (zone) "; empty: when it is reset)"
                    input type="datetime-local" name="expires_at" value=(input.get("expires_at").unwrap_or_default());
                }
                label.wide { "Reason, which the audit log keeps"
                    textarea name="reason" required maxlength="2000" rows="2" { (input.get("reason").unwrap_or_default()) }
                }
                div.wide { button { "Override" } }
            }
            div.buttons {
                @if manual {
                    form method="post" action=(path::RESET) {
                        (form_token(admin)) input type="hidden" name="id" value=(user.as_str());
                        button.plain { "Reset the override" }
                    }
                }
                form method="post" action=(path::RECALCULATE) {
                    (form_token(admin)) input type="hidden" name="id" value=(user.as_str());
                    button.plain { "Recalculate now" }
                }
            }
        }
    }
}

fn signals(shown: &Shown, app: &App) -> Markup {
    let signals: Signals = match shown {
        Shown::OptedOut => return html! {},
        Shown::Stored { row, .. } => row.signals,
        Shown::NoHistory(computed) => computed.signals,
    };
    html! {
        section aria-labelledby="signals" {
            h2 #signals { "Signals and scores" }
            div.pair {
                section.card {
                    h3 { "Signals" }
                    (scrolling("Signals", &html! {
                        table.compact {
                            thead { tr { th scope="col" { "Signal" } th.number scope="col" { "Value" } } }
                            tbody { @for (name, value) in signals.named() { tr { th scope="row" { code { (name) } } td.number { (number(value)) } } } }
                        }
                    }))
                }
                section.card { h3 { "What they say" } (decision::scores(&signals, &app.policy)) }
            }
        }
    }
}

fn requests(app: &App, requests: &[Request]) -> Markup {
    html! {
        @if requests.is_empty() {
            (empty("The user has no requests, in either role.", &html! {}))
        } @else {
            p.soft { @if requests.len() == 1 { "One request" } @else { "The newest " (requests.len()) " requests" } ", as one who asked or was asked: what the signals are computed from." }
            details {
                summary { "Show them" }
                (scrolling("Requests", &html! {
                    table.compact {
                        thead { tr {
                            th scope="col" { "Made" } th scope="col" { "Role" } th scope="col" { "Type" } th scope="col" { "Status" }
                            th.number scope="col" { "Proposed" } th.number scope="col" { "Base price" } th scope="col" { "Answered" } th scope="col" { "Request" }
                        } }
                        tbody { @for request in requests { tr {
                            td { (Time(app, request.created_at).markup()) }
                            td { @match request.role { Role::Requester => "asked", Role::Receiver => "was asked" } }
                            td { (kind(request.transaction_type)) }
                            td { (request.status.as_str()) }
                            td.number { @if let Some(price) = request.proposed_price { (price.to_string()) } }
                            td.number { @if let Some(price) = request.base_price { (price.to_string()) } }
                            td { @if let Some(at) = request.responded_at { (Time(app, at).markup()) } }
                            td.id { (request.id) }
                        } } }
                    }
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_of_the_address_are_shown() {
        assert!(done("overridden").is_some() && done("<b>").is_none());
    }
}
