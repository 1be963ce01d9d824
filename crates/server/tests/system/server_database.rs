//! The program on a PostgreSQL server: what it says at its start, what its commands do, and what a server that goes away
//! costs.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;

use crate::own_cluster::Cluster;
use crate::postgres::{OWNER, TestDatabase, server_url};
use crate::support::{Folder, Keys, Question, Random, Server, eventually, finish};

/// How long the server is away under load.
const OUTAGE: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 6;
/// Time that a client takes between two questions, so that the spool is not filled by a benchmark.
const THOUGHT: Duration = Duration::from_millis(15);

/// A database, and a folder for the program beside it.
pub struct Site {
    pub folder: Folder,
    pub database: TestDatabase,
    runtime: Runtime,
}

impl Site {
    /// On a server of its own, by the URL of its superuser.
    pub fn on(url: &str) -> Self {
        let runtime = runtime();
        let database = runtime.block_on(TestDatabase::on(url));
        Self { folder: Folder::new(), database, runtime }
    }

    /// Runs statements as the owner.
    pub fn batch(&self, sql: &str) {
        self.runtime.block_on(async { self.database.owner().await.batch_execute(sql).await }).unwrap();
    }

    /// Runs statements as the superuser.
    pub fn batch_as_superuser(&self, sql: &str) {
        self.runtime.block_on(async { self.database.superuser().await.batch_execute(sql).await }).unwrap();
    }

    /// A connection of the owner's that stays, and what drives it.
    pub fn owner(&self) -> (tokio_postgres::Client, &Runtime) {
        (self.runtime.block_on(self.database.owner()), &self.runtime)
    }

    pub fn new() -> Self {
        let runtime = runtime();
        let database = runtime.block_on(TestDatabase::new());
        Self { folder: Folder::new(), database, runtime }
    }

    /// The connection string, with a password that nobody may see.
    fn url(&self) -> String {
        self.database.url().replace(OWNER, &format!("{OWNER}:hunter2"))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.folder.command(args);
        command.args(["--data-dir", "data"]).env("DATABASE_URL", self.url());
        command
    }

    pub fn run(&self, args: &[&str]) -> crate::support::Ran {
        let ran = finish(&mut self.command(args), None);
        assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "{ran:?}");
        ran
    }

    pub fn start(&self, args: &[&str]) -> Server {
        self.folder.start_command(self.command(args).args(["--port", "0"]))
    }

    /// Gives the first column of every row as text.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let messages =
            self.runtime.block_on(async { self.database.owner().await.simple_query(sql).await }).unwrap();
        messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.texts(sql)[0].parse().unwrap()
    }

    pub fn questions(&self) -> Vec<Question> {
        let sql = "SELECT concat_ws(' ', m.user_id, n.held_by, n.lease_id, n.night) FROM lease_nights AS n
          JOIN lease_members AS m ON m.lease_id = n.lease_id AND m.user_id <> n.held_by
          WHERE n.night > current_date + 2 AND n.night < current_date + 40";
        let rows = self.texts(sql);
        assert!(rows.len() > 50, "a marketplace with nights in it");
        rows.iter()
            .map(|row| {
                let [user, roommate, lease, night] =
                    <[&str; 4]>::try_from(row.split(' ').collect::<Vec<_>>()).unwrap().map(str::to_owned);
                Question { user, roommate, lease, night }
            })
            .collect()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_marketplace_on_a_server_is_made_served_explained_and_used_again() {
    let site = Site::new();
    let server = site.start(&["demo", "--people", "40"]);
    assert!(server.greeting.contains(&site.database.name), "{}", server.greeting);
    assert!(!server.greeting.contains("hunter2") && !server.log().contains("hunter2"));
    assert_eq!(site.number("SELECT count(*) FROM profiles"), 40);
    assert!(site.number("SELECT count(*) FROM recommendation_logs") > 0);
    assert_eq!(site.number("SELECT count(*) FROM user_archetypes"), 40);

    // The guide's queries, as they are.
    let guide = include_str!("../../../store/tests/schema/guide.sql");
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &site.database.url()]);
    let said = finish(psql.stdout(Stdio::piped()).stderr(Stdio::piped()), Some(guide)).good();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split('|').collect()).collect();
    let counted: u32 = lines
        .iter()
        .filter(|line| {
            line.len() == 3 && ["big_spender", "high_flexibility", "average_user"].contains(&line[0])
        })
        .map(|line| line[1].parse::<u32>().unwrap())
        .sum();
    assert_eq!(counted, 40, "the distribution of step 7.2: {said}");
    assert!(
        lines.iter().any(|line| line[0] == "public" && line[1] == "user_archetypes" && line[2] == "t"),
        "{said}"
    );

    let keys = Keys::of(&site.folder);
    let question = site.questions().remove(0);
    let answer = server.client().get(&question.path(), Some(&keys.service)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.body["recommendationId"].as_str().unwrap();
    assert!(site.run(&["explain", id]).good().contains("the same answer"));
    let overriding =
        ["archetype", "override", question.user.as_str(), "high_flexibility", "--reason", "asked for"];
    site.run(&overriding).good();
    eventually("the server sees the change", || {
        let answer = server.client().get(&question.path(), Some(&keys.service)).ok()?;
        (answer.body["userArchetype"]["type"] == "high_flexibility").then_some(())
    });
    assert!(site.run(&["audit", "verify"]).good().contains("the chain is whole"));
    site.folder.file("profiles.csv", "id,role\nzoe,admin\n");
    assert!(site.run(&["import", "profiles", "profiles.csv"]).good().contains("1 rows imported"));
    let shown = site.run(&["config"]).good();
    assert!(shown.contains(&format!("{OWNER}@")) && shown.contains(&site.database.name), "{shown}");
    drop(server);

    let again = site.start(&["demo", "--people", "40"]);
    assert_eq!(site.number("SELECT count(*) FROM profiles"), 41, "the same people");
    drop(again);
    std::fs::remove_file(site.folder.data().join("demo-server.json")).unwrap();
    let complaint = site.run(&["demo", "--people", "40", "--port", "0"]).refused();
    assert!(complaint.contains("has people in it already"), "{complaint}");
    assert_eq!(site.number("SELECT count(*) FROM profiles"), 41, "untouched");
}

