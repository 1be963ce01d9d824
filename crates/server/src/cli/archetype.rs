//! `nudge archetype`

use clap::Subcommand;
use jiff::Timestamp;
use nudge_engine::{Archetype, UserId};
use serde_json::json;

use crate::api::archetype::{parse_expiry, signals_body};
use crate::config::Config;
use crate::usecases::admin::{message, parse_reason};
use crate::usecases::archetype::{Archetypes, Done, Shown, Verb};

use super::{archetypes, clock, open_existing, operator, output};

/// Show, recalculate, override or reset a user's archetype
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Works beside a running server, which sees the change within a second. Changes are audited.\n\n\
    Examples:\n  nudge archetype show user-000001\n  nudge archetype recalculate user-000001\n  \
    nudge archetype override user-000001 high_flexibility --reason 'asked by support' --expires-at 2027-01-31T00:00:00Z\n  \
    nudge archetype reset user-000001 --json"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it, with signals and the rows that fired
    Show { user: UserId },
    /// Compute it now; a live override is kept
    Recalculate { user: UserId },
    /// Set it, until it expires or is reset
    Override {
        user: UserId,
        /// big_spender, high_flexibility or average_user
        archetype: Archetype,
        /// Why, 1 to 2000 characters
        #[arg(long)]
        reason: String,
        /// When it ends, RFC 3339
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// End an override
    Reset { user: UserId },
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<()> {
    let now = clock().now();
    let (user, verb) = match args.command {
        Command::Show { user } => (user, None),
        Command::Recalculate { user } => (user, Some(Verb::Recalculate)),
        Command::Override { user, archetype, reason, expires_at } => {
            let reason = parse_reason(&reason).map_err(|problem| anyhow::anyhow!("--reason {problem}"))?;
            let expires_at = expires_at
                .map(|text| parse_expiry(&text, now))
                .transpose()
                .map_err(|problem| anyhow::anyhow!("--expires-at {problem}"))?;
            (user, Some(Verb::Override { archetype, reason, expires_at }))
        }
        Command::Reset { user } => (user, Some(Verb::Reset)),
    };
    let store = open_existing(&config).await?;
    let (said, shown) = work(&archetypes(&config, &store), &user, verb, now).await?;
    store.close().await;
    print(args.json, &user, said.as_deref(), &shown, now)
}

async fn work(
    archetypes: &Archetypes,
    user: &UserId,
    verb: Option<Verb>,
    now: Timestamp,
) -> anyhow::Result<(Option<String>, Shown)> {
    let Some(verb) = verb else { return Ok((None, archetypes.show(user, now).await?)) };
    let done = archetypes.change(user, &verb, &operator(), now).await?;
    let said = message(&verb, &done);
    match done {
        Done::Changed(shown) | Done::OverrideKept(shown) | Done::NothingToReset(shown) => {
            Ok((Some(said), shown))
        }
        Done::OptedOut => anyhow::bail!("{said}"),
    }
}

fn print(
    as_json: bool,
    user: &UserId,
    said: Option<&str>,
    shown: &Shown,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (archetype, confidence, signals, reasoning, note) = match shown {
        Shown::OptedOut => {
            if as_json {
                return output::json(&json!({ "userId": user, "optedOut": true, "message": said }));
            }
            output::line(format_args!("{user} has opted out of personalization and has no archetype."))?;
            return Ok(());
        }
        Shown::Stored { row, .. } => {
            let note = match &row.manual {
                Some(m) if row.has_live_override(now) => format!("override by {}: {}", m.by, m.reason),
                _ => format!("computed {} with {}", row.computed_at, row.policy),
            };
            (row.archetype, row.confidence, row.signals, row.reasoning.clone(), note)
        }
        Shown::NoHistory(c) => {
            (c.archetype, c.confidence, c.signals, c.reasoning.clone(), "no requests; not stored".to_owned())
        }
    };
    if as_json {
        return output::json(&json!({
            "userId": user, "archetypeType": archetype, "confidence": confidence, "signals": signals_body(&signals),
            "reasoning": reasoning, "note": note, "message": said,
        }));
    }
    if let Some(said) = said {
        output::line(said)?;
    }
    output::line(format_args!(
        "{user}: {archetype} ({}), confidence {confidence:.2}; {note}",
        archetype.label()
    ))?;
    for (name, value) in signals.named() {
        output::line(format_args!("  {name:26} {value:.3}"))?;
    }
    for reason in reasoning {
        output::line(format_args!("  - {reason}"))?;
    }
    Ok(())
}
