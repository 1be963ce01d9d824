//! The table of settings, and where each value came from.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{ConfigError, KeyMap};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name of the environment variable; in lower case the name in `nudge.toml`.
    pub name: &'static str,
    /// The default, as text; `None` when there is none.
    pub default: Option<&'static str>,
    /// What it means, one line.
    pub help: &'static str,
    /// Whether the value must not be shown. Such a setting has no flag: a command line is readable by others.
    pub secret: bool,
    /// Whether the value is a connection string, which is shown without its password.
    pub connection: bool,
}

impl Setting {
    /// Gives the long flag: `NUDGE_DATA_DIR` is `--data-dir`, `LOG_LEVEL` is `--log-level`.
    pub fn flag(&self) -> Option<String> {
        let name = self.name.strip_prefix("NUDGE_").unwrap_or(self.name);
        (!self.secret).then(|| name.to_ascii_lowercase().replace('_', "-"))
    }
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { name, default, help, secret: false, connection: false }
}

const fn secret(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, help, secret: true, connection: false }
}

const fn connection(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, help, secret: false, connection: true }
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    setting(
        "NUDGE_DATA_DIR",
        Some("./nudge-data"),
        "Folder for the database, the local secret and the spool",
    ),
    setting("NUDGE_BIND", Some("127.0.0.1"), "Address to listen on"),
    setting("NUDGE_PORT", Some("54321"), "Port to listen on; 0 takes a free one"),
    connection(
        "DATABASE_URL",
        "Database, sqlite:///path/to/file or postgres://user:password@host/database; default: nudge.db in the data folder",
    ),
    connection(
        "NUDGE_DATABASE_DIRECT_URL",
        "PostgreSQL past a transaction pooler, for migrations; default: DATABASE_URL",
    ),
    setting(
        "NUDGE_ALLOW_SUPERUSER",
        Some("0"),
        "1: serve clients of other machines also as a superuser of PostgreSQL, whom nothing is forbidden",
    ),
    setting(
        "CACHE_TTL_HOURS",
        Some("24"),
        "Hours for which a stored archetype is used before it is computed again",
    ),
    setting(
        "LOG_LEVEL",
        Some("info"),
        "error, warn, info, debug, trace, or a filter such as nudge=debug,info",
    ),
    setting("NUDGE_LOG_FORMAT", Some("text"), "text or json"),
    setting("NUDGE_TIMEZONE", Some("UTC"), "Time zone whose calendar days count (IANA name)"),
    setting("NUDGE_POLICY_FILE", None, "TOML file with the policy's numbers; default: rules-v1"),
    setting(
        "SUPABASE_URL",
        None,
        "Address under which clients reach this server; default: the address it listens on",
    ),
    secret("SUPABASE_ANON_KEY", "Anonymous key; default: made from the secret"),
    secret("SUPABASE_SERVICE_ROLE_KEY", "Service key; default: made from the secret"),
    secret(
        "SUPABASE_JWT_SECRET",
        "HS256 secret, at least 32 bytes; default: made on first start, kept in the data folder",
    ),
    setting(
        "SUPABASE_JWKS_URL",
        None,
        "URL of a JSON Web Key Set for ES256 and RS256 (https, or http on loopback)",
    ),
    setting("SUPABASE_JWKS", None, "The JSON Web Key Set itself"),
    secret("SUPABASE_PUBLISHABLE_KEYS", "JSON object name → publishable key (sb_publishable_…)"),
    secret("SUPABASE_SECRET_KEYS", "JSON object name → secret key (sb_secret_…)"),
    setting("NUDGE_MAX_CONNECTIONS", Some("10000"), "Open connections; more wait to be accepted"),
    setting("NUDGE_MAX_IN_FLIGHT", Some("1024"), "Requests in work; the next one is answered 503"),
    setting("NUDGE_HEADER_TIMEOUT_MS", Some("10000"), "Milliseconds in which a request's head must arrive"),
    setting("NUDGE_BODY_TIMEOUT_MS", Some("10000"), "Milliseconds in which a request's body must arrive"),
    setting("NUDGE_RATE_PER_CALLER", Some("0"), "Requests a second for each caller, 429 beyond; 0: no limit"),
    setting(
        "NUDGE_RATE_PER_ADDRESS",
        Some("0"),
        "Requests a second for each address, 429 beyond; 0: no limit",
    ),
    setting("NUDGE_SHUTDOWN_MS", Some("10000"), "Milliseconds that a shutdown waits for requests in work"),
    setting(
        "NUDGE_COMMIT_TIMEOUT_MS",
        Some("250"),
        "Milliseconds after which a commit not come back goes to the spool",
    ),
    setting("NUDGE_SPOOL_MIB", Some("64"), "Size of the spool file, taken from the disk at the first start"),
    setting(
        "NUDGE_KEEP_DECISIONS_MONTHS",
        Some("24"),
        "Months for which PostgreSQL keeps decisions, dropped by the month; 0: for ever",
    ),
    setting(
        "NUDGE_KEEP_EVENTS_MONTHS",
        Some("24"),
        "Months for which PostgreSQL keeps what came of decisions; 0: for ever",
    ),
    setting(
        "NUDGE_KEEP_REQUESTS_DAYS",
        Some("30"),
        "Days for which the log of requests is kept, on PostgreSQL dropped by the month; 0: for ever",
    ),
    setting(
        "NUDGE_REQUEST_LOG",
        Some("1"),
        "1: a row of edge_function_logs a request, and log drains; 0: neither",
    ),
    setting(
        "NUDGE_REQUEST_LOG_USERS",
        Some("hashed"),
        "What the log of requests keeps of users: hashed, plain or none",
    ),
    secret(
        "NUDGE_REQUEST_LOG_KEY",
        "Key of those hashes; default: made from SUPABASE_JWT_SECRET, whose change then changes them",
    ),
    setting(
        "NUDGE_OUTBOUND_ALLOW_PRIVATE",
        Some("0"),
        "Where log drains and webhooks may go besides public addresses: 0 nowhere, 1 anywhere, or networks (10.0.0.0/8,fd00::/8)",
    ),
    setting(
        "NUDGE_JOB_SCHEDULE",
        Some("0 2 * * *"),
        "When every archetype is recomputed: five fields of cron in NUDGE_TIMEZONE, or off",
    ),
    setting(
        "NUDGE_JOB_DRIFT_POINTS",
        Some("5"),
        "Percentage points by which an archetype's share may move between two runs without a warning",
    ),
    setting(
        "NUDGE_REFRESH_AFTER_REQUESTS",
        Some("10"),
        "New requests of a user after which their archetype is recomputed at once; 0: only at night",
    ),
    setting("NUDGE_CACHE_PEOPLE", Some("100000"), "People whose archetype is kept in memory"),
    setting("NUDGE_INSTANCE", None, "Name of this server among its replicas; default: host name and port"),
    setting(
        "NUDGE_ALERT_INTERVAL_MS",
        Some("5000"),
        "Milliseconds between two evaluations of the alerts; 0: none are evaluated",
    ),
    setting("NUDGE_ALERT_ERROR_PERCENT", Some("5"), "Percent of the functions' answers that may be 5xx"),
    setting("NUDGE_ALERT_ERROR_WINDOW_SECS", Some("300"), "Seconds over which they are counted"),
    setting("NUDGE_ALERT_P95_MS", Some("500"), "Milliseconds within which 95 of 100 answers must come"),
    setting("NUDGE_ALERT_P95_WINDOW_SECS", Some("600"), "Seconds over which they are counted"),
    setting("NUDGE_ALERT_MIN_REQUESTS", Some("20"), "Requests below which neither is judged"),
    setting("NUDGE_ALERT_JOB_FAILURES", Some("0"), "Runs of the job that may fail"),
    setting("NUDGE_ALERT_JOB_WINDOW_SECS", Some("86400"), "Seconds over which they are counted"),
    setting(
        "NUDGE_ALERT_JOB_MISSED_HOURS",
        Some("26"),
        "Hours within which the job must have completed; 0: it need not",
    ),
    setting("NUDGE_ALERT_SPOOL_WINDOW_SECS", Some("300"), "Seconds that decisions may wait in the spool"),
    setting(
        "NUDGE_ALERT_FULL_PERCENT",
        Some("90"),
        "Percent of the spool, and of its disk, that may be taken",
    ),
    setting(
        "NUDGE_ALERT_CHECK_SECS",
        Some("3600"),
        "Seconds between two checks of the database's rights and of the audit log",
    ),
    setting("NUDGE_ALERT_PENDING_SECS", Some("15"), "Seconds for which a figure must be too much"),
    setting("NUDGE_ALERT_RESOLVE_SECS", Some("60"), "Seconds for which it must be well again"),
    setting(
        "NUDGE_ALERT_REPEAT_SECS",
        Some("14400"),
        "Seconds after which it is said again that an alert fires",
    ),
    setting(
        "NUDGE_ALERT_RUNBOOK_URL",
        Some("docs/OPERATIONS.md"),
        "Where the runbook is; notices link to its sections",
    ),
    secret("NUDGE_ALERT_WEBHOOK_URL", "Webhook that gets alerts as JSON"),
    secret("NUDGE_ALERT_WEBHOOK_SECRET", "What that is signed with (standardwebhooks.com), 16 bytes or more"),
    secret("NUDGE_ALERT_SLACK_URL", "Webhook of Slack, or compatible, that gets alerts as messages"),
    setting(
        "NUDGE_ALERT_ALERTMANAGER_URL",
        None,
        "Address of an Alertmanager, such as http://127.0.0.1:9093",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "Address of an OpenTelemetry collector, such as http://127.0.0.1:4318; default: nothing is sent",
    ),
    setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None, "Another URL for traces"),
    setting("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", None, "Another URL for metrics"),
    secret(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers for the collector: name=value, with commas between several",
    ),
    setting("OTEL_EXPORTER_OTLP_PROTOCOL", Some("http/protobuf"), "http/protobuf, the only one"),
    setting("OTEL_EXPORTER_OTLP_TIMEOUT", Some("10000"), "Milliseconds in which the collector must answer"),
    setting("OTEL_SERVICE_NAME", Some("nudge"), "Name under which the collector shows the service"),
    setting(
        "OTEL_TRACES_SAMPLER",
        Some("parentbased_always_on"),
        "Which requests are traced: always_on, always_off, traceidratio, or these with parentbased_ before",
    ),
    setting("OTEL_TRACES_SAMPLER_ARG", Some("1"), "Share of requests that traceidratio traces"),
    setting("OTEL_METRIC_EXPORT_INTERVAL", Some("60000"), "Milliseconds between two exports of metrics"),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The settings file.
    File(PathBuf),
    /// Nobody said anything else.
    Default,
}