#[test]
fn a_start_that_cannot_be_says_what_to_do() {
    let site = Site::new();
    let on = |url: &str, more: &[(&str, &str)]| {
        let mut command = site.folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
        command.env("DATABASE_URL", url).envs(more.iter().copied());
        let ran = finish(&mut command, None).refused();
        assert!(!ran.contains("hunter2"), "{ran}");
        ran
    };
    let complaint = on(&site.url().replace(OWNER, "nobody_knows"), &[]);
    assert!(complaint.contains("nobody_knows") && complaint.contains("28000"), "{complaint}");
    let complaint = on("postgres://u:hunter2@127.0.0.1:1/d", &[]);
    assert!(complaint.contains("127.0.0.1:1/d"), "{complaint}");
    let complaint = on("postgres://u:hunter2%@127.0.0.1/d", &[]);
    assert!(complaint.contains("DATABASE_URL") && complaint.contains("%25"), "{complaint}");
    let empty = site.runtime.block_on(TestDatabase::empty());
    let complaint = on(&empty.url(), &[]);
    assert!(complaint.contains("nudge db push"), "{complaint}");
    let complaint = on(&site.url(), &[("NUDGE_DATABASE_DIRECT_URL", "sqlite:///x")]);
    assert!(complaint.contains("NUDGE_DATABASE_DIRECT_URL"), "{complaint}");
    let mut flagged = site.folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
    let complaint = finish(flagged.args(["--database-url", &site.url()]), None).refused();
    assert!(complaint.contains("command line") && !complaint.contains("hunter2"), "{complaint}");

    site.runtime.block_on(async {
        let later = "INSERT INTO nudge.migrations (version, name) VALUES (20991231000000, 'later')";
        site.database.owner().await.batch_execute(later).await.unwrap();
    });
    let complaint = on(&site.url(), &[]);
    assert!(complaint.contains("20991231000000") && complaint.contains("newer"), "{complaint}");
}

#[test]
fn a_superuser_serves_this_machine_with_a_warning_and_others_only_when_told_to() {
    let site = Site::new();
    let url = site.url().replace(&format!("{OWNER}:hunter2"), "postgres");
    let command = |bind: &str| {
        let mut command =
            site.folder.command(&["serve", "--data-dir", "data", "--port", "0", "--bind", bind]);
        command.env("DATABASE_URL", &url);
        command
    };
    let complaint = finish(&mut command("0.0.0.0"), None).refused();
    assert!(complaint.contains("superuser") && complaint.contains("NUDGE_ALLOW_SUPERUSER=1"), "{complaint}");
    let server = site.folder.start_command(&mut command("127.0.0.1"));
    assert!(server.log().contains("store.superuser"), "{}", server.log());
    drop(server);
    let allowed = site.folder.start_command(command("0.0.0.0").env("NUDGE_ALLOW_SUPERUSER", "1"));
    assert!(allowed.log().contains("store.superuser"));
}

