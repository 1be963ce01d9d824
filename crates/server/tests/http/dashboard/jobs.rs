//! The job on the pages: started, watched and cancelled as by the API.

use std::time::Duration;

use nudge_store::job::{NewRun, RunCause, RunStarted};
use serde_json::json;
use uuid::Uuid;

use super::{Browser, home};
use crate::support::{As, Harness, eventually};

const SOON: Duration = Duration::from_secs(30);
const START: &str = "/dashboard/jobs/start";
const CANCEL: &str = "/dashboard/jobs/cancel";

/// A run of another process, on which nobody works.
fn run_elsewhere(server: &Harness) -> Uuid {
    let new = NewRun {
        id: "019cd20a-0d00-7000-8000-000000000007".parse().unwrap(),
        holder: "elsewhere".into(),
        cause: RunCause::Asked,
        config: json!({ "batchSize": 10 }),
        trigger: "<b>somebody</b>".into(),
        actor: None,
        now: server.clock.now(),
    };
    let RunStarted::Started(lease) = server.block_on(server.app.store.start_run(new)).unwrap() else {
        panic!("another run is under way")
    };
    lease.run_id
}

#[test]
fn a_run_is_started_followed_and_shown_with_what_came_of_it() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    assert!(browser.page("/dashboard/jobs").contains("The job has not run yet"));
    assert!(browser.page("/dashboard/archetypes").contains("nudge import"), "and nothing is stored");
    let answer = browser.submit(START, &[("who", "all")]);
    assert_eq!(answer.header("location"), Some("/dashboard/jobs?done=started"));
    eventually(SOON, "the run ends", || browser.page("/dashboard/jobs").contains("completed"));
    let jobs = browser.page("/dashboard/jobs");
    assert!(jobs.contains("archetype recalculation") && jobs.contains(">root<"), "{jobs}");
    let at = jobs.find("href=\"/dashboard/jobs/").unwrap();
    let run = browser.page(jobs[at..].split('"').nth(1).unwrap());
    for expected in ["Distribution after the run", "Moves", "onlyStaleUsers false", "Premium Booker"] {
        assert!(run.contains(expected), "{expected} in {run}");
    }
    let archetypes = browser.page("/dashboard/archetypes");
    for expected in ["From run to run", "Moves in the newest run", "<svg", "too few to say"] {
        assert!(archetypes.contains(expected), "{expected} in {archetypes}");
    }
    let answer = browser.submit(START, &[("who", "nobody")]);
    assert_eq!(answer.status, 400);
}

#[test]
fn a_run_is_cancelled_and_no_second_one_started_beside_it() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let id = run_elsewhere(&server).to_string();
    let page = browser.page("/dashboard/jobs");
    assert!(page.contains("Cancel the run") && !page.contains("Start a run"), "{page}");
    assert!(page.contains("&lt;b&gt;somebody&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    assert_eq!(
        browser.submit(START, &[("who", "stale")]).header("location"),
        Some("/dashboard/jobs?done=running")
    );
    let forged = browser.post(CANCEL, &[("form_token", "x"), ("id", &id)]);
    assert_eq!(forged.status, 403);
    let answer = browser.submit(CANCEL, &[("id", &id)]);
    assert_eq!(answer.header("location"), Some("/dashboard/jobs?done=cancelled"));
    assert!(browser.page("/dashboard/jobs").contains("cancelled"));
    assert_eq!(browser.submit(CANCEL, &[("id", &id)]).header("location"), Some("/dashboard/jobs?done=ended"));
    assert_eq!(browser.submit(CANCEL, &[("id", "019cd20a-0d00-7000-8000-000000000009")]).status, 404);
    assert_eq!(browser.submit(CANCEL, &[("id", "x")]).status, 400);
    assert_eq!(browser.get("/dashboard/jobs/nonsense").status, 404);
    let seen = server.get(As::Service, &format!("/functions/v1/archetype-recalculation-job?jobId={id}")).ok();
    assert_eq!(seen["status"], "cancelled");
    let audited = server.rows("SELECT action, admin_id, actor_role FROM admin_audit_log ORDER BY id");
    assert_eq!(audited, [["cancel_job", "root", "admin"].map(|text| Some(text.to_owned()))]);
}
