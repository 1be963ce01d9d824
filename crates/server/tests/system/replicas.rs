//! Three servers behind HAProxy and PgBouncer on one PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::beside::Beside;
use crate::load::{Askers, Load};
use crate::server_database::Site;
use crate::support::{Folder, Keys, Question, Server, eventually};

const SECRET: &str = "a secret that every replica of these tests has";
const CLIENTS: u64 = 12;

/// One machine: a folder of its own for the spool, the same secret and database as the others.
pub struct Machine {
    pub folder: Folder,
    database: String,
}

impl Machine {
    pub fn new(database: String) -> Self {
        Self { folder: Folder::new(), database }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.folder.command(args);
        command.env("SUPABASE_JWT_SECRET", SECRET).env("DATABASE_URL", &self.database);
        // A decision in the spool of one machine is unknown to the others until it is brought back, so a machine that is
        // merely slow must not put any there.
        command.env("NUDGE_COMMIT_TIMEOUT_MS", "10000");
        command.args(["--data-dir", "data"]);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        crate::support::finish(&mut self.command(args), None).good()
    }

    pub fn start(&self, args: &[&str], port: u16) -> Server {
        self.folder.start_command(self.command(args).args(["--port", &port.to_string()]))
    }

    pub fn keys(&self) -> Keys {
        let keys: serde_json::Value = serde_json::from_str(&self.run(&["keys", "--json"])).unwrap();
        let key = |name: &str| keys[name].as_str().unwrap().to_owned();
        Keys { anon: key("SUPABASE_ANON_KEY"), service: key("SUPABASE_SERVICE_ROLE_KEY") }
    }
}

#[test]
fn three_replicas_share_the_load_and_survive_the_loss_of_one() {
    let site = Site::new();
    let mut first = site.start(&["demo", "--people", "60"]);
    first.terminate();
    assert_eq!(first.exit_code(), Some(0), "{}", first.log());

    let beside = tempfile::tempdir().unwrap();
    let direct = site.database.url();
    let (host, port) = direct.split(['@', '/']).nth(3).unwrap().rsplit_once(':').unwrap();
    let bouncer = Beside::pgbouncer(host, port, beside.path());
    let pooled = direct.replace(&format!(":{port}/"), &format!(":{}/", bouncer.port)) + "?pgbouncer=true";
    let machines: Vec<Machine> = (0..3).map(|_| Machine::new(pooled.clone())).collect();
    let mut servers: Vec<Server> = machines.iter().map(|machine| machine.start(&["serve"], 0)).collect();
    let urls: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
    let proxy = Beside::haproxy(&urls, beside.path());

    let questions = site.questions();
    let user = questions[0].user.clone();
    let token = machines[0].run(&["token", "--sub", &user]).trim().to_owned();
    let askers = Askers::new(questions.clone(), (user, token));
    let load = Load::start_at(&proxy.url(), machines[0].keys(), &askers, CLIENTS, 3);
    load.wait_for(300);

    // One machine is lost under load.
    let port = servers[1].url.rsplit_once(':').unwrap().1.parse().unwrap();
    load.server_ends();
    servers[1].kill();
    load.wait_for(300);
    load.server_is_gone();
    load.wait_for(300);
    // It comes back, and takes its share again.
    servers[1] = machines[1].start(&["serve"], port);
    let decisions = |server: &Server| server.metric("nudge_commit_rows_total");
    eventually("the share of the one that came back", || (decisions(&servers[1]) > 20.0).then_some(()));
    let promises = load.finish();
    let few: Vec<_> = promises.wrong.iter().take(3).collect();
    assert!(promises.wrong.is_empty(), "{} wrong answers, such as {few:?}", promises.wrong.len());
    assert!(promises.broken <= CLIENTS as usize, "{} connections broke", promises.broken);

    for server in &servers {
        server.drained();
        assert!(decisions(server) > 20.0, "each has its share of the traffic");
    }
    let stored = counted(&site, "SELECT id FROM recommendation_logs");
    let promised: Vec<_> = promises.answered.iter().filter(|id| stored.get(*id) != Some(&1)).collect();
    assert!(promised.is_empty(), "of {} answered not there once: {promised:?}", promises.answered.len());
    let events = counted(&site, "SELECT concat(recommendation_id, ' ', event) FROM recommendation_events");
    let promised = promises.outcomes.iter().map(|(id, event)| format!("{id} {event}"));
    let lost: Vec<_> = promised.filter(|outcome| events.get(outcome) != Some(&1)).collect();
    assert!(lost.is_empty(), "of {} acknowledged not there once: {lost:?}", promises.outcomes.len());
    an_override_is_seen_everywhere(&servers, &questions[0], &machines[0].keys().service);
}

/// Counts how often each value is there.
fn counted(site: &Site, sql: &str) -> BTreeMap<String, usize> {
    site.texts(sql).into_iter().fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

/// What one replica is told, the others answer by within a second.
fn an_override_is_seen_everywhere(servers: &[Server], question: &Question, key: &str) {
    let shown = |server: &Server| {
        let answer = server.client().get(&question.path(), Some(key)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["userArchetype"]["type"].as_str().unwrap().to_owned()
    };
    for (n, to) in ["big_spender", "high_flexibility", "average_user", "big_spender"].into_iter().enumerate()
    {
        servers.iter().for_each(|server| drop(shown(server)));
        let body = json!({ "userId": question.user, "archetypeType": to, "reason": "for all" });
        let told = servers[n % 3].client().put("/functions/v1/user-archetype", key, &body).unwrap();
        assert_eq!(told.status, 200, "{}", told.text);
        let begun = Instant::now();
        for server in servers {
            eventually("the override", || (shown(server) == to).then_some(()));
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