impl Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The values of all settings, as text, each with its source.
#[derive(Clone)]
pub struct Values(BTreeMap<&'static str, (String, Source)>);

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values(…)")
    }
}

impl Values {
    /// Gathers the values. An empty environment variable counts as absent.
    ///
    /// `file` is read if given, else `nudge.toml` of the working directory if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or holds something that is no setting.
    pub fn gather(
        flags: &BTreeMap<&'static str, String>,
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let file_values = read_file(file)?;
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let given = flags
                .get(setting.name)
                .map(|v| (v.clone(), Source::Flag))
                .or_else(|| {
                    environment(setting.name).filter(|v| !v.is_empty()).map(|v| (v, Source::Environment))
                })
                .or_else(|| file_values.get(setting.name).cloned())
                .or_else(|| setting.default.map(|v| (v.to_owned(), Source::Default)));
            if let Some(given) = given {
                values.insert(setting.name, given);
            }
        }
        Ok(Self(values))
    }

    /// Sets a value, as a flag would.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, (value.into(), Source::Flag));
    }

    /// Gives a value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// Gives where a value came from.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.0.get(name).map(|(_, source)| source)
    }

    /// Makes the error for a value that does not fit.
    pub(crate) fn bad(&self, name: &'static str, problem: impl Display) -> ConfigError {
        let origin = self.source(name).map_or_else(|| "default".to_owned(), ToString::to_string);
        ConfigError::Value { name, origin, problem: problem.to_string() }
    }

    pub(crate) fn parse<T: FromStr>(&self, name: &'static str, wanted: &str) -> Result<T, ConfigError> {
        let text = self.text(name).unwrap_or_default();
        text.trim().parse().map_err(|_| self.bad(name, format!("must be {wanted}, not `{text}`")))
    }

    pub(crate) fn number<T>(&self, name: &'static str, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let number: T = self.parse(name, &wanted)?;
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(self.bad(name, format!("must be {wanted}, not {number}")))
        }
    }

    /// Reads a JSON object name → key; every key must have its prefix, by which headers are told apart, and be long enough
    /// not to be guessed.
    pub(super) fn key_map(&self, name: &'static str, prefix: &str) -> Result<KeyMap, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(KeyMap::new()) };
        let map: KeyMap = serde_json::from_str(text).map_err(|_| {
            self.bad(name, "must be a JSON object of names and keys, such as {\"default\":\"sb_…\"}")
        })?;
        match map.iter().find(|(_, key)| key.len() < 20 || !key.starts_with(prefix)) {
            Some((key_name, _)) => {
                let wanted =
                    format!("the key `{key_name}` must begin with {prefix} and have 20 characters or more");
                Err(self.bad(name, wanted))
            }
            None => Ok(map),
        }
    }
}

