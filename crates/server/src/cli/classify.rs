//! `nudge classify`

use std::path::PathBuf;
use std::process::ExitCode;

use nudge_engine::archetype::Scores;
use nudge_engine::{Policy, Signals, classify};
use serde::{Deserialize, Serialize};

use super::lines;
use crate::wire::Num;

/// Classify signals: NDJSON in, NDJSON out, no database
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line {\"signals\": {the twelve signals}} gives {\"archetypeType\",\"confidence\",\"scores\",\"reasoning\"}.\n\
    A bad line gives {\"line\",\"error\"} in its place, and the exit status is 1 at the end.\n\n\
    Examples:\n  nudge classify < signals.ndjson\n  nudge classify signals.ndjson | jq -r .archetypeType | sort | uniq -c\n  \
    echo '{\"signals\":{\"avgTransactionValue\":1200,\"willingnessToPay\":0.8,\"priceRejectionRate\":0.1,\"avgResponseTimeHours\":5,\
\"acceptanceRate\":0.4,\"requestFrequencyPerMonth\":3,\"buyoutPreference\":0.7,\"crashPreference\":0.2,\"swapPreference\":0.1,\
\"flexibilityScore\":35,\"accommodationHistory\":2,\"reciprocityRatio\":0.4}}' | nudge classify"
)]
pub struct Args {
    /// File to read; default: standard input
    file: Option<PathBuf>,
}

/// One line of input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    signals: Signals,
}

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    archetype_type: &'static str,
    confidence: Num,
    scores: Scores,
    reasoning: Vec<String>,
}

pub fn run(args: &Args, policy: &Policy) -> anyhow::Result<ExitCode> {
    lines::each(args.file.as_deref(), |input: Input| answer(&input, policy))
}

/// Classifies one line.
fn answer(input: &Input, policy: &Policy) -> Result<Output, String> {
    possible(&input.signals, "signals")?;
    let classification = classify(&input.signals, policy);
    Ok(Output {
        archetype_type: classification.archetype.as_str(),
        confidence: Num(classification.confidence),
        reasoning: classification.reasoning(),
        scores: classification.scores,
    })
}

/// Refuses signals that no history could have produced.
pub fn possible(signals: &Signals, place: &str) -> Result<(), String> {
    match signals.first_impossible() {
        Some(name) => Err(format!("{place}.{name} is outside of what a signal can be")),
        None => Ok(()),
    }
}
