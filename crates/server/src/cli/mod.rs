//! The command line: one file a command.

mod alerts;
mod archetype;
mod audit;
mod classify;
mod completions;
mod config;
mod db;
mod demo;
mod doctor;
mod explain;
mod import;
mod job;
mod keys;
pub mod lines;
mod logs;
mod output;
mod recommend;
mod report;
mod rls;
mod serve;
mod settings;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nudge_store::{Actor, Dsn, PostgresOptions, Store, StoreOptions};

pub use recommend::what_if;

use crate::clock::Clock;
use crate::config::{Config, Database, Values};
use settings::Flags;

/// Personalized defaults for a shared-lease marketplace: recommends, records, measures.
#[derive(Debug, Parser)]
#[command(
    name = "nudge",
    version,
    after_help = "Start here:\n  nudge demo                    a marketplace with people in it, served on http://127.0.0.1:54321\n  \
                  nudge serve                   the service on ./nudge-data\n  \
                  nudge keys                    the keys of ./nudge-data, as environment lines\n  \
                  nudge COMMAND --help          more of a command, with examples"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Settings file; default: nudge.toml of this folder, if there is one
    #[arg(long, global = true, value_name = "FILE", help_heading = settings::HEADING)]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Keys(keys::Args),
    Token(token::Args),
    Import(import::Args),
    Explain(explain::Args),
    Report(report::Args),
    Archetype(archetype::Args),
    Job(job::Args),
    Alerts(alerts::Args),
    Audit(audit::Args),
    Logs(logs::Args),
    Db(db::Args),
    Rls(rls::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Classify(classify::Args),
    Recommend(recommend::Args),
    Completions(completions::Args),
}

/// Gives the command as clap sees it, for completions and the help test.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says whether the reader of our output has gone away, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        // A JSON error hides the one that it was made from.
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let settings = || -> anyhow::Result<Config> {
        let values = Values::gather(&cli.flags.0, |name| std::env::var(name).ok(), cli.config.as_deref())?;
        Ok(Config::from_values(values)?)
    };
    let done = ExitCode::SUCCESS;
    match cli.command {
        Command::Demo(args) => asynchronous(demo::run(args, settings()?)).map(|()| done),
        Command::Serve(args) => asynchronous(serve::run(args, settings()?)).map(|()| done),
        Command::Keys(args) => keys::run(&args, &settings()?).map(|()| done),
        Command::Token(args) => token::run(&args, &settings()?).map(|()| done),
        Command::Import(args) => asynchronous(import::run(args, settings()?)).map(|()| done),
        Command::Explain(args) => asynchronous(explain::run(args, settings()?)),
        Command::Report(args) => asynchronous(report::run(args, settings()?)).map(|()| done),
        Command::Archetype(args) => asynchronous(archetype::run(args, settings()?)).map(|()| done),
        Command::Job(args) => asynchronous(job::run(args, settings()?)),
        Command::Alerts(args) => asynchronous(alerts::run(args, settings()?)),
        Command::Audit(args) => asynchronous(audit::run(args, settings()?)),
        Command::Logs(args) => asynchronous(logs::run(args, settings()?)),
        Command::Db(args) => asynchronous(db::run(args, settings()?)),
        Command::Rls(args) => asynchronous(rls::run(args, settings()?)),
        Command::Doctor(args) => asynchronous(doctor::run(args, settings()?)),
        Command::Config(args) => config::run(&args, &settings()?).map(|()| done),
        Command::Classify(args) => classify::run(&args, &settings()?.policy),
        Command::Recommend(args) => recommend::run(&args, &settings()?.policy),
        Command::Completions(args) => completions::run(&args).map(|()| done),
    }
}

fn asynchronous<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Opens the database that a server has made, for a command that works beside it.
async fn open_existing(config: &Config) -> anyhow::Result<Store> {
    let path = match &config.database {
        Database::File(path) => path,
        Database::Server { dsn, .. } => return connect(dsn).await,
    };
    if !path.exists() {
        anyhow::bail!(
            "there is no database at {}\n  Start one with `nudge demo` or `nudge serve`, or say where it is with --data-dir DIR.",
            path.display()
        );
    }
    Ok(Store::open_existing(StoreOptions::beside_server(path.clone()))?)
}

/// Opens the database, or makes it, for a command that works beside a server.
async fn open_or_make(config: &Config) -> anyhow::Result<Store> {
    match &config.database {
        Database::File(path) => {
            std::fs::create_dir_all(&config.data_dir)?;
            Ok(Store::open(StoreOptions::beside_server(path.clone()))?)
        }
        Database::Server { dsn, .. } => connect(dsn).await,
    }
}

async fn connect(dsn: &Dsn) -> anyhow::Result<Store> {
    Ok(Store::connect(PostgresOptions::of_a_command(dsn.clone())).await?)
}

/// Makes the use cases of a command that works beside a server.
fn archetypes(config: &Config, store: &Store) -> crate::usecases::archetype::Archetypes {
    use std::sync::Arc;
    let policy = Arc::new(config.policy.clone());
    let people =
        crate::usecases::people::People::new(store.clone(), Arc::clone(&policy), config.cache_ttl, 1_000);
    crate::usecases::archetype::Archetypes { store: store.clone(), people: Arc::new(people), policy }
}

/// Who acts on the command line, for the audit log.
fn operator() -> Actor {
    let name = std::env::var("USER").unwrap_or_default();
    Actor {
        id: "cli".to_owned(),
        role: "operator".to_owned(),
        ip_address: None,
        user_agent: Some(format!("nudge cli {name}").trim().to_owned()),
    }
}

/// The clock of commands.
fn clock() -> Clock {
    Clock::default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