/// Says what is wrong with a file and where, without quoting its lines: they may hold secrets.
pub(super) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

type FileValues = BTreeMap<&'static str, (String, Source)>;

fn read_file(file: Option<&Path>) -> Result<FileValues, ConfigError> {
    let (path, required) = match file {
        Some(path) => (path.to_owned(), true),
        None => (PathBuf::from("nudge.toml"), false),
    };
    let fail = |detail: String| ConfigError::File { path: path.clone(), detail };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            return Ok(FileValues::new());
        }
        Err(error) => return Err(fail(error.to_string())),
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| fail(toml_problem(&text, &error)))?;
    let mut values = FileValues::new();
    for (name, value) in table {
        let setting = SETTINGS
            .iter()
            .find(|s| s.name.eq_ignore_ascii_case(&name) && name.chars().all(|c| !c.is_ascii_uppercase()))
            .ok_or_else(|| ConfigError::UnknownName { path: path.clone(), name: name.clone() })?;
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(n) => n.to_string(),
            toml::Value::Float(n) => n.to_string(),
            toml::Value::Table(table) => {
                serde_json::to_string(&table).map_err(|error| fail(error.to_string()))?
            }
            other => return Err(fail(format!("`{name}` cannot be a {}", other.type_str()))),
        };
        values.insert(setting.name, (text, Source::File(path.clone())));
    }
    Ok(values)
}
