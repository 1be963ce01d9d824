//! `nudge job`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use indicatif::{HumanCount, ProgressBar};
use jiff::Timestamp;
use nudge_store::job::{Run, RunCancelled, RunCause, RunStatus, RunTotals, Scheduler, TakenRun};
use nudge_store::{Dsn, Store};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, Database};
use crate::jobs::run::{Left, Means, Work};
use crate::jobs::schedule::Schedule;
use crate::server::asked_to_stop;
use crate::usecases::job::{Begun, By, JobConfig, Jobs, Triggered};
use crate::usecases::job_result::{self, JobResult};

use super::{clock, open_existing, output};

/// Recompute every archetype, now or at night; watch, cancel and look back
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One run at a time, whatever the number of servers and commands; a run that is interrupted is gone on with from\n\
    where it was. Overrides in force and people who opted out are left alone.\n\n\
    Examples:\n  nudge job run                         those that are stale or a day old\n  \
    nudge job run --all --dry-run         what a run for everybody would change\n  \
    nudge job status --watch\n  nudge job cancel\n  nudge job history --json\n  \
    DATABASE_URL=postgres://owner@db.example/app nudge job schedule --via pg_cron"
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
    /// Run it now, here; a run that is under way elsewhere is watched
    Run {
        /// Everybody, not only those that are stale or whose archetype is old
        #[arg(long)]
        all: bool,
        /// Users in a batch, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        batch_size: u32,
        /// Hours after which an archetype is old, 0 to 8760; an hour less counts
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=8_760))]
        stale_threshold_hours: u32,
        /// Say what would change, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the newest run, or the one with this id
    Status {
        /// The run
        job_id: Option<Uuid>,
        /// Until it has ended
        #[arg(long)]
        watch: bool,
    },
    /// Cancel the run that is under way, or the one with this id; what it has stored stays
    Cancel {
        /// The run
        job_id: Option<Uuid>,
    },
    /// List the newest runs, with the distribution of archetypes after each
    History {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Say when the nightly run is due, or let the database start it (PostgreSQL with pg_cron)
    Schedule {
        /// Who is to start it: the servers (built-in), or the database (pg_cron)
        #[arg(long, value_name = "WHO")]
        via: Option<Via>,
        /// Take the database's entry away; the servers start it again
        #[arg(long, conflicts_with = "via")]
        off: bool,
        /// When the database is to start it, five fields of cron in the time zone of pg_cron (GMT unless set otherwise)
        #[arg(long, value_name = "CRON", default_value = "0 2 * * *", requires = "via")]
        cron: String,
    },
}

/// Who starts the nightly run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Via {
    BuiltIn,
    #[value(name = "pg_cron")]
    PgCron,
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let store = open_existing(&config).await?;
    let done = work(&args, &config, &store).await;
    store.close().await;
    done
}

async fn work(args: &Args, config: &Config, store: &Store) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Run { all, batch_size, stale_threshold_hours, dry_run } => {
            let settings = JobConfig {
                batch_size: *batch_size,
                only_stale_users: !all,
                stale_threshold_hours: *stale_threshold_hours,
                ..JobConfig::default()
            };
            let means = means(config, store);
            match dry_run {
                true => dry(means, settings, args.json).await,
                false => start(means, config, settings, args.json).await,
            }
        }
        Command::Status { job_id, watch } => status(store, *job_id, *watch, args.json).await,
        Command::Cancel { job_id } => cancel(store, config, *job_id, args.json).await,
        Command::History { limit } => history(store, *limit, args.json).await,
        Command::Schedule { via, off, cron } => schedule(store, config, (*via, *off, cron), args.json).await,
    }
}

fn means(config: &Config, store: &Store) -> Means {
    Means {
        store: store.clone(),
        clock: clock(),
        policy: Arc::new(config.policy.clone()),
        drift_points: config.job_drift_points,
    }
}

