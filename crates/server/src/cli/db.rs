//! `nudge db`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use nudge_store::Dsn;
use nudge_store::admin::{
    self, Difference, Finding, Listed, Manifest, Server, State, Status, Step, embedded,
};
use serde::Serialize;

use crate::config::{Config, Database};

use super::{open_existing, output};

/// Look after the database: migrations, differences, backups
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the migrations that have not run
    #[command(
        after_help = "On PostgreSQL each migration is one transaction, as the database's owner, and is noted where the Supabase\n\
        CLI looks too: `supabase db push` and this command can go on from each other. An embedded database is\n\
        also brought up to date whenever it is opened.\n\n\
        Examples:\n  DATABASE_URL=postgres://owner@db.example/app nudge db push --dry-run\n  \
        DATABASE_URL=postgres://owner@db.example/app nudge db push --service-role nudge_service\n  \
        psql $DATABASE_URL -c '\\password nudge_service'"
    )]
    Push {
        /// Say what would be run, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Also make this login for the service (PostgreSQL): it has the callers' rights, and owns nothing
        #[arg(long, value_name = "NAME")]
        service_role: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the migrations, and which have run
    #[command(after_help = "Examples:\n  nudge db status\n  nudge db status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print how the live schema differs from the migrations
    #[command(
        after_help = "Prints nothing and succeeds where there is no difference. Lines with - are what the migrations make and the\n\
        database lacks, lines with + what it has besides. Tables of the app are not looked at.\n\n\
        Examples:\n  nudge db diff\n  nudge db diff --json | jq .unexpected"
    )]
    Diff {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write everything of ours into a new file, and check it
    #[command(
        after_help = "A file of the embedded database is a database; one of PostgreSQL is SQL text, made by pg_dump, which must be\n\
        installed and no older than the server. Tables of the app are not in it. An existing file is not overwritten.\n\n\
        Examples:\n  nudge db dump backup.db\n  \
        DATABASE_URL=postgres://owner@db.example/app nudge db dump backup_$(date +%Y%m%d).sql"
    )]
    Dump {
        /// The file to make
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring a dump into a database that has nothing of ours
    #[command(
        after_help = "All of it or nothing, and every table is compared with what was dumped. Nothing is overwritten.\n\n\
        Examples:\n  nudge db restore backup.db --data-dir ./restored\n  \
        DATABASE_URL=postgres://owner@db.example/empty nudge db restore backup.sql"
    )]
    Restore {
        /// The file that `nudge db dump` has made
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Push { dry_run, service_role, json } => match &config.database {
            Database::File(_) if service_role.is_some() => {
                anyhow::bail!("--service-role is for PostgreSQL: the embedded database has no roles")
            }
            Database::File(path) => push_file(path, dry_run, json, &config).await?,
            server => push(&connect(server).await?, dry_run, service_role.as_deref(), json).await?,
        },
        Command::Status { json } => status(&read_status(&config.database).await?, &config.database, json)?,
        Command::Diff { json } => return diff(&config.database, json).await,
        Command::Dump { file, json } => dump(&config.database, &file, json).await?,
        Command::Restore { file, json } => return restore(&config, &file, json).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects past a transaction pooler, where there is a way.
pub(super) async fn connect(database: &Database) -> anyhow::Result<Server> {
    let dsn: &Dsn = match database {
        Database::File(path) => anyhow::bail!("{} is an embedded database", path.display()),
        Database::Server { direct: Some(direct), .. } => direct,
        Database::Server { dsn, direct: None } => dsn,
    };
    Ok(Server::connect(dsn.clone()).await?)
}

async fn read_status(database: &Database) -> anyhow::Result<Status> {
    Ok(match database {
        Database::File(path) => embedded::status(path)?,
        server => connect(server).await?.status().await?,
    })
}

fn status(found: &Status, database: &Database, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(found);
    }
    output::line(format_args!("{database}"))?;
    for one in &found.migrations {
        let state = match one.state {
            State::Applied => "applied",
            State::Unrecorded => "applied, not in the history",
            State::Pending => "pending",
            State::Newer => "applied, unknown to this version of nudge",
        };
        let when = one.applied_at.as_deref().unwrap_or_default();
        output::line(
            format_args!("  {}  {:<16} {when:<20}  {state}", one.version, one.name).to_string().trim_end(),
        )?;
    }
    let to_do = found.to_do().count();
    if to_do > 0 {
        output::note(format_args!("{to_do} to do: nudge db push"));
    }
    Ok(())
}

/// What a push did, or would do.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed<'a> {
    dry_run: bool,
    migrations: &'a [Listed],
    #[serde(skip_serializing_if = "Option::is_none")]
    service_role: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    findings: &'a [Finding],
}

