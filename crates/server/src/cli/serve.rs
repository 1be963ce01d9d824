//! `nudge serve`

use crate::clock::Clock;
use crate::config::Config;
use crate::server::{DataDirLock, Server, asked_to_stop};
use crate::telemetry;

use super::output;

/// Serve the API on the data folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  nudge serve\n  nudge serve --data-dir /var/lib/nudge --port 8080\n  \
    NUDGE_BIND=0.0.0.0 NUDGE_RATE_PER_CALLER=50 nudge serve")]
pub struct Args {}

pub async fn run(_args: Args, mut config: Config) -> anyhow::Result<()> {
    telemetry::start_logs(&config)?;
    let lock = DataDirLock::take(&config.data_dir)?;
    let server = Server::start(&mut config, lock, Clock::default()).await?;
    // Whoever reads the greeting may stop the server at once.
    let stop = asked_to_stop();
    output::line(format_args!("nudge {} serves {}", env!("CARGO_PKG_VERSION"), config.url()))?;
    output::line(format_args!("  listening on {}   database {}", server.address(), config.database))?;
    output::line(format_args!(
        "  dashboard: {}/dashboard   sign in with the token of an admin (`nudge token --sub ADMIN`) or the service key",
        config.url()
    ))?;
    output::line("  keys: `nudge keys`   stop: Ctrl-C")?;
    server.serve(stop).await;
    Ok(())
}
