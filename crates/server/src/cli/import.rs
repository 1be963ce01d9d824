//! `nudge import`

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use nudge_store::{FactChange, FactKey, FactRow, FactTable, FieldError};
use serde_json::{Map, Value};

use crate::config::Config;

use super::{clock, output};

/// Most errors that are shown.
const SHOWN_ERRORS: usize = 20;

/// Import a table of facts from CSV or NDJSON, as a whole or not at all
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Tables: profiles, leases, lease_members, lease_nights, date_change_requests. Rows with a known key are replaced.\n\
    The whole file is checked first; with any bad row nothing is imported and each is named with line and column.\n\
    Works beside a running server, which sees the rows within a second.\n\n\
    Examples:\n  nudge import leases leases.csv\n  nudge import date_change_requests requests.ndjson\n  \
    nudge import lease_nights nights.txt --format csv --dry-run"
)]
pub struct Args {
    /// The table
    table: FactTable,
    /// The file
    file: PathBuf,
    /// The format; default: by the file's ending
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Check only
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Ndjson,
}

/// A row that cannot be imported.
#[derive(Debug, serde::Serialize)]
struct BadRow {
    line: u64,
    column: String,
    problem: String,
}

/// The rows of a file, and those that are bad.
#[derive(Default)]
struct Checked {
    rows: Vec<FactChange>,
    bad: Vec<BadRow>,
    bad_count: usize,
    seen: BTreeMap<FactKey, u64>,
}

impl Checked {
    fn add(&mut self, line: u64, row: Result<FactRow, FieldError>) {
        let checked = row.and_then(|row| match self.seen.insert(row.key(), line) {
            None => Ok(row),
            Some(first) => {
                Err(FieldError { field: "key".into(), problem: format!("stands in line {first} already") })
            }
        });
        match checked {
            Ok(row) => self.rows.push(FactChange::Upsert(row)),
            Err(FieldError { field, problem }) => self.bad(line, field, problem),
        }
    }

    fn bad(&mut self, line: u64, column: String, problem: String) {
        self.bad_count += 1;
        if self.bad.len() < SHOWN_ERRORS {
            self.bad.push(BadRow { line, column, problem });
        }
    }
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<()> {
    let format = match (args.format, args.file.extension().and_then(|e| e.to_str())) {
        (Some(format), _) => format,
        (None, Some("csv")) => Format::Csv,
        (None, Some("ndjson" | "jsonl")) => Format::Ndjson,
        _ => bail!("{}: say --format csv or --format ndjson", args.file.display()),
    };
    let checked = check(&args, format).with_context(|| format!("cannot read {}", args.file.display()))?;
    if checked.bad_count > 0 {
        for bad in &checked.bad {
            output::note(format_args!(
                "{}:{}: column `{}` {}",
                args.file.display(),
                bad.line,
                bad.column,
                bad.problem
            ));
        }
        if checked.bad_count > checked.bad.len() {
            output::note(format_args!("… and {} more", checked.bad_count - checked.bad.len()));
        }
        bail!("{} bad rows; nothing was imported", checked.bad_count);
    }
    let rows = checked.rows.len();
    if args.dry_run {
        output::line(format_args!(
            "{rows} rows of {} are good; nothing was imported (--dry-run)",
            args.table
        ))?;
        return Ok(());
    }
    write(&args, &config, checked.rows).await
}

async fn write(args: &Args, config: &Config, rows: Vec<FactChange>) -> anyhow::Result<()> {
    let store = super::open_or_make(config).await?;
    let spinner = output::progress("writing in one go", rows.len() as u64);
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let applied = store.apply_facts(rows, clock().now()).await;
    spinner.finish_and_clear();
    store.close().await;
    let applied = applied?;
    if args.json {
        return output::json(&serde_json::json!({
            "table": args.table.as_str(), "upserted": applied.upserted, "unchanged": applied.unchanged,
            "staleUsers": applied.stale_users, "outcomesRecorded": applied.events_recorded,
            "outcomesRefused": applied.event_conflicts, "unknownRecommendations": applied.unknown_recommendations,
        }));
    }
    output::line(format_args!(
        "{}: {} rows imported, {} were there already, {} people to recompute",
        args.table, applied.upserted, applied.unchanged, applied.stale_users
    ))?;
    let outcomes = (applied.events_recorded, applied.event_conflicts, applied.unknown_recommendations);
    if outcomes != (0, 0, 0) {
        output::line(format_args!(
            "  outcomes: {} recorded, {} contradict what is known, {} of unknown recommendations",
            outcomes.0, outcomes.1, outcomes.2
        ))?;
    }
    Ok(())
}

fn check(args: &Args, format: Format) -> anyhow::Result<Checked> {
    let length = std::fs::metadata(&args.file)?.len();
    let bar = output::progress("checking", length);
    let reader = bar.wrap_read(std::fs::File::open(&args.file)?);
    let checked = match format {
        Format::Csv => check_csv(args.table, reader, &args.file),
        Format::Ndjson => check_ndjson(args.table, BufReader::new(reader)),
    };
    bar.finish_and_clear();
    checked
}

fn check_csv(table: FactTable, reader: impl std::io::Read, file: &Path) -> anyhow::Result<Checked> {
    let mut reader = csv::ReaderBuilder::new().from_reader(reader);
    let header = reader.headers()?.clone();
    let missing: Vec<_> = table
        .columns()
        .iter()
        .filter(|(name, required)| *required && !header.iter().any(|h| h == *name))
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        bail!("{}:1: the header lacks {}", file.display(), missing.join(", "));
    }
    let unknown = header.iter().find(|h| !table.columns().iter().any(|(name, _)| name == h));
    if let Some(unknown) = unknown {
        bail!("{}:1: `{unknown}` is not a column of {table}", file.display());
    }
    let mut checked = Checked::default();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(checked),
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                let map: Map<String, Value> =
                    header.iter().zip(&record).map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
                checked.add(line, FactRow::from_json(table, &map));
            }
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                checked.bad(line, "row".into(), format!("cannot be read: {error}"));
            }
        }
    }
}

fn check_ndjson(table: FactTable, reader: impl BufRead) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    for (number, line) in (1_u64..).zip(reader.split(b'\n')) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(map) => match map.keys().find(|k| !table.columns().iter().any(|(name, _)| name == k)) {
                Some(unknown) => checked.bad(number, unknown.clone(), format!("is not a column of {table}")),
                None => checked.add(number, FactRow::from_json(table, &map)),
            },
            Err(error) => {
                checked.bad(
                    number,
                    format!("{}", error.column()),
                    format!("is where the JSON breaks: {error}"),
                );
            }
        }
    }
    Ok(checked)
}
