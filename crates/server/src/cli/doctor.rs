//! `nudge doctor`

use std::process::ExitCode;

use nudge_store::admin::{Finding, Severity, Status, embedded};
use serde::Serialize;

use crate::config::{Config, Database};

use super::{db, output};

/// Say what is missing or does not fit, and what mends it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks at migrations that have not run, rights that are not ours, tables of the app that cannot be read as facts\n\
    (column by column), lookups without an index, and months without a partition. Changes nothing. Fails on what a\n\
    server refuses to start with; what it can live with is a warning.\n\n\
    Examples:\n  nudge doctor\n  DATABASE_URL=postgres://owner@db.example/app nudge doctor\n  \
    nudge doctor --json | jq -r '.findings[].remedy[]'"
)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    database: String,
    version: i64,
    known_version: i64,
    pending: Vec<String>,
    findings: Vec<Told<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    severity: Severity,
    text: String,
    remedy: Vec<String>,
    #[serde(flatten)]
    finding: &'a Finding,
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let (status, findings): (Status, Vec<Finding>) = match &config.database {
        Database::File(path) => (embedded::status(path)?, Vec::new()),
        server => {
            let server = db::connect(server).await?;
            let status = server.status().await?;
            // What is not there yet cannot be looked at.
            let whole = status.to_do().next().is_none();
            let findings = if whole { server.findings().await? } else { Vec::new() };
            (status, findings)
        }
    };
    let report = Report {
        database: config.database.to_string(),
        version: status.version,
        known_version: status.known,
        pending: status.to_do().map(|one| format!("{}_{}", one.version, one.name)).collect(),
        findings: findings.iter().map(told).collect(),
    };
    if args.json {
        output::json(&report)?;
    } else {
        print(&report, status.is_newer())?;
    }
    let refused = report.findings.iter().any(|told| told.severity == Severity::Refusal);
    let fit = !refused && report.pending.is_empty() && !status.is_newer();
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(finding: &Finding) -> Told<'_> {
    Told { severity: finding.severity(), text: finding.to_string(), remedy: finding.remedy(), finding }
}

fn print(report: &Report<'_>, newer: bool) -> anyhow::Result<()> {
    output::line(&report.database)?;
    if newer {
        output::line(format_args!(
            "WRONG: the schema has version {}, this program knows {}: start the newer program",
            report.version, report.known_version
        ))?;
    }
    for one in &report.pending {
        output::line(format_args!("WRONG: {one} has not run\n       nudge db push"))?;
    }
    for told in &report.findings {
        let word = match told.severity {
            Severity::Refusal => "WRONG",
            Severity::Warning => "note",
        };
        output::line(format_args!("{word}: {}", told.text))?;
        for statement in &told.remedy {
            output::line(format_args!("       {statement}"))?;
        }
    }
    if report.pending.is_empty() && report.findings.is_empty() && !newer {
        output::line("nothing is missing, and everything fits")?;
    }
    Ok(())
}