fn tell(pushed: &Pushed<'_>, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(pushed);
    }
    if pushed.migrations.is_empty() {
        output::line("nothing to do: the schema is up to date")?;
    }
    for one in pushed.migrations {
        let done = if pushed.dry_run { "would run" } else { "done" };
        output::line(format_args!("{done}  {}_{}", one.version, one.name))?;
    }
    for finding in pushed.findings {
        output::note(format_args!("note: {finding}"));
        for statement in finding.remedy() {
            output::note(format_args!("      {statement}"));
        }
    }
    Ok(())
}

async fn push(server: &Server, dry_run: bool, role: Option<&str>, json: bool) -> anyhow::Result<()> {
    if dry_run {
        let found = server.status().await?;
        if found.is_newer() {
            return Err(admin::AdminError::Newer { found: found.version, known: found.known }.into());
        }
        let migrations: Vec<Listed> = found.to_do().cloned().collect();
        return tell(&Pushed { dry_run, migrations: &migrations, service_role: role, findings: &[] }, json);
    }
    let migrations = server
        .push(|step| match step {
            Step::Waiting => output::note("another push is at work: waiting for it"),
            Step::Running(migration) => output::note(format_args!("running {}", migration.name)),
            Step::Done(_) | Step::Noted(_) => {}
        })
        .await?;
    if let Some(name) = role {
        let made = server.make_service_role(name).await?;
        let text = if made { "made, without a password: set one with psql's \\password" } else { "is there" };
        output::note(format_args!("the role {name} {text}"));
    }
    let findings = server.findings().await?;
    tell(&Pushed { dry_run, migrations: &migrations, service_role: role, findings: &findings }, json)
}

async fn push_file(path: &Path, dry_run: bool, json: bool, config: &Config) -> anyhow::Result<()> {
    let found = embedded::status(path)?;
    if found.is_newer() {
        return Err(admin::AdminError::Newer { found: found.version, known: found.known }.into());
    }
    let migrations: Vec<Listed> = found.to_do().cloned().collect();
    if !dry_run && !migrations.is_empty() {
        // Opening it is what migrates it.
        super::open_or_make(config).await?.close().await;
    }
    tell(&Pushed { dry_run, migrations: &migrations, service_role: None, findings: &[] }, json)
}

async fn diff(database: &Database, json: bool) -> anyhow::Result<ExitCode> {
    let found: Difference = match database {
        Database::File(path) => embedded::diff(path)?,
        server => connect(server).await?.diff().await?,
    };
    if json {
        output::json(&found)?;
    } else {
        for line in &found.missing {
            output::line(format_args!("- {line}"))?;
        }
        for line in &found.unexpected {
            output::line(format_args!("+ {line}"))?;
        }
    }
    Ok(if found.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn dump(database: &Database, file: &Path, json: bool) -> anyhow::Result<()> {
    let rows = match database {
        Database::File(path) => {
            let copied = embedded::dump(path, file)?;
            if json {
                return output::json(&copied);
            }
            copied.tables.values().sum()
        }
        server => {
            let manifest = connect(server).await?.dump(file).await?;
            if json {
                return output::json(&manifest);
            }
            rows_of(&manifest)
        }
    };
    output::line(format_args!("{}: written and checked, {rows} rows", file.display()))?;
    Ok(())
}

fn rows_of(manifest: &Manifest) -> i64 {
    manifest.tables.values().map(|table| table.rows).sum()
}

/// What a restore brought back.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Restored {
    rows: i64,
    /// Facts whose tables are the app's and are not here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    empty: Vec<String>,
    audit: nudge_store::AuditReport,
}

async fn restore(config: &Config, file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let (rows, empty) = match &config.database {
        Database::File(path) => (embedded::restore(file, path)?.tables.values().sum(), Vec::new()),
        server => {
            let restored = connect(server).await?.restore(file).await?;
            (rows_of(&restored.manifest), restored.empty)
        }
    };
    let store = open_existing(config).await?;
    let audit = store.verify_audit(None).await?;
    store.close().await;
    let whole = audit.broken.is_none();
    let restored = Restored { rows, empty, audit };
    if json {
        output::json(&restored)?;
    } else {
        output::line(format_args!("{}: restored {rows} rows, as they were dumped", file.display()))?;
        match &restored.audit.broken {
            None => {
                output::line(format_args!("the audit chain is whole, {} entries", restored.audit.entries))?
            }
            Some((id, how)) => output::line(format_args!("the audit chain is BROKEN at entry {id}: {how}"))?,
        }
        for fact in &restored.empty {
            output::note(format_args!(
                "nudge.{fact} is empty: the tables that it was made over are not here"
            ));
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
