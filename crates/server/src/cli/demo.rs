//! `nudge demo`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, UserId};
use nudge_sim::{DEMO_SEED, World, WorldConfig, WorldKind};
use nudge_store::job::{RunCause, RunStatus};
use nudge_store::{FactChange, FactRow, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{output, token};
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::jobs::run::{Left, Means, Work};
use crate::server::{DataDirLock, Server, asked_to_stop, open_store};
use crate::telemetry;
use crate::usecases::job::{Begun, By, JobConfig, Jobs};
use crate::usecases::seed;

/// Days ahead that have nights.
const DAYS_AHEAD: i64 = 365;
/// Days back that have nights: those that the simulated decisions were about.
const DAYS_BACK: i64 = 28;

/// Serve a realistic marketplace: made on the first start, used again on the next
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The people, their leases, nights and requests are simulated from a seed; what they do goes through the real engine.\n\
    Everything is in the data folder: remove it to begin anew.\n\n\
    Examples:\n  nudge demo\n  nudge demo --people 20000 --data-dir /tmp/big --port 8080\n  nudge demo --world m --seed 7 --data-dir /tmp/mature"
)]
pub struct Args {
    /// Number of people, even
    #[arg(long, default_value_t = 2_000)]
    people: usize,
    /// y: a young marketplace, m: a mature one
    #[arg(long, default_value = "y", value_parser = parse_world)]
    world: WorldKind,
    /// Seed of the simulation
    #[arg(long, default_value_t = DEMO_SEED)]
    seed: u64,
}

fn parse_world(text: &str) -> Result<WorldKind, String> {
    match text {
        "y" | "Y" => Ok(WorldKind::Young),
        "m" | "M" => Ok(WorldKind::Mature),
        _ => Err("must be y (young) or m (mature)".to_owned()),
    }
}

/// What a marketplace was made from, kept in the data folder: in `demo.json` for the embedded database, in
/// `demo-server.json` for one on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    people: usize,
    world: String,
    seed: u64,
    made_at: Timestamp,
    nights_until: Date,
    /// The server's database that it is in, without a password; absent where it is in the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// Whether everything is in the database.
    complete: bool,
}

impl Made {
    fn path(config: &Config) -> PathBuf {
        config.data_dir.join(match config.database {
            Database::File(_) => "demo.json",
            Database::Server { .. } => "demo-server.json",
        })
    }

    fn read(config: &Config) -> anyhow::Result<Option<Self>> {
        let path = Self::path(config);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let made = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(made))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, config: &Config) -> anyhow::Result<()> {
        let path = Self::path(config);
        let draft = path.with_extension("json.new");
        std::fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&draft, &path)?;
        Ok(())
    }

    /// Refuses a folder made with other arguments, naming both.
    fn check(&self, args: &Args, data_dir: &Path) -> anyhow::Result<()> {
        let wanted = (args.people, args.world.letter(), args.seed);
        let found = (self.people, self.world.as_str(), self.seed);
        if wanted == found {
            return Ok(());
        }
        bail!(
            "{} holds a marketplace made with --people {} --world {} --seed {},\n  not with --people {} --world {} --seed {}.\n  \
             Use those arguments, another folder (--data-dir DIR), or remove this one.",
            data_dir.display(),
            found.0,
            found.1.to_lowercase(),
            found.2,
            wanted.0,
            wanted.1.to_lowercase(),
            wanted.2
        )
    }
}

pub async fn run(args: Args, mut config: Config) -> anyhow::Result<()> {
    telemetry::start_logs(&config)?;
    let lock = DataDirLock::take(&config.data_dir)?;
    let clock = Clock::default();
    let now = clock.now();
    let world = prepare(&args, &config, now).await?;
    let server = Server::start(&mut config, lock, clock.clone()).await?;
    // Whoever reads the greeting may stop the server at once.
    let stop = asked_to_stop();
    print(&server, &config, &world, clock.today(&config.zone)).await?;
    server.serve(stop).await;
    Ok(())
}

/// Says where the marketplace is.
fn place(config: &Config) -> String {
    match &config.database {
        Database::File(_) => config.data_dir.display().to_string(),
        Database::Server { dsn, .. } => dsn.to_string(),
    }
}