async fn start(means: Means, config: &Config, settings: JobConfig, json: bool) -> anyhow::Result<ExitCode> {
    let jobs = Jobs::new(means.store.clone(), means.clock.clone(), config.holder());
    let mut begun = jobs.take_begun();
    let id = match jobs.trigger(settings, RunCause::Asked, By::Person(&super::operator())).await? {
        Triggered::Started(id) => {
            let Some(Begun { lease, config, started_at }) = begun.as_mut().and_then(|b| b.try_recv().ok())
            else {
                anyhow::bail!("the run did not begin");
            };
            let expected = expected(&means.store, settings).await?;
            work_here(|stop| Work::new(means.clone(), lease, config, started_at, stop), expected).await?;
            id
        }
        Triggered::Running(id) => {
            let run = means.store.run(id).await?;
            if run.is_some_and(|run| run.status == RunStatus::Interrupted) {
                return go_on(means, config, json).await;
            }
            output::note(format_args!("a run is under way already; watching {id}"));
            if watch_run(&means.store, id, false).await? == RunStatus::Interrupted {
                return go_on(means, config, json).await;
            }
            id
        }
        Triggered::SeenTo => anyhow::bail!("the run did not begin"),
    };
    told_of_work(&means.store, id, json).await
}

/// Goes on with a run that nobody works on.
async fn go_on(means: Means, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let Some(taken) = means.store.take_over_run(&config.holder()).await? else {
        anyhow::bail!(
            "another process has just gone on with the interrupted run; `nudge job status` shows it"
        );
    };
    output::note(format_args!("going on with the interrupted run {}", taken.lease.run_id));
    let TakenRun { lease, cursor, totals, config: settings, started_at } = taken;
    let settings = JobConfig::from_value(&settings)?;
    let work = |stop| Work::new(means.clone(), lease, settings, started_at, stop).from(cursor, totals);
    work_here(work, None).await?;
    told_of_work(&means.store, lease.run_id, json).await
}

/// Works on a run until it leaves this process, with its progress; Ctrl-C pauses it after the batch in hand.
async fn work_here(
    work: impl FnOnce(watch::Receiver<bool>) -> Work,
    expected: Option<u64>,
) -> anyhow::Result<()> {
    let bar = counting();
    if let Some(expected) = expected {
        bar.set_length(expected);
    }
    let (stop, stopping) = watch::channel(false);
    let told = bar.clone();
    let work = work(stopping).on_progress(move |totals| told.set_position(totals.processed));
    let working = tokio::spawn(work.run());
    let asked = tokio::spawn(async move {
        asked_to_stop().await;
        // Who is not there any more need not be told.
        stop.send_replace(true);
    });
    let left = working.await?;
    asked.abort();
    bar.finish_and_clear();
    if left == Left::As(RunStatus::Interrupted) {
        output::note(
            "the run is interrupted: a server goes on with it, or `nudge job run`; `nudge job cancel` ends it",
        );
    }
    Ok(())
}

/// Says how many users a run is for, where that is known beforehand: as many as have an archetype.
async fn expected(store: &Store, settings: JobConfig) -> anyhow::Result<Option<u64>> {
    if settings.only_stale_users {
        return Ok(None);
    }
    let known: u64 = store.archetype_counts().await?.iter().map(|(_, count)| count).sum();
    Ok(Some(known).filter(|known| *known > 0))
}

fn counting() -> ProgressBar {
    output::progress("recomputing", 0)
}

