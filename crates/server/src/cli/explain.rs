//! `nudge explain`

use std::process::ExitCode;

use nudge_engine::{Audience, Decision, classify};
use nudge_store::{EventKind, StoredDecision};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Config;
use crate::usecases::explain::{Again, Explained, explain};
use crate::usecases::record::RecordedContext;

use super::{open_existing, output};

/// Say why a recommendation came out as it did, computed again from what was recorded
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The decision is computed again from the recorded facts and compared with the recorded answer;\n\
    the exit status is 1 when the two differ.\n\n\
    Examples:\n  nudge explain 0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff\n  nudge explain 0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff --json"
)]
pub struct Args {
    /// Id of the recommendation
    recommendation_id: Uuid,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let store = open_existing(&config).await?;
    let found = store.decision(args.recommendation_id).await?;
    store.close().await;
    let Some(stored) = found else {
        anyhow::bail!(
            "there is no recommendation {} in {}\n  One made while the database was away may still wait in the spool of the running server.",
            args.recommendation_id,
            config.database
        );
    };
    let Explained { context, decision, again } = explain(&stored, &config.policy)?;
    if args.json {
        print_json(&stored, &context, &again)?;
    } else {
        print(&stored, &context, &decision, &again, &config)?;
    }
    Ok(if again == Again::Different { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_json(stored: &StoredDecision, context: &RecordedContext, again: &Again) -> anyhow::Result<()> {
    let row = &stored.row;
    output::json(&json!({
        "recommendationId": row.id, "createdAt": row.created_at, "userId": row.user_id, "roommateId": row.roommate_id,
        "leaseId": row.lease_id, "targetDate": row.target_date, "rule": row.rule, "policy": row.policy,
        "primaryRecommendation": row.primary, "options": serde_json::from_str::<Value>(&row.options)?,
        "context": context,
        "computedAgain": match again { Again::Same => "same", Again::Different => "different", Again::OtherPolicy => "other policy" },
        "outcome": stored.outcome,
        "events": stored.events.iter().map(|e| json!({
            "event": e.kind, "transactionType": e.transaction_type, "occurredAt": e.occurred_at,
            "recordedAt": e.recorded_at, "payload": e.payload,
        })).collect::<Vec<_>>(),
    }))
}

fn print(
    stored: &StoredDecision,
    context: &RecordedContext,
    decision: &Decision,
    again: &Again,
    config: &Config,
) -> anyhow::Result<()> {
    let row = &stored.row;
    let user = row.user_id.as_ref().map_or("anonymous", |u| u.as_str());
    output::line(output::strong(&format!("Recommendation {}", row.id)))?;
    output::line(format_args!("  made {} for {user}, night {}", row.created_at, row.target_date))?;
    output::line(format_args!(
        "  rule {} of {} chose {}; confidence {}",
        row.rule, row.policy, row.primary, row.confidence
    ))?;
    output::line(format_args!(
        "  {} days until check-in ({}), base price {}, demand {}, price from {}",
        decision.urgency.days,
        row.urgency_level,
        decision.night.base_price,
        decision.night.demand.factor(),
        decision.night.source
    ))?;
    if let Some(source) = &context.source {
        output::line(format_args!("  source: {source}"))?;
    }
    match &context.snapshot.audience {
        Audience::Neutral(cause) => output::line(format_args!("  neutral default: {cause}"))?,
        Audience::Personal(personal) => {
            for (who, person) in [("requester", &personal.requester), ("roommate", &personal.roommate)] {
                output::line(format_args!(
                    "  {who}: {} with confidence {:.2}{}",
                    person.archetype,
                    person.confidence,
                    if person.overridden { ", set by an admin" } else { "" }
                ))?;
                for fired in classify(&person.signals, &config.policy).scores.breakdown {
                    output::line(format_args!("    {}", fired.text()))?;
                }
            }
        }
    }
    for option in &decision.options {
        output::line(format_args!(
            "  {:7} {} + {} fee = {}; roommate {}, platform {}; acceptance {:.2}, probability {:.3}",
            option.transaction_type.as_str(),
            option.price,
            option.platform_fee,
            option.total_cost,
            option.roommate_receives,
            option.platform_receives,
            option.confidence,
            option.probability
        ))?;
        for reason in &option.reasons {
            output::line(format_args!("    [{}] {}", reason.code(), reason.text()))?;
        }
    }
    output::line(match again {
        Again::Same => "  Computed again from the recorded facts: the same answer.".to_owned(),
        Again::Different => {
            "  Computed again from the recorded facts: ANOTHER answer than the recorded one.".to_owned()
        }
        Again::OtherPolicy => format!(
            "  Not compared: recorded with {}, the options above are those of {}.",
            context.policy, config.policy.name
        ),
    })?;
    for event in &stored.events {
        let kind = serde_json::to_value::<EventKind>(event.kind)?;
        let transaction_type = event.transaction_type.map(|t| format!(" {t}")).unwrap_or_default();
        output::line(format_args!(
            "  {} {}{transaction_type}",
            event.occurred_at,
            kind.as_str().unwrap_or_default()
        ))?;
    }
    if stored.events.is_empty() {
        output::line("  Nothing has been reported of what came of it.")?;
    }
    Ok(())
}
