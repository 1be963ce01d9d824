//! On a server: many replicas, a frozen one, a database that goes away, rows that cannot be used, and what others write.

use std::time::Instant;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::fresh::{Rows, compare, now};
use super::{JOB, adds_up, all, everybody, person, requests, start_slow_run};
use crate::postgres::server_url;
use crate::replicas::Machine;
use crate::server_database::Site;
use crate::support::{Keys, Server, eventually};

const REPLICAS: usize = 5;
const TRIGGERS: usize = 20;

/// Fills a database with a town.
pub fn town(site: &Site, people: usize) {
    let series = format!("generate_series(1, {people}) AS p (n), generate_series(0, 2) AS k (n)");
    let ago = |hours: &str| format!("now() - {hours} * interval '1 hour'");
    site.batch(&requests(people, &series, "lpad(p.n::text, 6, '0')", ago));
    site.batch(
        "INSERT INTO profiles (id, role, personalization_opt_out)
         SELECT 'p-' || lpad((n * 7)::text, 6, '0'), 'member', n % 2 = 0 FROM generate_series(1, 4) AS s (n)",
    );
}

fn overridden(site: &Site, n: usize) {
    site.run(&["archetype", "override", &person(n), "big_spender", "--reason", "by hand"]).good();
}

pub fn processed(site: &Site) -> i64 {
    let newest =
        "SELECT coalesce((SELECT processed_count FROM archetype_job_logs ORDER BY id DESC LIMIT 1), 0)";
    site.number(newest)
}

fn completed(site: &Site, id: &str) -> Value {
    // By one connection: to start a program or to connect each time would take the machine from the run.
    let (owner, runtime) = site.owner();
    let ended = "SELECT status = 'completed' FROM archetype_job_logs WHERE id = $1::text::uuid";
    eventually("the run ends", || {
        runtime.block_on(owner.query_one(ended, &[&id])).unwrap().get::<_, bool>(0).then_some(())
    });
    site.run(&["job", "status", id, "--json"]).json()
}

fn whole(site: &Site, run: &Value, people: usize, since: Timestamp, over: &[usize], failed: &[String]) {
    let rows = site.number("SELECT count(*) FROM user_archetypes");
    adds_up(run, i64::try_from(everybody(people)).unwrap(), rows);
    let over: Vec<String> = over.iter().map(|n| person(*n)).collect();
    compare(&Rows::of_server(site), since, &over, failed);
}