async fn dry(means: Means, settings: JobConfig, json: bool) -> anyhow::Result<ExitCode> {
    let bar = counting();
    let told = bar.clone();
    let totals = crate::jobs::run::rehearse(&means, settings, move |totals: &RunTotals| {
        told.set_position(totals.processed);
    })
    .await?;
    bar.finish_and_clear();
    if json {
        output::json(&json!({ "dryRun": true, "totals": totals }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!("Nothing was written. A run now would look at {} users:", totals.processed))?;
    print_totals(&totals)?;
    Ok(ExitCode::SUCCESS)
}

fn print_totals(totals: &RunTotals) -> anyhow::Result<()> {
    let line =
        |what: &str, n: u64| output::line(format_args!("  {what:34} {:>12}", HumanCount(n).to_string()));
    line("updated (type, or confidence by 0.1)", totals.updated)?;
    line("failed", totals.failed)?;
    line("left alone: override", totals.override_skipped)?;
    line("left out: opted out", totals.opted_out)?;
    line("changed meanwhile, still stale", totals.superseded)?;
    for moved in &totals.moves {
        let from = moved.from.map_or("new", |from| from.as_str());
        output::line(format_args!("    {from} → {}: {}", moved.to.as_str(), HumanCount(moved.count)))?;
    }
    Ok(())
}

/// Prints a run; the exit status says whether it is all right.
async fn told(store: &Store, id: Uuid, json: bool) -> anyhow::Result<ExitCode> {
    let run = store.run(id).await?.ok_or_else(|| anyhow::anyhow!("there is no run {id}"))?;
    print(&run, json)?;
    let bad = matches!(run.status, RunStatus::Failed | RunStatus::Interrupted);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints a run that was to be completed; anything else is no success.
async fn told_of_work(store: &Store, id: Uuid, json: bool) -> anyhow::Result<ExitCode> {
    told(store, id, json).await?;
    let completed = store.run(id).await?.is_some_and(|run| run.status == RunStatus::Completed);
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn status(store: &Store, id: Option<Uuid>, watch: bool, json: bool) -> anyhow::Result<ExitCode> {
    let id = match id {
        Some(id) => id,
        None => match newest(store).await? {
            Some(id) => id,
            None => {
                output::note("no run yet: `nudge job run` starts one");
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    if watch {
        watch_run(store, id, true).await?;
    }
    told(store, id, json).await
}

/// Gives the run under way, else the newest one.
async fn newest(store: &Store) -> anyhow::Result<Option<Uuid>> {
    if let Some(id) = store.job_state().await?.run_id {
        return Ok(Some(id));
    }
    Ok(store.runs(1).await?.first().map(|run| run.id))
}

/// Shows a run's progress until it has ended.
///
/// With `also_interrupted` it waits until somebody goes on with a run that nobody works on, else it gives that status.
async fn watch_run(store: &Store, id: Uuid, also_interrupted: bool) -> anyhow::Result<RunStatus> {
    let bar = counting();
    loop {
        let run = store.run(id).await?.ok_or_else(|| anyhow::anyhow!("there is no run {id}"))?;
        bar.set_position(u64::try_from(run.processed).unwrap_or_default());
        if run.status.is_final() || run.status == RunStatus::Interrupted && !also_interrupted {
            bar.finish_and_clear();
            return Ok(run.status);
        }
        bar.set_message(run.status.as_str());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn cancel(store: &Store, config: &Config, id: Option<Uuid>, json: bool) -> anyhow::Result<ExitCode> {
    let id = match id {
        Some(id) => id,
        None => match store.job_state().await?.run_id {
            Some(id) => id,
            None => {
                output::note("no run is under way");
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    let jobs = Jobs::new(store.clone(), clock(), config.holder());
    match jobs.cancel(id, &super::operator()).await? {
        RunCancelled::Cancelled => told(store, id, json).await,
        RunCancelled::Ended(status) => anyhow::bail!("the run {id} has ended: it is {}", status.as_str()),
        RunCancelled::Unknown => anyhow::bail!("there is no run {id}; `nudge job history` lists them"),
    }
}

async fn history(store: &Store, limit: u32, json: bool) -> anyhow::Result<ExitCode> {
    let runs = store.runs(limit).await?;
    if json {
        output::json(&runs.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        output::note("no run yet: `nudge job run` starts one");
    }
    for run in &runs {
        print(run, false)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(run: &Run) -> Value {
    json!({
        "jobId": run.id, "jobType": run.job_type, "status": run.status, "processed": run.processed,
        "updated": run.updated, "failed": run.failed, "durationMs": run.duration_ms, "cursor": run.cursor,
        "startedAt": run.started_at, "heartbeatAt": run.heartbeat_at, "completedAt": run.completed_at,
        "errorMessage": run.error_message, "metadata": run.metadata,
    })
}

fn print(run: &Run, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&as_json(run));
    }
    let took = run.duration_ms.map_or_else(String::new, |ms| format!(" in {}", took(ms)));
    output::line(format_args!(
        "{}  {}{took}  started {}  {}",
        output::strong(&run.id.to_string()),
        run.status.as_str(),
        seconds(run.started_at),
        run.metadata["trigger"].as_str().map_or_else(String::new, |by| format!("by {by}")),
    ))?;
    output::line(format_args!(
        "  {} users looked at, {} updated, {} failed",
        run.processed, run.updated, run.failed
    ))?;
    if let Some(error) = &run.error_message {
        output::line(format_args!("  {error}"))?;
    }
    for moved in job_result::totals(run).unwrap_or_default().moves {
        let from = moved.from.map_or("new", |from| from.as_str());
        output::line(format_args!("    {from} → {}: {}", moved.to.as_str(), HumanCount(moved.count)))?;
    }
    let Some(result) = JobResult::in_run(run) else { return Ok(()) };
    for share in &result.distribution {
        let before = share.previous.map_or_else(String::new, |p| format!(", before {:.1} %", 100.0 * p));
        let warning = if share.moved { "  moved by more than it should" } else { "" };
        output::line(format_args!(
            "  {:18} {:>10}  {:>5.1} %  (guide: {:.0}-{:.0} %{before}){warning}",
            share.archetype.as_str(),
            HumanCount(share.count).to_string(),
            100.0 * share.share,
            100.0 * share.band.0,
            100.0 * share.band.1,
        ))?;
    }
    for failure in &result.failures {
        output::line(format_args!(
            "  failed: {} after {} attempts: {}",
            failure.user_id, failure.attempts, failure.reason
        ))?;
    }
    Ok(())
}

fn took(ms: i64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}

fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

async fn schedule(
    store: &Store,
    config: &Config,
    (via, off, cron): (Option<Via>, bool, &str),
    json: bool,
) -> anyhow::Result<ExitCode> {
    let to_pg_cron = via == Some(Via::PgCron);
    if via.is_some() || off {
        match (&config.database, to_pg_cron) {
            (Database::Server { dsn, .. }, true) => {
                let _: Schedule = cron.parse()?;
                pg_cron(dsn, Some(cron)).await?;
                store.set_scheduler(Scheduler::PgCron).await?;
            }
            (Database::Server { dsn, .. }, false) => {
                pg_cron(dsn, None).await?;
                store.set_scheduler(Scheduler::BuiltIn).await?;
            }
            (Database::File(_), true) => anyhow::bail!(
                "an embedded database has no scheduler of its own; the server starts the run (NUDGE_JOB_SCHEDULE)"
            ),
            (Database::File(_), false) => {}
        }
    }
    let scheduler = store.job_state().await?.scheduler;
    let next = config.job_schedule.next_due(clock().now(), &config.zone);
    let zone = config.values.text("NUDGE_TIMEZONE").unwrap_or("UTC");
    if json {
        output::json(&json!({
            "scheduler": scheduler, "schedule": config.job_schedule.to_string(), "timeZone": zone, "next": next,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    match (scheduler, next) {
        (Scheduler::PgCron, _) => {
            output::line(
                "The database starts the nightly run: SELECT * FROM cron.job WHERE jobname = 'daily-archetype-recalculation';",
            )?;
        }
        (Scheduler::BuiltIn, Some(next)) => output::line(format_args!(
            "A server starts the nightly run: `{}` in {zone}, next {}",
            config.job_schedule,
            seconds(next)
        ))?,
        (Scheduler::BuiltIn, None) => {
            output::line("Nobody starts the nightly run: NUDGE_JOB_SCHEDULE is off.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pg_cron(dsn: &Dsn, cron: Option<&str>) -> anyhow::Result<()> {
    let server = nudge_store::admin::Server::connect(dsn.clone()).await?;
    server.schedule_job(cron).await?;
    Ok(())
}
