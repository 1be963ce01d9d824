//! `nudge logs`

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Subcommand;
use nudge_engine::UserId;
use serde_json::json;

use crate::config::{Config, Keys};
use crate::drain::{Spec, delivery};
use crate::outbound::{Advice, Bounds, Outbound};
use crate::request_log::user::Users;
use crate::usecases::drain::{self, NewDrain};

use super::{clock, open_existing, operator, output};

/// Largest file of a secret or of headers.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Send the log of requests elsewhere, and find a user in it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up, list, try and delete drains, to which servers send the log of requests
    #[command(subcommand)]
    Drain(Drain),
    /// Show the hash by which the log knows a user
    #[command(after_help = "Examples:\n  nudge logs user user-000001\n  \
        psql \"$DATABASE_URL\" -c \"SELECT * FROM edge_function_logs WHERE user_id = '$(nudge logs user user-000001)'\"")]
    User {
        /// The user's id
        user: UserId,
    },
}

#[derive(Debug, Subcommand)]
enum Drain {
    /// Set up a drain; running servers take it up within seconds
    #[command(
        after_help = "A batch is a JSON array of at most 250 events, compressed with gzip. Events are filtered by function_name, \
        level (info, warn, error), status and method; a comma means and.\n\n\
        Examples:\n  nudge logs drain create --name pattern1-logs --destination https://logs.example.com/ingest \\\n    \
        --filters function_name=transaction-recommendations\n  \
        nudge logs drain create --name errors --destination https://logs.example.com/ingest \\\n    \
        --filters 'status>=500' --secret-file secret.txt\n  \
        echo 'authorization: Bearer …' | nudge logs drain create --name all \\\n    \
        --destination https://logs.example.com/ingest --headers-file -"
    )]
    Create {
        /// Its name: letters, digits, dots, dashes, underscores
        #[arg(long)]
        name: String,
        /// URL that batches are posted to, https or http
        #[arg(long, value_name = "URL")]
        destination: String,
        /// Which events it gets, such as 'function_name=ingest|rest,status>=500'; default: all
        #[arg(long, default_value = "", hide_default_value = true)]
        filters: String,
        /// File with a secret that batches are signed with, by the scheme of standardwebhooks.com; - is standard input
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// File with headers that are sent with every batch, a line `name: value` each; - is standard input
        #[arg(long, value_name = "FILE")]
        headers_file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the drains; secrets are not shown
    #[command(after_help = "Examples:\n  nudge logs drain list\n  nudge logs drain list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send one event that says it is a test, once, and show what came back
    #[command(after_help = "Examples:\n  nudge logs drain test pattern1-logs")]
    Test {
        /// The drain's name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a drain; running servers stop within seconds
    #[command(after_help = "Examples:\n  nudge logs drain delete pattern1-logs")]
    Delete {
        /// The drain's name
        name: String,
    },
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::User { user } => {
            let keys = Keys::load(&config)?;
            let users: Users = config.users_of_log(&keys);
            let hash = users.hash(&user).context("the key of the hashes cannot be used")?;
            output::line(hash)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Drain(Drain::Create { name, destination, filters, secret_file, headers_file, json }) => {
            let new = NewDrain {
                name,
                destination,
                filters,
                headers: headers_file.as_deref().map(read_headers).transpose()?.unwrap_or_default(),
                secret: secret_file.as_deref().map(read_secret).transpose()?,
            };
            create(&config, new, json).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Drain(Drain::List { json }) => list(&config, json).await.map(|()| ExitCode::SUCCESS),
        Command::Drain(Drain::Test { name, json }) => test(&config, &name, json).await,
        Command::Drain(Drain::Delete { name }) => {
            let store = open_existing(&config).await?;
            drain::delete(&store, &name, operator(), clock().now()).await?;
            store.close().await;
            output::line(format_args!("drain {name} is deleted"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create(config: &Config, new: NewDrain, json: bool) -> anyhow::Result<()> {
    let store = open_existing(config).await?;
    let created = drain::create(&store, &outbound(config), new, operator(), clock().now()).await;
    store.close().await;
    let spec = created?;
    if json {
        return output::json(&described(&spec));
    }
    let what = match spec.filters.is_empty() {
        true => "every request".to_owned(),
        false => format!("what meets {}", spec.filters),
    };
    output::line(format_args!("drain {} sends {what} to {}", spec.name, spec.destination))?;
    output::line(format_args!(
        "  running servers take it up within seconds; try it: nudge logs drain test {}",
        spec.name
    ))?;
    Ok(())
}

async fn list(config: &Config, json: bool) -> anyhow::Result<()> {
    let store = open_existing(config).await?;
    let drains = store.log_drains().await?;
    store.close().await;
    let specs: Vec<(String, Result<Spec, _>)> =
        drains.iter().map(|drain| (drain.name.clone(), Spec::parse(drain))).collect();
    if json {
        let described: Vec<_> = specs
            .iter()
            .map(|(name, spec)| match spec {
                Ok(spec) => described(spec),
                Err(error) => json!({ "name": name, "problem": error.to_string() }),
            })
            .collect();
        return output::json(&described);
    }
    if specs.is_empty() {
        output::line("no drains; `nudge logs drain create --help` shows how to set one up")?;
    }
    for (name, spec) in &specs {
        match spec {
            Ok(spec) => {
                let filters =
                    if spec.filters.is_empty() { "all".to_owned() } else { spec.filters.to_string() };
                let signed = if spec.signer.is_some() { "signed" } else { "not signed" };
                output::line(format_args!("{name}  {}  {filters}  {signed}", spec.destination))?;
            }
            Err(error) => output::line(format_args!("{name}  cannot be used: {error}"))?,
        }
    }
    Ok(())
}

async fn test(config: &Config, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let store = open_existing(config).await?;
    let found = drain::find(&store, name).await;
    store.close().await;
    let spec: Spec = found?;
    let begun = Instant::now();
    let sent = delivery::send_test(&spec, &outbound(config), &config.instance(), clock().now()).await;
    let millis = begun.elapsed().as_millis();
    let (good, said) = match &sent {
        Ok(answer) => (answer.advice() == Advice::Taken, format!("status {}", answer.status)),
        Err(error) => (false, error.to_string()),
    };
    if json {
        let status = sent.as_ref().ok().map(|answer| answer.status);
        let error = sent.as_ref().err().map(ToString::to_string);
        output::json(&json!({ "name": name, "destination": spec.destination.to_string(), "delivered": good,
            "status": status, "error": error, "millis": millis }))?;
    } else {
        output::line(format_args!("{}: {said} after {millis} ms", spec.destination))?;
        if !good {
            output::line("  not delivered")?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What may be shown of a drain.
fn described(spec: &Spec) -> serde_json::Value {
    let headers: Vec<_> = spec.headers.iter().map(|(name, _)| name.as_str()).collect();
    json!({ "name": &*spec.name, "destination": spec.destination.to_string(), "filters": spec.filters.to_string(),
        "signed": spec.signer.is_some(), "headers": headers })
}

fn outbound(config: &Config) -> Outbound {
    Outbound::new(config.outbound.clone(), Bounds::default(), clock())
}

/// Reads a file, or standard input for `-`. Secrets are no arguments: others can read a command line.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let complaint = || format!("cannot read {}", path.display());
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(MAX_FILE_BYTES).read_to_string(&mut text),
        false => {
            std::fs::File::open(path).with_context(complaint)?.take(MAX_FILE_BYTES).read_to_string(&mut text)
        }
    };
    read.with_context(complaint)?;
    Ok(text)
}

fn read_secret(path: &Path) -> anyhow::Result<String> {
    Ok(read(path)?.trim().to_owned())
}

fn read_headers(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let header = |(place, line): (usize, &str)| {
        // The line may hold a secret and is not quoted.
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("{}, line {}: not `name: value`", path.display(), place + 1))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    lines.map(header).collect()
}