#[test]
fn a_server_that_is_away_for_a_minute_under_load_costs_no_answer_and_no_row() {
    // Says how to start one where there is none, as the other tests do.
    let _ = server_url();
    let (cluster, url) = Cluster::start();
    let site = Site::on(&url);
    drop(site.start(&["demo", "--people", "40"]));
    let server = site.folder.start_command(
        site.command(&["serve"]).args(["--port", "0"]).env("LOG_LEVEL", "nudge=debug,nudge_store=debug,info"),
    );
    let keys = Keys::of(&site.folder);
    let questions = Arc::new(site.questions());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (client, service) = (server.client(), keys.service.clone());
            let (questions, stop) = (Arc::clone(&questions), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut random = Random(n);
                let mut ids = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let question = &questions[random.below(questions.len())];
                    let answer = client.get(&question.path(), Some(&service)).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    ids.push(answer.body["recommendationId"].as_str().unwrap().to_owned());
                    std::thread::sleep(THOUGHT);
                }
                ids
            })
        })
        .collect();
    let client = server.client();
    eventually("load", || (site.number("SELECT count(*) FROM recommendation_logs") > 200).then_some(()));
    cluster.stop();
    let stopped = Instant::now();
    let outcome = json!({ "recommendationId": "019a0000-0000-7000-8000-000000000000", "event": "viewed" });
    while stopped.elapsed() < OUTAGE {
        let refused = client.post("/functions/v1/recommendation-outcomes", &keys.service, &outcome).unwrap();
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(refused.retry_after.is_some());
        assert_eq!(client.get("/health/ready", None).unwrap().status, 503);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(client.get("/health/ready", None).unwrap().body["spoolDepth"].as_i64().unwrap() > 100);
    cluster.start_again();
    let back = Instant::now();
    eventually("the database is found again", || {
        (client.get("/health/ready", None).unwrap().status == 200).then_some(())
    });
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    stop.store(true, Ordering::Relaxed);
    let ids: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    server.drained();
    let stored = site.texts("SELECT id FROM recommendation_logs");
    let unique: BTreeSet<&String> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "each once");
    let lost: Vec<_> = ids.iter().filter(|id| !unique.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), ids.len());
    assert!(ids.len() > 1_000, "{} answers are no load", ids.len());
    let refused = client.post("/functions/v1/recommendation-outcomes", &keys.service, &outcome).unwrap();
    assert_eq!(refused.status, 403, "as ever: {}", refused.text);
    assert!(!server.log().contains("hunter2"));
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_query_leaves_nothing_behind() {
    let site = Site::new();
    let server = site.start(&["demo", "--people", "40"]);
    let keys = Keys::of(&site.folder);
    let question = site.questions().remove(0);
    let owner = site.runtime.block_on(async {
        let owner = site.database.owner().await;
        owner.batch_execute("BEGIN; LOCK TABLE user_archetypes IN EXCLUSIVE MODE").await.unwrap();
        owner
    });
    let body =
        json!({ "userId": question.user, "archetypeType": "high_flexibility", "reason": "x" }).to_string();
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let head = format!(
        "PUT /functions/v1/user-archetype HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        keys.service,
        body.len()
    );
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for n in 1..=3 {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
        eventually("the query waits", || (site.number(waiting) >= n).then_some(()));
        drop(stream);
    }
    assert_eq!(server.client().get(&question.path(), Some(&keys.service)).unwrap().status, 200);
    site.runtime.block_on(owner.batch_execute("ROLLBACK")).unwrap();
    eventually("nothing is left open", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
          AND pid <> pg_backend_pid() AND state <> 'idle'";
        (site.number(open) == 0).then_some(())
    });
    let entries = site.number("SELECT count(*) FROM admin_audit_log");
    assert!(entries <= 3, "{entries}");
    assert!(site.run(&["audit", "verify"]).good().contains("the chain is whole"));
    let done = server.client().put(
        "/functions/v1/user-archetype",
        &keys.service,
        &json!({ "userId": question.user, "archetypeType": "big_spender", "reason": "y" }),
    );
    assert_eq!(done.unwrap().status, 200);
}
