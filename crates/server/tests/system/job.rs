//! Faults of the recalculation job, with real processes. Each test ends by comparing every archetype with a fresh
//! computation from the raw rows (`fresh`).

mod clock;
mod cron;
mod file;
mod fresh;
mod server;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Client, Folder, Keys, eventually, number};

pub const JOB: &str = "/functions/v1/archetype-recalculation-job";

/// Users that are asked for something, one for so many who ask.
const ASKERS_A_HUB: usize = 100;

/// Everybody of a town: those who ask and those who are asked.
pub fn everybody(people: usize) -> usize {
    people + people.div_ceil(ASKERS_A_HUB)
}

/// The body of a run for everybody.
pub fn all(batch_size: usize, wait: Option<bool>) -> Value {
    let mut body = json!({ "config": { "batchSize": batch_size, "onlyStaleUsers": false } });
    if let Some(wait) = wait {
        body["wait"] = json!(wait);
    }
    body
}

/// Starts a run for everybody, one user a batch.
pub fn start_slow_run(client: &Client, service: &str) -> String {
    let begun = client.post(JOB, service, &all(1, Some(false))).unwrap();
    assert_eq!(begun.status, 202, "{}", begun.text);
    begun.body["jobId"].as_str().unwrap().to_owned()
}

/// SQL of three requests of each person, those of the engine: numbers as text, and times before now.
fn requests(people: usize, series: &str, padded: &str, hours_ago: impl Fn(&str) -> String) -> String {
    let hubs = people.div_ceil(ASKERS_A_HUB);
    let kind = "(p.n + k.n) % 3";
    let created = hours_ago("(24 + (p.n * 13 + k.n * 29) % 1400)");
    let responded = hours_ago("(20 + (p.n * 13 + k.n * 29) % 1400)");
    format!(
        "INSERT INTO date_change_requests (id, requester_id, receiver_id, transaction_type, target_night, proposed_price,
           base_price, status, created_at, responded_at)
         SELECT 'r-' || {pn} || '-' || k.n, 'p-' || {pn}, 'hub-' || (p.n % {hubs}),
           CASE {kind} WHEN 0 THEN 'buyout' WHEN 1 THEN 'crash' ELSE 'swap' END, {night},
           CASE WHEN {kind} <> 2 THEN 50 + (p.n * 37 + k.n * 11) % 200 END, 100,
           CASE (p.n * 7 + k.n) % 3 WHEN 0 THEN 'accepted' WHEN 1 THEN 'rejected' ELSE 'pending' END, {created},
           CASE WHEN (p.n * 7 + k.n) % 3 < 2 THEN {responded} END
         FROM {series}",
        pn = padded,
        night = if series.contains("generate_series") { "date '2026-03-15'" } else { "'2026-03-15'" },
    )
}

/// A town in a file.
pub struct Town {
    pub folder: Folder,
    pub people: usize,
}

impl Town {
    pub fn new(people: usize) -> Self {
        let folder = Folder::new();
        let profiles: String =
            (1..=4).map(|n| format!("{},member,{}\n", person(n * 7), n % 2 == 0)).collect();
        folder.file("profiles.csv", format!("id,role,personalization_opt_out\n{profiles}"));
        folder.run(&["import", "profiles", "profiles.csv"]).good();
        let series = format!(
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {people}) SELECT n FROM s) AS p,
             (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2) AS k"
        );
        let ago =
            |hours: &str| format!("strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-' || {hours} || ' hours')");
        let insert = requests(people, &series, "printf('%06d', p.n)", ago);
        folder.database().execute_batch(&insert).unwrap();
        Self { folder, people }
    }

    pub fn everybody(&self) -> i64 {
        i64::try_from(everybody(self.people)).unwrap()
    }

    /// Sets archetypes by hand that no computation gives back.
    pub fn overridden(self, people: &[usize]) -> Self {
        for n in people {
            let args = ["archetype", "override", &person(*n), "big_spender", "--reason", "by hand"];
            self.folder.run(&args).good();
        }
        self
    }

    pub fn conn(&self) -> Connection {
        self.folder.database()
    }

    pub fn keys(&self) -> Keys {
        Keys::of(&self.folder)
    }
}

pub fn person(n: usize) -> String {
    format!("p-{n:06}")
}

/// Users that the newest run has done.
pub fn processed(conn: &Connection) -> i64 {
    number(
        conn,
        "SELECT coalesce((SELECT processed_count FROM archetype_job_logs ORDER BY id DESC LIMIT 1), 0)",
        [],
    )
}

/// Waits until the newest run has done so many users.
pub fn wait_for(conn: &Connection, users: i64) {
    eventually("progress", || (processed(conn) >= users).then_some(()));
}

/// Lets the lease be over, as ten seconds would.
pub fn expire(conn: &Connection) {
    conn.execute("UPDATE nudge_job_leases SET expires_at = '2020-01-01T00:00:00.000000Z'", []).unwrap();
}

/// Checks the counts of a completed run: everybody once, and what became of them adds up.
pub fn adds_up(run: &Value, everybody: i64, rows_with_row: i64) {
    assert_eq!(run["status"], "completed", "{run}");
    let totals = &run["metadata"]["totals"];
    let of = |name: &str| totals[name].as_i64().unwrap();
    assert_eq!(run["processed"].as_i64(), Some(everybody), "everybody once: {run}");
    for name in ["processed", "updated", "failed"] {
        assert_eq!(run[name], totals[name], "{name}: {run}");
    }
    let skipped = of("failed") + of("overrideSkipped") + of("optedOut") + of("superseded");
    assert!(of("updated") + skipped <= everybody, "{run}");
    // Every user that was not left out has a row.
    assert_eq!(everybody - of("failed") - of("optedOut"), rows_with_row, "{run}");
}
