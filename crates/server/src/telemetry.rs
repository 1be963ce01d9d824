//! Logs and metrics.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Bounds of the latency histogram, in seconds.
const LATENCY_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.5, 5.0];

/// Renders the process's metrics.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder of this process, once; later calls give the same one.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = INSTALLED.get_or_init(|| {
            let name = Matcher::Full("nudge_http_request_duration_seconds".to_owned());
            let builder = PrometheusBuilder::new();
            let builder = builder.set_buckets_for_metric(name, LATENCY_BUCKETS).unwrap_or_default();
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics.another_recorder_is_installed");
            }
            describe();
            handle
        });
        Self(handle.clone())
    }

    /// Gives the metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what has been recorded into the histograms; to be called every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("nudge_http_requests_total", "Requests by route, method and status");
    histogram!("nudge_http_request_duration_seconds", "Time from a request's head to its answer");
    gauge!("nudge_http_in_flight", "Requests in work");
    counter!("nudge_decisions_total", "Recorded decisions by rule");
    counter!(
        "nudge_decisions_degraded_total",
        "Decisions made without personal data because it could not be read"
    );
    counter!("nudge_decisions_spooled_total", "Decisions that went to the spool");
    counter!("nudge_decisions_replayed_total", "Spooled decisions brought back into the database");
    counter!("nudge_decisions_set_aside_total", "Spooled decisions that the database refused for good");
    counter!("nudge_spool_damaged_total", "Times that the spool could not be read on and was set aside");
    counter!("nudge_recorder_queue_full_total", "Decisions that found the recorder's queue full");
    counter!("nudge_outcomes_total", "Recorded outcomes");
    counter!("nudge_archetype_cache_hits_total", "People found in memory");
    counter!("nudge_archetype_cache_misses_total", "People read from the database");
    gauge!("nudge_recorder_queue_depth", "Writes that wait for a commit");
    gauge!("nudge_recorder_away", "1 while decisions go to the spool first");
    gauge!("nudge_spool_depth", "Decisions in the spool");
    gauge!("nudge_last_commit_seconds", "Duration of the last commit");
    counter!("nudge_commits_total", "Commits of the database");
    counter!("nudge_commit_rows_total", "Writes in those commits");
    counter!("nudge_commit_failures_total", "Commits that the database could not take");
}

/// Starts logging to standard error: coloured on a terminal, JSON when asked for.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start_logs(config: &Config) -> anyhow::Result<()> {
    let level = &config.log_level;
    let filter = EnvFilter::builder().parse(level).map_err(|error| {
        anyhow::anyhow!(
            "LOG_LEVEL: `{level}` is neither a level (error, warn, info, debug, trace) nor a filter: {error}"
        )
    })?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if config.log_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
