//! Test databases on a throwaway PostgreSQL. Each is a copy of a template that has the migrations, and belongs to a role
//! that is no superuser.
//!
//! This file is used by the tests of more than one crate.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

/// The role that owns the test databases.
pub const OWNER: &str = "nudge_test_owner";
/// Guards the making of the template against other test programs.
const TEMPLATE_LOCK: i64 = 7_305_804_402_565_153;

/// A database that goes away with this value.
pub struct TestDatabase {
    pub name: String,
    server: tokio_postgres::Config,
}

/// Gives the URL of the server's superuser.
///
/// # Panics
/// When `NUDGE_TEST_POSTGRES` is not set: these tests are never left out silently.
pub fn server_url() -> String {
    std::env::var("NUDGE_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!(
            "NUDGE_TEST_POSTGRES is not set, and these tests need a throwaway PostgreSQL. Start one:\n  \
             export NUDGE_TEST_POSTGRES=$(scripts/postgres start /tmp/nudge-postgres 55432)"
        )
    })
}

fn server() -> tokio_postgres::Config {
    server_url().parse().expect("NUDGE_TEST_POSTGRES must be a URL, as scripts/postgres prints it")
}

/// Connects, and drives the connection on the side.
pub async fn client(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the test server answers");
    tokio::spawn(connection);
    client
}

/// Reads the migrations in their order: version, name, SQL.
pub fn migrations() -> Vec<(String, String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../supabase/migrations");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "sql"));
    files.sort();
    files
        .iter()
        .map(|file| {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            let (version, name) = stem.split_once('_').unwrap();
            (version.to_owned(), name.to_owned(), std::fs::read_to_string(file).unwrap())
        })
        .collect()
}

/// Applies the migrations, each in a transaction of its own, and notes them as the Supabase CLI does.
pub async fn migrate(client: &Client) {
    client
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS supabase_migrations;
             CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations
               (version text PRIMARY KEY, statements text[], name text)",
        )
        .await
        .unwrap();
    for (version, name, sql) in migrations() {
        client
            .batch_execute(&format!("BEGIN; {sql}"))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let note = "INSERT INTO supabase_migrations.schema_migrations (version, statements, name) VALUES ($1, $2, $3)";
        client.execute(note, &[&version, &vec![sql], &name]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
    }
}

/// Gives the template's name, which changes with the migrations.
fn template_name() -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (version, name, sql) in migrations() {
        for byte in version.bytes().chain(name.bytes()).chain(sql.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("nudge_template_{hash:016x}")
}

async fn make_template(server: &Client, config: &tokio_postgres::Config) -> String {
    let name = template_name();
    let exists = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1 AND datistemplate";
    if server.query_opt(exists, &[&name]).await.unwrap().is_some() {
        return name;
    }
    server.query("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    if server.query_opt(exists, &[&name]).await.unwrap().is_none() {
        let owner = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";
        if server.query_opt(owner, &[&OWNER]).await.unwrap().is_none() {
            server.batch_execute(&format!("CREATE ROLE {OWNER} LOGIN CREATEROLE")).await.unwrap();
        }
        let making = format!("{name}_making");
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)")).await.unwrap();
        server.batch_execute(&format!("CREATE DATABASE {making} OWNER {OWNER}")).await.unwrap();
        let (owner, connection) =
            config.clone().dbname(&making).user(OWNER).connect(NoTls).await.expect("the owner may log in");
        let driver = tokio::spawn(connection);
        owner.batch_execute("SET client_min_messages = warning").await.expect("the new database answers");
        migrate(&owner).await;
        drop(owner);
        // Nobody may be connected to a template.
        let _ = driver.await;
        server
            .batch_execute(&format!(
                "ALTER DATABASE {making} RENAME TO {name}; ALTER DATABASE {name} IS_TEMPLATE true"
            ))
            .await
            .unwrap();
    }
    server.query("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    name
}

impl TestDatabase {
    /// Makes a database with the schema.
    pub async fn new() -> Self {
        let config = server();
        let server = client(&config).await;
        let template = make_template(&server, &config).await;
        Self::make(config, &server, Some(&template)).await
    }

    /// Makes a database with the schema on another server than that of the other tests.
    pub async fn on(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL of a superuser");
        let server = client(&config).await;
        let template = make_template(&server, &config).await;
        Self::make(config, &server, Some(&template)).await
    }

    /// Makes a database without anything in it.
    pub async fn empty() -> Self {
        let config = server();
        let server = client(&config).await;
        make_template(&server, &config).await;
        Self::make(config, &server, None).await
    }

    async fn make(config: tokio_postgres::Config, server: &Client, template: Option<&str>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nudge_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let template = template.map(|template| format!(" TEMPLATE {template}")).unwrap_or_default();
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        server.batch_execute(&format!("CREATE DATABASE {name} OWNER {OWNER}{template}")).await.unwrap();
        Self { name, server: config }
    }

    /// Gives the connection string of the owner.
    pub fn url(&self) -> String {
        let host = match &self.server.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(folder) => folder.to_str().unwrap().replace('/', "%2F"),
        };
        format!("postgres://{OWNER}@{host}:{}/{}", self.server.get_ports()[0], self.name)
    }

    /// Connects as the owner.
    pub async fn owner(&self) -> Client {
        client(self.server.clone().dbname(&self.name).user(OWNER)).await
    }

    /// Connects as the superuser.
    pub async fn superuser(&self) -> Client {
        client(self.server.clone().dbname(&self.name)).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (config, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // The server itself may be gone.
                if let Ok((server, connection)) = config.connect(NoTls).await {
                    tokio::spawn(connection);
                    let _ =
                        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                }
            });
        });
        // A test that has failed already need not fail twice.
        let _ = dropped.join();
    }
}
