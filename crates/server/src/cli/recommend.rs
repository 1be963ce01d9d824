//! `nudge recommend`

use std::path::PathBuf;
use std::process::ExitCode;

use nudge_engine::{
    Archetype, Audience, Cents, Decision, Demand, History, LastRequest, Night, Person, Personal, Policy,
    PricingSource, Signals, Snapshot, TransactionType, decide,
};
use serde::{Deserialize, Serialize};

use super::{classify, lines};
use crate::api::query::target_date;
use crate::wire::{self, Num, OptionBody};

/// Recommend without a database: NDJSON in, NDJSON out
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line {\"requestingUser\":{\"archetypeType\",\"signals\"}, \"targetNight\":{\"date\",\"basePrice\",\"marketDemand\"},\n\
    \"daysUntilCheckIn\", \"roommate\":{\"archetypeType\",\"signals\"}, \"userHistory\":{\"previousTransactions\",\"lastTransactionType\",\n\
    \"lastTransactionSuccess\"}} gives {\"primaryRecommendation\",\"options\",\"metadata\"}.\n\
    daysUntilCheckIn is used as given (negative: overdue); the date says whether it is a weekday.\n\
    A bad line gives {\"line\",\"error\"} in its place, and the exit status is 1 at the end.\n\n\
    Examples:\n  nudge recommend < cases.ndjson\n  nudge recommend cases.ndjson | jq -r .primaryRecommendation | sort | uniq -c"
)]
pub struct Args {
    /// File to read; default: standard input
    file: Option<PathBuf>,
}

/// One line of input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    requesting_user: Party,
    target_night: TargetNight,
    days_until_check_in: i64,
    roommate: Party,
    user_history: UserHistory,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Party {
    archetype_type: Archetype,
    signals: Signals,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetNight {
    date: String,
    base_price: f64,
    market_demand: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserHistory {
    previous_transactions: u32,
    #[serde(default)]
    last_transaction_type: Option<TransactionType>,
    #[serde(default)]
    last_transaction_success: Option<bool>,
}

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    primary_recommendation: &'static str,
    options: [OptionBody; 3],
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
struct Metadata {
    confidence: Num,
    rule: &'static str,
    policy: String,
}

pub fn run(args: &Args, policy: &Policy) -> anyhow::Result<ExitCode> {
    lines::each(args.file.as_deref(), |input: Input| what_if(&input, policy))
}

/// Decides one line.
///
/// # Errors
/// What is wrong with it.
pub fn what_if(input: &Input, policy: &Policy) -> Result<Output, String> {
    let decision = decide(&snapshot(input, policy)?, policy);
    Ok(output(&decision, policy))
}

fn output(decision: &Decision, policy: &Policy) -> Output {
    Output {
        primary_recommendation: decision.primary().as_str(),
        options: wire::options(decision),
        metadata: Metadata {
            confidence: Num(decision.confidence),
            rule: decision.rule.as_str(),
            policy: policy.name.clone(),
        },
    }
}

fn snapshot(input: &Input, policy: &Policy) -> Result<Snapshot, String> {
    classify::possible(&input.requesting_user.signals, "requestingUser.signals")?;
    classify::possible(&input.roommate.signals, "roommate.signals")?;
    let TargetNight { date, base_price, market_demand } = &input.target_night;
    let target_date = target_date(date).ok_or("targetNight.date must be YYYY-MM-DD, years 1970 to 9999")?;
    let scaled = |value: f64, by: f64| (value * by).round() as i64;
    if !(*base_price > 0.0 && *base_price <= 100_000.0) {
        return Err("targetNight.basePrice must be above 0 and at most 100000".to_owned());
    }
    if (base_price * 100.0 - (base_price * 100.0).round()).abs() > 1e-6 {
        return Err("targetNight.basePrice must have at most two decimals".to_owned());
    }
    if !(*market_demand > 0.0 && *market_demand <= 100.0) {
        return Err("targetNight.marketDemand must be above 0 and at most 100".to_owned());
    }
    let UserHistory { previous_transactions, last_transaction_type, last_transaction_success } =
        input.user_history;
    let last = last_transaction_type.map(|transaction_type| LastRequest {
        transaction_type,
        accepted: last_transaction_success == Some(true),
    });
    Ok(Snapshot {
        target_date,
        days_until_check_in: input.days_until_check_in,
        night: Night {
            base_price: Cents(scaled(*base_price, 100.0)),
            demand: Demand::new(scaled(*market_demand, 10_000.0), policy),
            source: PricingSource::LeaseNight,
        },
        audience: Audience::Personal(Box::new(Personal {
            requester: person(&input.requesting_user, policy),
            roommate: person(&input.roommate, policy),
            history: History { prior_requests: previous_transactions, last },
            offerable_nights: None,
        })),
    })
}

/// Makes a party; a confidence is not part of the input and no part of the answer.
fn person(party: &Party, policy: &Policy) -> Person {
    Person {
        archetype: party.archetype_type,
        confidence: policy.confidence_min,
        overridden: false,
        signals: party.signals,
    }
}
