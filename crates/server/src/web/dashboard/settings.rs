//! The configuration in force. Secrets are said to be set or not, and nothing more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::error::PageError;
use super::guard::Admin;
use super::page::{Part, page};
use super::ui::{Tone, scrolling, tag};
use crate::api::App;

/// Shows every setting and every number of the policy.
pub async fn get_settings(State(app): State<Arc<App>>, admin: Admin) -> Result<Response, PageError> {
    let mut numbers = Vec::new();
    flatten("", &serde_json::to_value(&*app.policy)?, &mut numbers);
    let content = html! {
        h1 { "Settings" }
        p.soft { "As this server was started with them. A flag beats the environment, the environment beats "
            code { "nudge.toml" } ", and that beats the default; a change needs a restart." }
        (scrolling("Settings", &settings(&app)))
        section aria-labelledby="policy" {
            h2 #policy { "Policy " (app.policy.name) }
            p.soft { "Every number of the rules, set with " code { "NUDGE_POLICY_FILE" } "." }
            details {
                summary { (numbers.len()) " numbers" }
                (scrolling("Numbers of the policy", &policy(&numbers)))
            }
        }
    };
    Ok(page(&app, &admin, Part::Settings, "Settings", &content))
}

fn settings(app: &App) -> Markup {
    html! {
        table {
            thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } th scope="col" { "Meaning" } } }
            tbody { @for setting in &app.dashboard.settings { tr {
                th scope="row" { code { (setting.name) } }
                td { @match &setting.value { Some(value) => span.said { (value) }, None => span.soft { "–" } } }
                td { @if setting.source == "default" || setting.source == "not set" { span.soft { (setting.source) } } @else { (tag(Tone::Info, &setting.source)) } }
                td.meaning { (setting.help) }
            } } }
        }
    }
}

fn policy(numbers: &[(String, String)]) -> Markup {
    html! {
        table.compact {
            thead { tr { th scope="col" { "Number" } th.number scope="col" { "Value" } } }
            tbody { @for (name, value) in numbers { tr { th scope="row" { code { (name) } } td.number { (value) } } } }
        }
    }
}

/// Lists the leaves of a value with the way to each.
fn flatten(at: &str, value: &Value, into: &mut Vec<(String, String)>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(n, value)| flatten(&below(&n.to_string()), value, into));
        }
        Value::String(text) => into.push((at.to_owned(), text.clone())),
        other => into.push((at.to_owned(), other.to_string())),
    }
}
