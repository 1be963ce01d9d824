//! Throwaway databases.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
pub use tokio_postgres::{Client, Config};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The tables of the API.
pub const EXPOSED: [&str; 11] = [
    "user_archetypes",
    "recommendation_logs",
    "recommendation_events",
    "admin_audit_log",
    "archetype_job_logs",
    "edge_function_logs",
    "profiles",
    "leases",
    "lease_members",
    "lease_nights",
    "date_change_requests",
];

/// Those with a partition a month.
pub const PARTITIONED: [&str; 3] = ["recommendation_logs", "recommendation_events", "edge_function_logs"];

/// A place for databases: the shared cluster, or one that a test has made for itself.
#[derive(Clone)]
pub struct Server {
    pub superuser: Config,
    /// Whether the callers' roles are made for new owners, as whoever runs a cluster of many databases does.
    shared: bool,
}

impl Server {
    /// The shared one. Roles like `anon` belong to all its databases.
    pub fn shared() -> Self {
        let Ok(url) = std::env::var("NUDGE_TEST_POSTGRES") else {
            panic!(
                "NUDGE_TEST_POSTGRES is not set: it is the URL of a superuser of a PostgreSQL that may be filled with \
                 rubbish. To make one: export NUDGE_TEST_POSTGRES=$(scripts/postgres start /tmp/nudge-postgres 55432)"
            )
        };
        let superuser = url.parse().expect("NUDGE_TEST_POSTGRES is a connection string");
        Self { superuser, shared: true }
    }

    /// Makes an empty database and its owner, who may create roles but is no superuser.
    pub async fn database(&self) -> Database {
        self.database_with("CREATEROLE", "").await
    }

    /// Makes an empty database with the attributes of its owner, and options of the database.
    pub async fn database_with(&self, owner: &str, options: &str) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("nudge_schema_{}_{number}", std::process::id());
        let database = Database { server: self.clone(), owner: name.clone(), name };
        let superuser = connect(&self.superuser).await;
        superuser.run(&format!("DROP DATABASE IF EXISTS {0} WITH (FORCE)", database.name)).await;
        superuser.run(&format!("DROP ROLE IF EXISTS {0}", database.name)).await;
        superuser.run(&format!("CREATE ROLE {0} LOGIN PASSWORD 'x' {owner}", database.name)).await;
        superuser.run(&format!("CREATE DATABASE {0} OWNER {0} {options}", database.name)).await;
        if self.shared {
            let inherit = if superuser.version().await >= 16 { "WITH INHERIT TRUE, SET TRUE" } else { "" };
            callers_roles(&superuser).await;
            let members = format!("GRANT anon, authenticated, service_role TO {} {inherit}", database.name);
            superuser.run(&members).await;
        }
        database
    }
}

/// A cluster of a test's own, for what concerns roles; stopped and removed with it.
pub struct Cluster {
    folder: tempfile::TempDir,
    pub server: Server,
}

