//! `nudge rls`

use std::process::ExitCode;

use clap::Subcommand;
use nudge_store::admin::{Asker, Cell, Finding, Found, Matrix, Severity, Verdict};
use serde::Serialize;

use crate::config::{Config, Database};

use super::{db, output};

/// Look after row level security
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try every verb of every caller on every exposed table
    #[command(
        after_help = "Rows of two users that do not exist are inserted, every caller tries every verb on them, and all of it is\n\
        rolled back. Fails on a leak, on a rightful access that is blocked, and on grants that no migration makes.\n\n\
        Examples:\n  DATABASE_URL=postgres://owner@db.example/app nudge rls verify\n  \
        nudge rls verify --json | jq '.cells[] | select(.verdict != \"right\")'"
    )]
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    matrix: &'a Matrix,
    findings: &'a [Finding],
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let Command::Verify { json } = args.command;
    if let Database::File(_) = config.database {
        anyhow::bail!(
            "the embedded database has no roles: there the query layer applies the table of rights\n  \
             For a PostgreSQL database, name it in DATABASE_URL."
        );
    }
    let server = db::connect(&config.database).await?;
    let matrix = server.verify_rights().await?;
    let mut findings = server.findings().await?;
    findings.retain(|finding| finding.severity() == Severity::Refusal);
    if json {
        output::json(&Report { matrix: &matrix, findings: &findings })?;
    } else {
        print(&matrix)?;
        for finding in &findings {
            output::line(format_args!("WRONG: {finding}"))?;
            for statement in finding.remedy() {
                output::line(format_args!("       {statement}"))?;
            }
        }
    }
    let right = !matrix.is_wrong() && findings.is_empty();
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(matrix: &Matrix) -> std::io::Result<()> {
    let heading: String = Asker::ALL.iter().map(|caller| format!("{:<13}", caller.as_str())).collect();
    output::line(format_args!("{:<24}{:<8}{}", "table", "verb", heading.trim_end()))?;
    let mut last = "";
    for row in matrix.cells.chunk_by(|a, b| (a.table, a.verb) == (b.table, b.verb)) {
        let Some(first) = row.first() else { continue };
        let table = if first.table == last { "" } else { first.table };
        last = first.table;
        let words: String = row.iter().map(|cell| format!("{:<13}", word(cell))).collect();
        output::line(format_args!("{table:<24}{:<8}{}", first.verb, words.trim_end()))?;
    }
    if !matrix.not_ours.is_empty() {
        output::line(format_args!("not tried, as they are the app's: {}", matrix.not_ours.join(", ")))?;
    }
    let mut counts = [0; 4];
    for cell in &matrix.cells {
        let (place, kind) = match cell.verdict {
            Verdict::Right => (0, ""),
            Verdict::Leak => (1, "LEAK"),
            Verdict::Blocked => (2, "BLOCKED"),
            Verdict::Untried => (3, "not tried"),
        };
        counts[place] += 1;
        if !kind.is_empty() {
            let why = cell.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            output::line(format_args!("{kind}: {} {} {}{why}", cell.caller.as_str(), cell.verb, cell.table))?;
        }
    }
    let [right, leaks, blocked, untried] = counts;
    output::line(format_args!("{right} right, {leaks} leaks, {blocked} blocked, {untried} not tried"))
}

/// Says what a caller was let do, and whether that is wrong.
fn word(cell: &Cell) -> String {
    let found = match cell.found {
        Found::Denied => "–",
        Found::Nothing => "none",
        Found::Own => "own",
        Found::OthersOnly => "others'",
        Found::All => "all",
        Found::AppendOnly => "append-only",
        Found::Untried => "?",
    };
    match cell.verdict {
        Verdict::Right | Verdict::Untried => found.to_owned(),
        Verdict::Leak => format!("LEAK {found}"),
        Verdict::Blocked => format!("BLOCKED {found}"),
    }
}
