//! Logs, metrics and traces.
//!
//! Where next: [`family`] lists every metric, [`otlp`] sends them and the traces to a collector.

pub mod family;
pub mod otlp;
pub(crate) mod process;
pub mod series;

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Bounds of the latency histogram, in seconds.
pub const LATENCY_BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.5, 5.0];

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
            let builder = builder.set_buckets_for_metric(name, &LATENCY_BUCKETS).unwrap_or_default();
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics.another_recorder_is_installed");
            }
            family::describe();
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