#[test]
fn five_replicas_asked_at_once_start_one_run_that_outlives_its_frozen_holder() {
    const PEOPLE: usize = 500;
    let site = Site::new();
    town(&site, PEOPLE);
    overridden(&site, 42);
    let machines: Vec<Machine> = (0..REPLICAS).map(|_| Machine::new(site.database.url())).collect();
    let servers: Vec<Server> = machines.iter().map(|machine| machine.start(&["serve"], 0)).collect();
    let service = machines[0].keys().service;
    let since = now();
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = servers
            .iter()
            .flat_map(|server| std::iter::repeat_n(server, TRIGGERS))
            .map(|server| {
                let (client, service) = (server.client(), service.clone());
                scope.spawn(move || {
                    let answer = client.post(JOB, &service, &all(1, Some(false))).unwrap();
                    assert_eq!(answer.status, 202, "{}", answer.text);
                    answer.body["jobId"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    ids.dedup();
    assert_eq!(ids.len(), 1, "one run: {ids:?}");
    assert_eq!(site.texts("SELECT id FROM archetype_job_logs"), ids);

    eventually("progress", || (processed(&site) > 5).then_some(()));
    let holder = site.texts("SELECT holder FROM nudge.job_leases").remove(0);
    let frozen = servers.iter().find(|server| holder.ends_with(&format!(" {}", server.pid()))).unwrap();
    frozen.freeze();
    let stopped = Instant::now();
    let term = site.number("SELECT term FROM nudge.job_leases");
    eventually("another goes on", || (site.number("SELECT term FROM nudge.job_leases") > term).then_some(()));
    // The lease of ten seconds, the look of every second, and a slow machine.
    assert!(stopped.elapsed().as_secs() < 40, "{:?}", stopped.elapsed());
    let run = completed(&site, &ids[0]);
    let state = "SELECT user_id || updated_at FROM user_archetypes ORDER BY user_id";
    let before = site.texts(state);
    frozen.signal(Signal::CONT);
    eventually("the zombie sees that it is one", || frozen.log().contains("job.lease_lost").then_some(()));
    assert_eq!(site.texts(state), before, "it has written nothing");
    assert_eq!(frozen.client().get("/health/ready", None).unwrap().status, 200, "it serves on");
    assert_eq!(run["metadata"]["totals"]["resumed"], 1, "{run}");
    whole(&site, &run, PEOPLE, since, &[42], &[]);
}

#[test]
fn a_database_that_goes_away_in_the_middle_interrupts_a_run_and_rewrites_nobody() {
    const PEOPLE: usize = 800;
    let site = Site::new();
    town(&site, PEOPLE);
    overridden(&site, 42);
    site.run(&["job", "run", "--all"]).good();
    let state = "SELECT user_id || archetype_type || confidence FROM user_archetypes ORDER BY user_id";
    let before = site.texts(state);
    let server = site.start(&["serve"]);
    let since = now();
    let id = start_slow_run(&server.client(), &Keys::of(&site.folder).service);
    let super_site = Superuser::new(&site);
    // Connections break under it, again and again: it goes on by itself.
    for n in 1..=5 {
        eventually("progress", || (processed(&site) > n * 10).then_some(()));
        super_site.end_connections();
    }
    assert!(processed(&site) < 700, "it was too quick");
    // Away for longer than it tries.
    super_site.allow(false);
    eventually("the run pauses", || {
        // A connection that was being made while they were forbidden is in no list yet when the others end.
        super_site.end_connections();
        server.log().contains("job.interrupted").then_some(())
    });
    super_site.allow(true);
    let paused = site.run(&["job", "status", &id, "--json"]).printed();
    assert!(paused["processed"].as_i64().unwrap() < 800, "{paused}");
    assert_eq!(site.texts(state), before, "nobody was rewritten to anything else");
    let run = completed(&site, &id);
    assert!(run["metadata"]["totals"]["resumed"].as_i64().unwrap() >= 1, "{run}");
    assert_eq!(site.texts(state), before);
    whole(&site, &run, PEOPLE, since, &[42], &[]);
}

/// Takes a database away from everybody, as its operator can.
struct Superuser<'a> {
    site: &'a Site,
    client: tokio_postgres::Client,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Superuser<'a> {
    fn new(site: &'a Site) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(crate::postgres::client(&server_url().parse().unwrap()));
        Self { site, client, runtime }
    }

    fn end_connections(&self) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        self.runtime.block_on(self.client.query(end, &[&self.site.database.name])).unwrap();
    }

    fn allow(&self, allowed: bool) {
        let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", self.site.database.name);
        self.runtime.block_on(self.client.batch_execute(&allow)).unwrap();
        self.end_connections();
    }
}

#[test]
fn one_user_of_ten_thousand_whose_rows_cannot_be_used_fails_alone_on_a_server() {
    const PEOPLE: usize = 10_000;
    let site = Site::new();
    town(&site, PEOPLE);
    overridden(&site, 42);
    // Beyond those that are read of the one who was asked, who has newer ones.
    site.batch(
        "UPDATE public.date_change_requests SET created_at = '-infinity', responded_at = NULL WHERE id = 'r-005000-1'",
    );
    let since = now();
    let run = site.run(&["job", "run", "--all", "--json"]).json();
    assert_eq!(run["failed"], 1, "{run}");
    let failure = &run["metadata"]["result"]["failures"][0];
    assert_eq!((&failure["userId"], &failure["attempts"]), (&person(5_000).into(), &3.into()), "{run}");
    assert!(!failure["reason"].as_str().unwrap().is_empty());
    whole(&site, &run, PEOPLE, since, &[42], &[person(5_000)]);
}

#[test]
fn what_others_write_between_the_read_and_the_write_of_a_batch_stays() {
    const PEOPLE: usize = 300;
    let site = Site::new();
    town(&site, PEOPLE);
    let keys = Keys::of(&site.folder);
    let server = site.start(&["serve"]);
    let client = server.client();
    let (owner, runtime) = site.owner();
    let since = now();
    let begun = client.post(JOB, &keys.service, &all(5, Some(false))).unwrap();
    let id = begun.body["jobId"].as_str().unwrap().to_owned();
    eventually("progress", || (processed(&site) > 10).then_some(()));
    // The next write waits for the lease's row, so its batch has been read.
    runtime.block_on(owner.batch_execute("BEGIN; SELECT term FROM nudge.job_leases FOR UPDATE")).unwrap();
    eventually("a batch waits to be stored", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
          AND wait_event_type = 'Lock' AND query LIKE 'UPDATE nudge.job_leases%'";
        (site.number(waiting) > 0).then_some(())
    });
    let cursor = site.texts("SELECT cursor FROM archetype_job_logs").remove(0);
    let people = site.texts(&format!(
        "SELECT DISTINCT requester_id FROM date_change_requests WHERE requester_id > '{cursor}'
           AND requester_id NOT IN (SELECT id FROM profiles) ORDER BY 1 LIMIT 3"
    ));
    let [asks, leaves, by_hand] = <[String; 3]>::try_from(people).unwrap();
    let request = json!({
        "id": "late", "requester_id": asks, "receiver_id": "somebody-new", "transaction_type": "buyout",
        "target_night": "2026-03-20", "proposed_price": 900, "base_price": 100, "status": "pending",
        "created_at": "2026-01-05T10:00:00Z",
    });
    let leaving = json!({ "id": leaves, "role": "member", "personalization_opt_out": true });
    for (table, record) in [("date_change_requests", request), ("profiles", leaving)] {
        let change = json!({ "type": "INSERT", "table": table, "schema": "public", "record": record });
        let told = client.post("/functions/v1/ingest", &keys.service, &change).unwrap();
        assert_eq!(told.status, 200, "{}", told.text);
    }
    let set = json!({ "userId": by_hand, "archetypeType": "big_spender", "reason": "by hand" });
    let told = client.put("/functions/v1/user-archetype", &keys.service, &set).unwrap();
    assert_eq!(told.status, 200, "{}", told.text);
    runtime.block_on(owner.batch_execute("ROLLBACK")).unwrap();

    let run = completed(&site, &id);
    let totals = &run["metadata"]["totals"];
    assert_eq!(totals["superseded"], 1, "{asks}: {run}");
    assert_eq!(totals["overrideSkipped"], 1, "{by_hand}: {run}");
    assert_eq!(totals["optedOut"], 3, "{leaves}: {run}");
    assert_eq!(
        site.texts("SELECT user_id FROM nudge.stale_users WHERE user_id LIKE 'p-%'"),
        std::slice::from_ref(&asks)
    );
    // Whoever has asked meanwhile stays marked, and is the next run's.
    let run = site.run(&["job", "run", "--json"]).json();
    assert_eq!(run["failed"], 0, "{run}");
    compare(&Rows::of_server(&site), since, &[by_hand], &[]);
    assert_eq!(site.number("SELECT count(*) FROM nudge.stale_users"), 0);
}
