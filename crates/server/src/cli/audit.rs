//! `nudge audit`

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Config;

use super::{open_existing, output};

/// Look after the audit log
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the hash chain from the first entry to the last
    #[command(
        after_help = "The newest hash also goes to the service's log at start and at every change (audit.head).\n\n\
        Examples:\n  nudge audit verify\n  nudge audit verify --expect-head 3f1c… --json"
    )]
    Verify {
        /// The hash that the newest entry must have
        #[arg(long, value_name = "HASH")]
        expect_head: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let Command::Verify { expect_head, json } = args.command;
    let store = open_existing(&config).await?;
    let report = store.verify_audit(expect_head.as_deref()).await?;
    store.close().await;
    if json {
        output::json(&report)?;
    } else {
        let head = report.head.as_deref().unwrap_or("none");
        match &report.broken {
            None => {
                output::line(format_args!("{} entries, the chain is whole, head {head}", report.entries))?
            }
            Some((id, how)) => output::line(format_args!("BROKEN at entry {id}: {how}"))?,
        }
    }
    Ok(if report.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