impl Cluster {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("nudge-cluster").tempdir().unwrap();
        // The server's user has to reach it.
        #[cfg(unix)]
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = script("postgres")
            .args(["start", &folder.path().join("pg").to_string_lossy(), &port.to_string()])
            .output()
            .unwrap();
        assert!(started.status.success(), "{started:?}");
        let url = String::from_utf8(started.stdout).unwrap();
        Self { folder, server: Server { superuser: url.trim().parse().unwrap(), shared: false } }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = script("postgres")
            .arg("stop")
            .arg(self.folder.path().join("pg"))
            .output()
            .expect("the script runs");
        if !std::thread::panicking() {
            assert!(stopped.status.success(), "{stopped:?}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn script(name: &str) -> Command {
    Command::new(root().join("scripts").join(name))
}

/// The migrations, oldest first.
pub fn migrations() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("supabase/migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// Makes the callers' roles as the first migration does.
pub async fn callers_roles(owner: &Client) {
    let platform = std::fs::read_to_string(&migrations()[0]).unwrap();
    let (begin, end) = (platform.find("DO $roles$").unwrap(), platform.rfind("$roles$;").unwrap());
    owner.run(&platform[begin..end + "$roles$;".len()]).await;
}

/// A database of one test, dropped with its owner at the end.
pub struct Database {
    pub server: Server,
    pub name: String,
    pub owner: String,
}

impl Database {
    /// An empty one on the shared server.
    pub async fn empty() -> Self {
        Server::shared().database().await
    }

    /// One with the newest schema.
    pub async fn migrated() -> Self {
        let database = Self::empty().await;
        database.migrate().await;
        database
    }

    /// Runs every migration as the owner, each in one transaction.
    pub async fn migrate(&self) {
        let owner = self.owner().await;
        for file in migrations() {
            let sql = std::fs::read_to_string(&file).unwrap();
            if let Err(error) = owner.batch_execute(&sql).await {
                panic!("{}: {}", file.display(), tell(&error));
            }
        }
        // The tests' rows are of one day, whatever day it is.
        for parent in PARTITIONED {
            owner.run(&format!("SELECT nudge.make_partition('{parent}', '{DAY}'::timestamptz::date)")).await;
        }
    }

    fn config(&self, user: Option<&str>) -> Config {
        let mut config = self.server.superuser.clone();
        config.dbname(&self.name);
        if let Some(user) = user {
            config.user(user).password("x");
        }
        config
    }

    pub async fn owner(&self) -> Client {
        connect(&self.config(Some(&self.owner))).await
    }

    pub async fn superuser(&self) -> Client {
        connect(&self.config(None)).await
    }

    /// Another user of the cluster.
    pub async fn user(&self, name: &str) -> Client {
        connect(&self.config(Some(name))).await
    }

    /// The connection string of the owner.
    pub fn url(&self) -> String {
        let config = self.config(None);
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.to_string_lossy().replace('/', "%2F"),
            None => "127.0.0.1".to_owned(),
        };
        let port = config.get_ports().first().unwrap_or(&5432);
        format!("postgres://{}:x@{host}:{port}/{}", self.owner, self.name)
    }

    /// The connection by which the owner looks after it.
    pub async fn server(&self) -> nudge_store::admin::Server {
        nudge_store::admin::Server::connect(self.url().parse().unwrap()).await.unwrap()
    }

    /// Runs `psql` as the owner, without anybody's start-up file.
    pub fn psql(&self, arguments: &[&str]) -> Output {
        let config = self.config(Some(&self.owner));
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.to_string_lossy().into_owned(),
            None => "127.0.0.1".to_owned(),
        };
        Command::new("psql")
            .args(["-X", "-v", "ON_ERROR_STOP=1"])
            .args(arguments)
            .envs([("PGHOST", host.as_str()), ("PGDATABASE", &self.name), ("PGUSER", &self.owner)])
            .envs([("PGPASSWORD", "x"), ("PGPORT", &config.get_ports().first().unwrap_or(&5432).to_string())])
            .output()
            .expect("psql is installed (postgresql-client)")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What is in a cluster of a test's own goes with it.
        if !self.server.shared {
            return;
        }
        let (superuser, name) = (self.server.superuser.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let superuser = connect(&superuser).await;
                superuser.run(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
                superuser.run(&format!("DROP ROLE {name}")).await;
            });
        });
        if dropped.join().is_err() && !std::thread::panicking() {
            panic!("the database {} is still there", self.name);
        }
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| panic!("{}", tell(&error)));
    tokio::spawn(connection);
    client
}

/// Says all that a server said of an error.
pub fn tell(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    let mut told = format!("{} {}", error.code().code(), error.message());
    for more in [error.detail(), error.hint(), error.where_()].into_iter().flatten() {
        let _ = write!(told, "\n  {more}");
    }
    told
}

/// What tests ask of a connection.
pub trait Ask {
    /// Runs statements that succeed.
    async fn run(&self, sql: &str);
    /// Runs statements that fail; gives the code, message and hint.
    async fn refused(&self, sql: &str) -> Refusal;
    /// Reads rows as text, `∅` for NULL.
    async fn rows(&self, sql: &str) -> Vec<Vec<String>>;
    /// Reads the first column of every row.
    async fn column(&self, sql: &str) -> Vec<String>;
    /// Reads one value.
    async fn one(&self, sql: &str) -> String;
    /// Gives the server's major version.
    async fn version(&self) -> u32;
}