/// Makes the marketplace in a fresh folder, or extends the nights of the one that is there.
async fn prepare(args: &Args, config: &Config, now: Timestamp) -> anyhow::Result<World> {
    let made = Made::read(config)?;
    let until = now
        .to_zoned_datetime(jiff::tz::TimeZone::UTC)
        .date()
        .saturating_add(jiff::Span::new().days(DAYS_AHEAD));
    let database = match &config.database {
        Database::File(_) => None,
        Database::Server { dsn, .. } => Some(dsn.to_string()),
    };
    if let Some(made) = made.filter(|made| made.complete && made.database == database) {
        made.check(args, &config.data_dir)?;
        let world = World::generate(&WorldConfig::demo(args.world, args.people, args.seed, made.made_at))?;
        if made.nights_until < until {
            let store = open_store(config).await?;
            extend(&store, &world, made.nights_until.saturating_add(jiff::Span::new().days(1)), until, now)
                .await?;
            store.close().await;
            Made { nights_until: until, ..made }.write(config)?;
        }
        return Ok(world);
    }
    if let Database::File(path) = &config.database {
        clear_unfinished(path, config)?;
    }
    let place = place(config);
    output::note(format_args!("making a marketplace of {} people in {place} …", args.people));
    let world = World::generate(&WorldConfig::demo(args.world, args.people, args.seed, now))?;
    let made = Made {
        people: args.people,
        world: args.world.letter().to_owned(),
        seed: args.seed,
        made_at: now,
        nights_until: until,
        database,
        complete: false,
    };
    let store = match config.database {
        Database::File(_) => {
            // First, so that a file which is left behind is known to be the demo's.
            made.write(config)?;
            open_store(config).await?
        }
        Database::Server { .. } => {
            let store = open_store(config).await?;
            refuse_others(&store, config).await?;
            made.write(config)?;
            store
        }
    };
    let from = now
        .to_zoned_datetime(jiff::tz::TimeZone::UTC)
        .date()
        .saturating_sub(jiff::Span::new().days(DAYS_BACK));
    seed::fill(&store, &world, (from, until), config, now).await?;
    compute_archetypes(&store, config).await?;
    store.close().await;
    Made { complete: true, ..made }.write(config)?;
    Ok(world)
}

/// Runs the recalculation job for everybody, as the first run on a new database.
async fn compute_archetypes(store: &Store, config: &Config) -> anyhow::Result<()> {
    let clock = Clock::default();
    let jobs = Jobs::new(store.clone(), clock.clone(), config.holder());
    let mut begun = jobs.take_begun().context("somebody else works on runs")?;
    let settings = JobConfig { batch_size: 1_000, only_stale_users: false, ..JobConfig::default() };
    jobs.trigger(settings, RunCause::Asked, By::Machine("demo")).await?;
    let Begun { lease, config: settings, started_at } = begun.try_recv().context("the job did not begin")?;
    let means = Means {
        store: store.clone(),
        clock,
        policy: Arc::new(config.policy.clone()),
        drift_points: config.job_drift_points,
    };
    let (_running, stop) = watch::channel(false);
    match Work::new(means, lease, settings, started_at, stop).run().await {
        Left::As(RunStatus::Completed) => Ok(()),
        left => bail!("the archetypes could not be computed: {left:?}"),
    }
}

