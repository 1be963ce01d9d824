//! The database as the scheduler: Debian's pg_cron on a cluster of its own, which starts with it loaded.

use std::io::Write;

use crate::own_cluster::Cluster;
use crate::server_database::Site;
use crate::support::eventually;

use super::fresh::{Rows, compare, now};
use super::server::town;

const LISTED: &str = "SELECT jobname || ' ' || schedule || ' ' || active FROM cron.job WHERE jobname = 'daily-archetype-recalculation'";

/// Runs that the server's own schedule has started.
const OWN: &str = "SELECT count(*) FROM archetype_job_logs WHERE metadata ->> 'trigger' = 'schedule'";

#[test]
fn the_database_starts_the_run_by_pg_cron_and_the_guide_s_sql_lists_and_ends_it() {
    // Says how to start one where there is none, as the other tests do.
    let _ = crate::postgres::server_url();
    let (cluster, url) = Cluster::start();
    let site = Site::on(&url);
    town(&site, 60);
    // As the ingest route would have done.
    site.batch(
        "INSERT INTO nudge.stale_users (user_id, revision)
         SELECT id, nextval('nudge.revisions') FROM (SELECT requester_id AS id FROM date_change_requests
           UNION SELECT receiver_id FROM date_change_requests) AS everybody",
    );
    let refused = site.run(&["job", "schedule", "--via", "pg_cron"]).refused();
    assert!(refused.contains("pg_cron"), "{refused}");
    assert_eq!(site.texts("SELECT scheduler FROM nudge.job_leases"), ["built_in"], "nothing has changed");

    // What an operator does before: loaded at the start, for this database.
    cluster.stop();
    let mut settings =
        std::fs::File::options().append(true).open(cluster.data().join("postgresql.conf")).unwrap();
    writeln!(
        settings,
        "shared_preload_libraries = 'pg_cron'\ncron.database_name = '{}'\ncron.host = '127.0.0.1'",
        site.database.name
    )
    .unwrap();
    // Jobs connect as whoever made them.
    cluster.start_again();
    site.batch_as_superuser(&format!(
        "CREATE EXTENSION IF NOT EXISTS pg_cron; SELECT extname FROM pg_extension WHERE extname = 'pg_cron';
         GRANT USAGE ON SCHEMA cron TO {}",
        crate::postgres::OWNER
    ));

    let told = site.run(&["job", "schedule", "--via", "pg_cron"]).good();
    assert!(told.contains("The database starts the nightly run"), "{told}");
    assert_eq!(site.texts(LISTED), ["daily-archetype-recalculation 0 2 * * * true"]);
    // Again, at another time: still one entry.
    site.run(&["job", "schedule", "--via", "pg_cron", "--cron", "30 3 * * *"]).good();
    assert_eq!(site.texts(LISTED), ["daily-archetype-recalculation 30 3 * * * true"]);

    // What the entry does each night, done at the next full minute: this pg_cron counts in no less.
    let since = now();
    site.run(&["job", "schedule", "--via", "pg_cron", "--cron", "* * * * *"]).good();
    // A server whose own schedule was due every minute leaves it to the database.
    let mut command = site.command(&["serve", "--port", "0"]);
    let server = site.folder.start_command(command.env("NUDGE_JOB_SCHEDULE", "* * * * *"));
    site.batch("UPDATE nudge.job_leases SET scheduled_at = scheduled_at - interval '1 hour'");
    eventually("the server has looked at its own schedule", || {
        (site.number("SELECT (scheduled_at > now() - interval '2 minutes')::int FROM nudge.job_leases") == 1)
            .then_some(())
    });
    assert_eq!(site.number(OWN), 0, "it starts none");
    eventually("the minute is full, and pg_cron has asked", || {
        (site.number("SELECT count(*) FROM nudge.job_requests") >= 1).then_some(())
    });
    eventually("what it asked for makes a run", || {
        let completed = "SELECT count(*) FROM archetype_job_logs WHERE status = 'completed'
          AND metadata ->> 'trigger' = 'job_requests'";
        (site.number(completed) >= 1).then_some(())
    });
    assert_eq!(site.number(OWN), 0, "it starts none");
    site.batch("SELECT cron.unschedule('daily-archetype-recalculation')");
    assert_eq!(
        site.texts("SELECT jobname FROM cron.job WHERE jobname = 'daily-archetype-recalculation'"),
        Vec::<String>::new()
    );
    // Unscheduled by hand as the guide does: taking it back is no error, and the servers do it again.
    let told = site.run(&["job", "schedule", "--off"]).good();
    assert!(told.contains("A server starts the nightly run"), "{told}");
    assert_eq!(site.texts("SELECT scheduler FROM nudge.job_leases"), ["built_in"]);
    site.batch("UPDATE nudge.job_leases SET scheduled_at = scheduled_at - interval '1 hour'");
    eventually("the server's own schedule starts one", || (site.number(OWN) >= 1).then_some(()));
    drop(server);
    site.run(&["job", "schedule", "--via", "pg_cron"]).good();
    site.run(&["job", "schedule", "--off"]).good();
    assert_eq!(site.texts(LISTED), Vec::<String>::new());
    compare(&Rows::of_server(&site), since, &[], &[]);
}
