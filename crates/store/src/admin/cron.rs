//! The nightly run's entry in pg_cron: it does nothing but ask, by a row in `nudge.job_requests`, which a server takes.

use tokio_postgres::Client;

use super::error::AdminError;

/// The entry's name, as in the deployment guide, whose statements to list and to unschedule it name it.
pub const ENTRY: &str = "daily-archetype-recalculation";

const INSTALLED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron')";
const ASK: &str =
    "INSERT INTO nudge.job_requests (config) VALUES ('{\"batchSize\": 500, \"onlyStaleUsers\": true}')";
const SCHEDULE: &str = "SELECT cron.schedule($1, $2, $3)";
const UNSCHEDULE: &str = "SELECT cron.unschedule(j.jobname) FROM cron.job AS j
  WHERE j.jobname = $1 AND j.username = current_user";

/// Installs the entry, or takes it away; an entry of that name that is there is replaced.
pub(super) async fn schedule(client: &Client, cron: Option<&str>) -> Result<(), AdminError> {
    let reading = AdminError::reading("the extensions");
    let installed = client.query_one(INSTALLED, &[]).await.map_err(&reading)?;
    let installed: bool = installed.try_get(0).map_err(&reading)?;
    let making = AdminError::making("the entry of pg_cron");
    match cron {
        None if !installed => Ok(()),
        None => client.query(UNSCHEDULE, &[&ENTRY]).await.map(drop).map_err(making),
        Some(_) if !installed => Err(AdminError::NoCron),
        Some(cron) => client.query(SCHEDULE, &[&ENTRY, &cron, &ASK]).await.map(drop).map_err(making),
    }
}
