//! What is watched. The first three are those of the deployment guide, with its thresholds and windows as defaults.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

use super::config::AlertConfig;
use super::machine::Limits;

/// An alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Too many answers of the functions are 5xx.
    HighErrorRate,
    /// Answers of the functions take too long.
    SlowResponses,
    /// Runs of the job gave up.
    JobFailures,
    /// The job has not completed for too long.
    JobMissed,
    /// Decisions wait in the spool.
    SpoolNotDraining,
    /// The spool is nearly full.
    SpoolFull,
    /// The disk of the data folder is nearly full.
    DiskFull,
    /// The database's rights are not as they must be.
    RlsCheckFailed,
    /// The audit log has been tampered with.
    AuditChainBroken,
}

/// What is no alert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an alert; they are {list}", list = Rule::ALL.map(Rule::as_str).join(", "))]
pub struct UnknownRule(pub String);

impl Rule {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::HighErrorRate,
        Self::SlowResponses,
        Self::JobFailures,
        Self::JobMissed,
        Self::SpoolNotDraining,
        Self::SpoolFull,
        Self::DiskFull,
        Self::RlsCheckFailed,
        Self::AuditChainBroken,
    ];

    /// Gives the name by which it is known everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HighErrorRate => "high_error_rate",
            Self::SlowResponses => "slow_responses",
            Self::JobFailures => "job_failures",
            Self::JobMissed => "job_missed",
            Self::SpoolNotDraining => "spool_not_draining",
            Self::SpoolFull => "spool_full",
            Self::DiskFull => "disk_full",
            Self::RlsCheckFailed => "rls_check_failed",
            Self::AuditChainBroken => "audit_chain_broken",
        }
    }

    /// Says in a few words what is wrong.
    pub const fn title(self) -> &'static str {
        match self {
            Self::HighErrorRate => "High error rate",
            Self::SlowResponses => "Slow responses",
            Self::JobFailures => "The job failed",
            Self::JobMissed => "The job has not completed",
            Self::SpoolNotDraining => "The spool does not drain",
            Self::SpoolFull => "The spool is nearly full",
            Self::DiskFull => "The disk is nearly full",
            Self::RlsCheckFailed => "The check of the database's rights failed",
            Self::AuditChainBroken => "The audit log is broken",
        }
    }

    /// Names the figure.
    pub const fn metric(self) -> &'static str {
        match self {
            Self::HighErrorRate => "error_rate",
            Self::SlowResponses => "p95_latency",
            Self::JobFailures => "failed_runs",
            Self::JobMissed => "time_since_completion",
            Self::SpoolNotDraining => "waiting_decisions",
            Self::SpoolFull => "spool_used",
            Self::DiskFull => "disk_used",
            Self::RlsCheckFailed => "problems",
            Self::AuditChainBroken => "broken_chains",
        }
    }

    /// Names the figure's unit: `percent`, `milliseconds`, `hours`, or `count`.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::HighErrorRate | Self::SpoolFull | Self::DiskFull => "percent",
            Self::SlowResponses => "milliseconds",
            Self::JobMissed => "hours",
            Self::JobFailures | Self::SpoolNotDraining | Self::RlsCheckFailed | Self::AuditChainBroken => {
                "count"
            }
        }
    }

    /// Says what a sample is made of.
    pub const fn sample_of(self) -> &'static str {
        match self {
            Self::HighErrorRate | Self::SlowResponses => "requests",
            Self::JobFailures | Self::JobMissed => "runs",
            Self::SpoolNotDraining => "observations",
            Self::SpoolFull | Self::DiskFull => "observations",
            Self::RlsCheckFailed => "checks",
            Self::AuditChainBroken => "entries",
        }
    }

    /// Says how bad it is: `critical`, somebody should look now, or `warning`.
    pub const fn severity(self) -> &'static str {
        match self {
            Self::HighErrorRate
            | Self::SpoolFull
            | Self::DiskFull
            | Self::RlsCheckFailed
            | Self::AuditChainBroken => "critical",
            Self::SlowResponses | Self::JobFailures | Self::JobMissed | Self::SpoolNotDraining => "warning",
        }
    }

    /// Says whether it is about one server; else it is about the service, and replicas share it.
    pub const fn is_of_a_server(self) -> bool {
        match self {
            Self::HighErrorRate
            | Self::SlowResponses
            | Self::SpoolNotDraining
            | Self::SpoolFull
            | Self::DiskFull => true,
            Self::JobFailures | Self::JobMissed | Self::RlsCheckFailed | Self::AuditChainBroken => false,
        }
    }

    /// Gives its section of docs/OPERATIONS.md.
    pub fn anchor(self) -> String {
        format!("alert-{}", self.as_str().replace('_', "-"))
    }

    /// Gives from where on it is too much.
    pub fn limits(self, config: &AlertConfig) -> Limits {
        let at_once = |threshold: f64, window: SignedDuration| Limits {
            threshold,
            clear: threshold,
            window,
            pending: SignedDuration::ZERO,
            resolve: SignedDuration::ZERO,
            min_sample: 0,
        };
        let lasting = |threshold: f64, window: SignedDuration, min_sample: u64| Limits {
            clear: 0.8 * threshold,
            pending: config.pending,
            resolve: config.resolve,
            min_sample,
            ..at_once(threshold, window)
        };
        match self {
            Self::HighErrorRate => lasting(config.error_percent, config.error_window, config.min_requests),
            Self::SlowResponses => lasting(config.p95_millis, config.p95_window, config.min_requests),
            Self::JobFailures => at_once(config.job_failures, config.job_window),
            Self::JobMissed => {
                let hours = config.job_missed_hours;
                at_once(hours, SignedDuration::from_secs_f64(3_600.0 * hours))
            }
            Self::SpoolNotDraining => Limits { resolve: config.resolve, ..at_once(0.0, config.spool_window) },
            Self::SpoolFull | Self::DiskFull => Limits {
                clear: (config.full_percent - 5.0).max(0.0),
                pending: config.pending,
                resolve: config.resolve,
                ..at_once(config.full_percent, SignedDuration::ZERO)
            },
            Self::RlsCheckFailed | Self::AuditChainBroken => at_once(0.0, config.check_every),
        }
    }

    /// Gives the interval at which it is evaluated; that of a server's own is the loop's.
    pub fn every(self, config: &AlertConfig) -> SignedDuration {
        match self {
            Self::JobFailures | Self::JobMissed => config.service_every,
            Self::RlsCheckFailed | Self::AuditChainBroken => config.check_every,
            Self::HighErrorRate
            | Self::SlowResponses
            | Self::SpoolNotDraining
            | Self::SpoolFull
            | Self::DiskFull => SignedDuration::ZERO,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| UnknownRule(text.chars().take(100).collect()))
    }
}
