//! Every metric that this program exports, in one list: the descriptions of `/metrics` are made from it, OTLP sends it,
//! and docs/OPERATIONS.md is compared with it by a test.
//!
//! Names are `nudge_<thing>_<unit>`, a counter ends in `_total`. Figures of the process have the names that Prometheus'
//! own clients use.

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A metric: a name, and what its series are told apart by.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, one line.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, labels, help }
}

use Kind::{Counter, Gauge, Histogram};

/// Every metric.
pub const FAMILIES: &[Family] = &[
    // Requests.
    family("nudge_http_requests_total", Counter, &["route", "method", "status"], "Answers"),
    family(
        "nudge_http_request_duration_seconds",
        Histogram,
        &["route", "status"],
        "Time from a request's head to its answer",
    ),
    family("nudge_http_in_flight", Gauge, &[], "Requests in work"),
    // Business.
    family(
        "nudge_decisions_total",
        Counter,
        &["type", "archetype", "rule", "personalized"],
        "Recorded decisions by what was recommended, to whom, and why",
    ),
    family(
        "nudge_decisions_degraded_total",
        Counter,
        &[],
        "Decisions made without personal data because it could not be read",
    ),
    family("nudge_outcomes_total", Counter, &["event"], "Outcomes recorded by the outcomes route"),
    family(
        "nudge_choices_total",
        Counter,
        &["followed"],
        "Choices reported, by whether they are what had been recommended",
    ),
    // The recalculation job.
    family("nudge_job_runs_total", Counter, &["status"], "Runs that ended or paused here, by how"),
    family("nudge_job_last_success_timestamp_seconds", Gauge, &[], "When the newest completed run ended"),
    family("nudge_job_last_duration_seconds", Gauge, &[], "How long the newest completed run took"),
    family("nudge_job_processed_total", Counter, &[], "Users looked at"),
    family(
        "nudge_job_updated_total",
        Counter,
        &[],
        "Users whose type changed, or whose confidence moved by more than 0.1",
    ),
    family("nudge_job_failed_users_total", Counter, &[], "Users whose rows could not be used"),
    family("nudge_job_override_skipped_total", Counter, &[], "Users left alone because of an override"),
    family("nudge_job_superseded_total", Counter, &[], "Users whose facts changed between read and write"),
    family("nudge_job_lease_lost_total", Counter, &[], "Runs that another took over, or that were cancelled"),
    family(
        "nudge_archetype_share_ratio",
        Gauge,
        &["archetype"],
        "Share of users after the newest completed run, 0 to 1",
    ),
    family("nudge_refresh_waiting", Gauge, &[], "Users that wait to be recomputed between two runs"),
    family("nudge_refreshed_total", Counter, &[], "Users recomputed between two runs"),
    family("nudge_refresh_failures_total", Counter, &[], "Users that could not be recomputed"),
    family("nudge_refresh_dropped_total", Counter, &[], "Users left to the nightly run for lack of room"),
    // Recorder and spool.
    family("nudge_recorder_queue_depth", Gauge, &[], "Writes that wait for a commit"),
    family("nudge_recorder_queue_full_total", Counter, &[], "Decisions that found the recorder's queue full"),
    family("nudge_recorder_away", Gauge, &[], "1 while decisions go to the spool first"),
    family("nudge_spool_depth", Gauge, &[], "Decisions in the spool"),
    family("nudge_spool_used_ratio", Gauge, &[], "Share of the spool that is taken, 0 to 1"),
    family("nudge_decisions_spooled_total", Counter, &[], "Decisions that went to the spool"),
    family(
        "nudge_decisions_replayed_total",
        Counter,
        &[],
        "Spooled decisions brought back into the database",
    ),
    family(
        "nudge_decisions_set_aside_total",
        Counter,
        &[],
        "Spooled decisions that the database refused for good",
    ),
    family(
        "nudge_spool_damaged_total",
        Counter,
        &[],
        "Times that the spool could not be read on and was set aside",
    ),
    // Database.
    family("nudge_commits_total", Counter, &[], "Commits of the database"),
    family("nudge_commit_rows_total", Counter, &[], "Writes in those commits"),
    family("nudge_commit_failures_total", Counter, &[], "Commits that the database could not take"),
    family("nudge_last_commit_seconds", Gauge, &[], "Duration of the last commit"),
    family("nudge_database_connections", Gauge, &["pool"], "Connections that may be open at once"),
    family("nudge_database_connections_busy", Gauge, &["pool"], "Connections that are in use"),
    // Caches.
    family("nudge_archetype_cache_hits_total", Counter, &[], "People found in memory"),
    family("nudge_archetype_cache_misses_total", Counter, &[], "People read from the database"),
    family("nudge_archetype_cache_people", Gauge, &[], "People in memory"),
    // The log of requests and its drains.
    family("nudge_request_log_rows_total", Counter, &[], "Requests written to edge_function_logs"),
    family(
        "nudge_request_log_dropped_total",
        Counter,
        &["reason"],
        "Requests that are not in edge_function_logs, by why",
    ),
    family(
        "nudge_request_log_write_failures_total",
        Counter,
        &[],
        "Writes of edge_function_logs that the database did not take",
    ),
    family("nudge_request_log_queue_depth", Gauge, &[], "Requests that wait to be written"),
    family("nudge_dashboard_sign_ins_total", Counter, &["result"], "Attempts to sign in to the dashboard"),
    family("nudge_drain_sent_total", Counter, &["drain"], "Events that a drain's receiver has taken"),
    family(
        "nudge_drain_failed_total",
        Counter,
        &["drain", "cause"],
        "Batches that were sent in vain, by why",
    ),
    family(
        "nudge_drain_dropped_total",
        Counter,
        &["drain", "reason"],
        "Events that a drain has lost, by why",
    ),
    family("nudge_drain_queue_depth", Gauge, &["drain"], "Events that wait to be sent"),
    // Alerts.
    family(
        "nudge_alert_firing",
        Gauge,
        &["alert"],
        "1 while an alert of this server or of the service fires",
    ),
    family("nudge_alert_evaluations_total", Counter, &[], "Evaluations of the built-in alerts"),
    family("nudge_alert_failures_total", Counter, &[], "Alerts that could not be evaluated or written"),
    family(
        "nudge_alert_notifications_total",
        Counter,
        &["channel", "result"],
        "Notices of alerts, by what became of them",
    ),
    family(
        "nudge_rls_problems",
        Gauge,
        &[],
        "Rights of the database that are not as they must be, at the last check",
    ),
    family("nudge_audit_chain_broken", Gauge, &[], "1 when the audit log was found broken at the last check"),
    // Telemetry itself.
    family("nudge_otlp_exports_total", Counter, &["signal", "result"], "Batches sent to the OTLP endpoint"),
    // The process.
    family(
        "nudge_build_info",
        Gauge,
        &["version", "engine"],
        "1, with the version and the database's engine",
    ),
    family("process_cpu_seconds_total", Counter, &[], "Processor time that the process has taken"),
    family("process_resident_memory_bytes", Gauge, &[], "Memory in use"),
    family("process_open_fds", Gauge, &[], "Open file descriptors"),
    family("process_threads", Gauge, &[], "Threads"),
    family("process_start_time_seconds", Gauge, &[], "When the process began, Unix time"),
];

/// The events of outcomes, each of which has a series from the start.
const EVENTS: [&str; 8] =
    ["viewed", "selected", "submitted", "accepted", "declined", "expired", "cancelled", "nps"];

/// Describes every family, and begins those whose series are known, so that a rate over them is right from the first one.
pub(super) fn describe() {
    use metrics::{counter, describe_counter, describe_gauge, describe_histogram};
    for family in FAMILIES {
        match family.kind {
            Kind::Counter => {
                describe_counter!(family.name, family.help);
                if family.labels.is_empty() {
                    counter!(family.name).absolute(0);
                }
            }
            Kind::Gauge => describe_gauge!(family.name, family.help),
            Kind::Histogram => describe_histogram!(family.name, family.help),
        }
    }
    for event in EVENTS {
        counter!("nudge_outcomes_total", "event" => event).absolute(0);
    }
    for followed in ["true", "false"] {
        counter!("nudge_choices_total", "followed" => followed).absolute(0);
    }
}
