//! `nudge alerts`

use std::process::ExitCode;

use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use nudge_store::{AlertSilence, AlertTransition, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::channel::Sent;
use crate::alert::notice::measured;
use crate::alert::rule::Rule;
use crate::config::Config;
use crate::outbound::{Bounds, Outbound};
use crate::usecases::alerts::{Alerts, Shown, SilenceWanted};

use super::{clock, open_existing, operator, output};

/// Show, silence and try out the alerts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Works beside running servers, which evaluate the alerts and heed a silence within seconds. Silences are audited.\n\
    What each alert means and what to do about it is in docs/OPERATIONS.md.\n\n\
    Examples:\n  nudge alerts list\n  nudge alerts history high_error_rate --limit 20 --json\n  \
    nudge alerts silence job_missed --for 2h --reason 'database moves'\n  \
    nudge alerts silence --all --for 30m --reason 'maintenance'\n  \
    nudge alerts unsilence 0198c2d4-5e6f-7a8b-9c0d-112233445566\n  \
    NUDGE_ALERT_WEBHOOK_URL=https://hooks.example.com/alerts nudge alerts test"
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
    /// Show where each alert stands; fails with status 1 when one fires that is not silenced
    List,
    /// Show the newest changes of state
    History {
        /// The alert; default: all of them
        alert: Option<Rule>,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Tell nobody of an alert for a while; it is evaluated on
    Silence {
        /// The alert
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        alert: Option<Rule>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// One server's only
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
        /// For how long, such as 30m, 2h or 1h 30m; at most 30 days
        #[arg(long = "for", value_name = "TIME")]
        lasting: SignedDuration,
        /// Why, 1 to 2000 characters
        #[arg(long)]
        reason: String,
    },
    /// End a silence before its time
    Unsilence {
        /// Its id, as `list` shows it
        id: Uuid,
    },
    /// Send a test through every channel that is configured
    Test,
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let outbound = Outbound::new(config.outbound.clone(), Bounds::default(), clock());
    let store = open_existing(&config).await?;
    let alerts = Alerts::new(&config, store.clone(), outbound);
    let done = work(args, &alerts).await;
    Store::close(&store).await;
    done
}

async fn work(args: Args, alerts: &Alerts) -> anyhow::Result<ExitCode> {
    let now = clock().now();
    match args.command {
        Command::List => list(&alerts.list(now).await?, args.json),
        Command::History { alert, limit } => {
            let changes = alerts.history(alert, limit).await?;
            match args.json {
                true => output::json(&changes.iter().map(transition).collect::<Vec<_>>())?,
                false => print_history(&changes)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Silence { alert, all: _, of, lasting, reason } => {
            let ends_at = now.checked_add(lasting)?;
            let wanted = SilenceWanted { rule: alert, instance: of, reason, ends_at };
            let silence = alerts.silence(wanted, &operator(), now).await?;
            match args.json {
                true => output::json(&silenced(&silence))?,
                false => output::line(format_args!(
                    "{} is silent until {}; end it before with `nudge alerts unsilence {}`",
                    alert.map_or("everything", Rule::as_str),
                    silence.ends_at,
                    silence.id
                ))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Unsilence { id } => {
            let Some(silence) = alerts.unsilence(id, &operator(), now).await? else {
                anyhow::bail!(
                    "there is no silence {id} in force\n  `nudge alerts list` shows those that are."
                );
            };
            match args.json {
                true => output::json(&silenced(&silence))?,
                false => output::line(format_args!("the silence {id} is over"))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Test => test(&alerts.test(now).await, args.json),
    }
}

fn list(shown: &[Shown], as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        output::json(&shown.iter().map(alert).collect::<Vec<_>>())?;
    } else if shown.is_empty() {
        output::line("No server has evaluated the alerts yet.")?;
    } else {
        for shown in shown {
            print(shown)?;
        }
    }
    let firing = shown.iter().any(|shown| {
        shown.row.state == nudge_store::AlertState::Firing && shown.silence.is_none() && !shown.stale
    });
    Ok(if firing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(shown: &Shown) -> std::io::Result<()> {
    let row = &shown.row;
    let unit = shown.rule.unit();
    let value = row.value.map_or_else(|| "–".to_owned(), |value| measured(value, unit));
    let place = if row.instance.is_empty() { "service" } else { &row.instance };
    let gone = if shown.stale { "  (not evaluated any more)" } else { "" };
    output::line(format_args!(
        "{:8} {:20} {place}  {value} (threshold {}), since {}{gone}",
        row.state,
        shown.rule,
        measured(row.threshold, unit),
        row.since,
    ))?;
    if let Some(silence) = &shown.silence {
        let (id, until, why) = (silence.id, silence.ends_at, &silence.reason);
        output::line(format_args!("         silent until {until} ({id}): {why}"))?;
    }
    if row.state == nudge_store::AlertState::Firing {
        output::line(format_args!("         {}", shown.runbook))?;
    }
    Ok(())
}

fn print_history(changes: &[AlertTransition]) -> std::io::Result<()> {
    for change in changes {
        let rule = change.rule.parse::<Rule>();
        let unit = rule.map_or("count", Rule::unit);
        let value = change.value.map_or_else(|| "–".to_owned(), |value| measured(value, unit));
        let place = if change.instance.is_empty() { "service" } else { &change.instance };
        output::line(format_args!(
            "{} {:20} {place}  {} → {}  {value} (threshold {})",
            change.at,
            change.rule,
            change.from,
            change.to,
            measured(change.threshold, unit)
        ))?;
    }
    Ok(())
}

fn test(results: &[(&'static str, Sent)], as_json: bool) -> anyhow::Result<ExitCode> {
    let said = |sent: &Sent| match sent {
        Sent::Taken => None,
        Sent::Later(why) | Sent::Never(why) => Some(why.clone()),
    };
    if as_json {
        let all: Vec<Value> = results
            .iter()
            .map(|(channel, sent)| json!({ "channel": channel, "sent": said(sent).is_none(), "error": said(sent) }))
            .collect();
        output::json(&all)?;
    } else {
        for (channel, sent) in results {
            match said(sent) {
                None => output::line(format_args!("{channel}: sent"))?,
                Some(why) => output::line(format_args!("{channel}: NOT sent: {why}"))?,
            }
        }
        if results.len() == 1 {
            output::line("No other channel is configured; see NUDGE_ALERT_… in docs/CONFIGURATION.md.")?;
        }
    }
    let failed = results.iter().any(|(_, sent)| *sent != Sent::Taken);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn time(at: Timestamp) -> String {
    at.to_string()
}

fn alert(shown: &Shown) -> Value {
    let row = &shown.row;
    json!({
        "alert": shown.rule.as_str(), "title": shown.rule.title(), "severity": shown.rule.severity(),
        "instance": (!row.instance.is_empty()).then_some(&row.instance), "state": row.state, "since": time(row.since),
        "metric": shown.rule.metric(), "unit": shown.rule.unit(), "value": row.value, "threshold": row.threshold,
        "windowSeconds": row.window_secs, "sampleSize": row.sample_size, "evaluatedAt": time(row.evaluated_at),
        "stale": shown.stale, "silence": shown.silence.as_ref().map(silenced), "runbook": shown.runbook,
    })
}

fn transition(change: &AlertTransition) -> Value {
    json!({
        "id": change.id, "alert": change.rule, "at": time(change.at), "from": change.from, "to": change.to,
        "instance": (!change.instance.is_empty()).then_some(&change.instance), "value": change.value,
        "threshold": change.threshold, "windowSeconds": change.window_secs, "sampleSize": change.sample_size,
    })
}

fn silenced(silence: &AlertSilence) -> Value {
    json!({
        "id": silence.id, "alert": silence.rule, "instance": silence.instance, "reason": silence.reason,
        "createdBy": silence.created_by, "createdAt": time(silence.created_at), "endsAt": time(silence.ends_at),
        "liftedAt": silence.lifted_at.map(time), "liftedBy": silence.lifted_by,
    })
}