#[derive(Debug)]
pub struct Refusal {
    pub code: SqlState,
    pub message: String,
    pub hint: String,
}

impl Ask for Client {
    async fn run(&self, sql: &str) {
        if let Err(error) = self.batch_execute(sql).await {
            panic!("{sql}: {}", tell(&error));
        }
    }

    async fn refused(&self, sql: &str) -> Refusal {
        let Err(error) = self.batch_execute(sql).await else { panic!("not refused: {sql}") };
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
        Refusal {
            code: error.code().clone(),
            message: error.message().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = self.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", tell(&error)));
        messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|n| row.get(n).unwrap_or("∅").to_owned()).collect())
                }
                _ => None,
            })
            .collect()
    }

    async fn column(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.into_iter().map(|mut row| row.remove(0)).collect()
    }

    async fn one(&self, sql: &str) -> String {
        let rows = self.column(sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        rows.into_iter().next().unwrap()
    }

    async fn version(&self) -> u32 {
        self.one("SHOW server_version_num").await.parse::<u32>().unwrap() / 10_000
    }
}

/// Somebody who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Anonymous,
    User(&'static str),
    Service,
}

impl Caller {
    /// Gives the statements that begin the caller's transaction.
    pub fn begin(self) -> String {
        let (role, claims) = match self {
            Self::Anonymous => ("anon", r#"{"role":"anon"}"#.to_owned()),
            Self::User(sub) => ("authenticated", format!(r#"{{"role":"authenticated","sub":"{sub}"}}"#)),
            Self::Service => ("service_role", r#"{"role":"service_role"}"#.to_owned()),
        };
        format!(
            "BEGIN; SELECT set_config('role', '{role}', true), set_config('request.jwt.claims', '{claims}', true);"
        )
    }
}

/// The time of all rows that tests make: that of the ids below.
pub const DAY: &str = "2026-11-10T12:00:00Z";

/// Gives a UUIDv7 of [`DAY`].
pub fn id(number: u32) -> String {
    format!("01a1c554-5200-7000-8000-{number:012x}")
}

/// Inserts a decision of a user.
pub fn decision(number: u32, user: &str) -> String {
    format!(
        "INSERT INTO public.recommendation_logs (id, user_id, target_date, primary_recommendation, archetype_type,
           archetype_confidence, days_until_checkin, urgency_level, options, context, rule, policy, personalized,
           propensity, confidence, response_time_ms, created_at)
         VALUES ('{}', '{user}', '2026-12-01', 'crash', 'average_user', 0.6, 21, 'LOW', '[]', '{{}}',
           'average_medium', 'rules-v1', true, 1, 0.7, 3, '{DAY}');",
        id(number)
    )
}

/// Inserts an archetype of a user.
pub fn archetype(user: &str) -> String {
    format!(
        "INSERT INTO public.user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores, policy,
           computed_at, created_at, updated_at)
         VALUES ('{user}', 'average_user', 0.6, '{{}}', '{{}}', '{{}}', 'rules-v1', '{DAY}', '{DAY}', '{DAY}');"
    )
}

/// Inserts an event of a decision.
pub fn event(number: u32, user: &str) -> String {
    format!(
        "INSERT INTO public.recommendation_events (user_id, recommendation_id, event, occurrence, payload,
           occurred_at, recorded_at)
         VALUES ('{user}', '{}', 'viewed', '@', '{{}}', '{DAY}', '{DAY}');",
        id(number)
    )
}

/// Appends an entry to the audit log, behind whatever is there.
pub const AUDIT_ENTRY: &str =
    "INSERT INTO public.admin_audit_log (admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
     SELECT 'root', 'admin', 'test', '{}', now(), hash, encode(sha256(convert_to(hash || id, 'UTF8')), 'hex')
     FROM nudge.audit_tail();";