/// Removes what an interrupted first start has left; refuses a database that is not the demo's.
fn clear_unfinished(database: &Path, config: &Config) -> anyhow::Result<()> {
    if !database.exists() {
        return Ok(());
    }
    if Made::read(config)?.is_none() {
        bail!(
            "{} is a database of your own, not the demo's.\n  Serve it with `nudge serve`, or give the demo a folder of its own with --data-dir DIR.",
            database.display()
        );
    }
    output::note("the last start was interrupted; beginning anew");
    for ending in ["", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a server's database that has people in it already: nothing is ever removed there.
async fn refuse_others(store: &Store, config: &Config) -> anyhow::Result<()> {
    if store.people_after(None, 1).await?.is_empty() {
        return Ok(());
    }
    bail!(
        "{} has people in it already, and {} does not say that they are a whole demo.\n  \
         Serve it with `nudge serve`, or give the demo an empty database.",
        config.database,
        Made::path(config).display()
    )
}

/// Adds the nights from one date to another, both included.
async fn extend(store: &Store, world: &World, from: Date, to: Date, now: Timestamp) -> anyhow::Result<()> {
    let nights =
        world.nights(from, to).map(|night| FactChange::Upsert(FactRow::LeaseNight(seed::night_row(night))));
    let nights: Vec<FactChange> = nights.collect();
    store.apply_facts(nights, now).await?;
    Ok(())
}

/// A user to try things with: one with an archetype of their own, and a future night that the roommate holds.
async fn sample(server: &Server, world: &World, today: Date) -> anyhow::Result<(UserId, UserId, Date)> {
    let now = server.app.clock.now();
    let days = |n: i64| today.saturating_add(jiff::Span::new().days(n));
    for (index, resident) in world.people().iter().enumerate() {
        let known = server.app.people.get(&resident.id, now).await?;
        if known.person.archetype != Archetype::BigSpender || known.history.prior_requests == 0 {
            continue;
        }
        let night =
            world.lease_nights(index / 2, days(5), days(8)).find(|night| night.held_by == resident.roommate);
        if let Some(night) = night {
            return Ok((resident.id.clone(), resident.roommate.clone(), night.night));
        }
    }
    let first = world.people().first().context("the marketplace is empty")?;
    let night = world.lease_nights(0, days(5), days(8)).find(|night| night.held_by == first.roommate);
    Ok((first.id.clone(), first.roommate.clone(), night.map_or_else(|| days(7), |night| night.night)))
}

async fn print(server: &Server, config: &Config, world: &World, today: Date) -> anyhow::Result<()> {
    let url = config.url();
    let (user, roommate, night) = sample(server, world, today).await?;
    let token = token::make(&server.keys, &user, "authenticated", jiff::SignedDuration::from_hours(24))?;
    let counts = server.app.store.archetype_counts().await?;
    let total: u64 = counts.iter().map(|(_, n)| n).sum();
    output::line(format_args!("{}  {url}", output::strong("Nudge runs at")))?;
    output::line(format_args!("  {total} people in {}", place(config)))?;
    output::line(format_args!("\n{}", output::strong("Archetypes, beside the guide's bands")))?;
    for (archetype, band) in [
        (Archetype::BigSpender, "15-20 %"),
        (Archetype::HighFlexibility, "20-25 %"),
        (Archetype::AverageUser, "55-65 %"),
    ] {
        let n = counts.iter().find(|(a, _)| *a == archetype).map_or(0, |(_, n)| *n);
        let share = 100.0 * n as f64 / total.max(1) as f64;
        output::line(format_args!("  {:18} {n:>7}  {share:>5.1} %   (guide: {band})", archetype.as_str()))?;
    }
    output::line(format_args!("\n{}", output::strong("Keys")))?;
    output::line(format_args!("  SUPABASE_URL={url}"))?;
    output::line(format_args!("  SUPABASE_ANON_KEY={}", server.keys.anon))?;
    output::line(format_args!("  SUPABASE_SERVICE_ROLE_KEY={}", server.keys.service_role))?;
    output::line(format_args!("\n{}  {url}/dashboard", output::strong("Dashboard")))?;
    output::line("  sign in with the service key above, or with a token of a user whose profile says admin")?;
    output::line(format_args!("\n{}", output::strong(&format!("A token of {user}, valid for 24 hours"))))?;
    output::line(format_args!("  {token}"))?;
    output::line(format_args!("\n{}", output::strong("Try")))?;
    output::line(format_args!(
        "  curl '{url}/functions/v1/transaction-recommendations?userId={user}&targetDate={night}&roommateId={roommate}' \\\n    \
         --header 'Authorization: Bearer {token}'"
    ))?;
    let program = std::env::args().next().unwrap_or_else(|| "nudge".to_owned());
    output::line(format_args!("  {program} explain RECOMMENDATION_ID{}", data_dir_flag(config)))?;
    output::line(format_args!("  {url}/   in a browser"))?;
    output::line("\nStop with Ctrl-C; the next start uses the same people.")?;
    Ok(())
}

fn data_dir_flag(config: &Config) -> String {
    match config.values.text("NUDGE_DATA_DIR") {
        Some("./nudge-data") | None => String::new(),
        Some(dir) => format!(" --data-dir {dir}"),
    }
}
