//! Settings: flags beat environment beats `nudge.toml` beats the default. One table says what there is; the
//! command-line flags, `nudge config` and docs/CONFIGURATION.md are made from it.

pub mod database;
pub mod setting;
pub mod telemetry;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use nudge_engine::Policy;
use nudge_store::Retention;

pub use database::Database;
use database::without_password;
pub use setting::{SETTINGS, Setting, Source, Values};

use crate::alert::config::AlertConfig;
use crate::auth::jwks::{Jwks, JwksError};
use crate::auth::keys::{self, ApiKeys, MIN_SECRET_BYTES, SecretError};
use crate::auth::{Authenticator, Caller};
use crate::jobs::schedule::{BadSchedule, Schedule};
use crate::outbound::address::{Addresses, BadNetworks};
use crate::request_log::user::{Shown, Users};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value does not fit.
    #[error("{name} (from {origin}): {problem}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The file holds a name that is no setting.
    #[error("{}: `{name}` is not a setting; `nudge config` lists them all", path.display())]
    UnknownName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The local secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The key set.
    #[error("SUPABASE_JWKS or SUPABASE_JWKS_URL: {0}")]
    Jwks(#[from] JwksError),
    /// Signing the local keys failed.
    #[error("cannot sign the local keys: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Limits of the HTTP server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Requests in work; the next one is 503.
    pub in_flight: usize,
    /// Time to send the request's head.
    pub header_timeout: Duration,
    /// Time to send the body.
    pub body_timeout: Duration,
    /// Requests a second for each caller; `None` for no limit.
    pub rate_per_caller: Option<u32>,
    /// Requests a second for each address; `None` for no limit.
    pub rate_per_address: Option<u32>,
    /// Time that a shutdown waits for requests in work.
    pub shutdown: Duration,
}

/// The settings, parsed.
#[derive(Clone)]
pub struct Config {
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// Where the rows are kept.
    pub database: Database,
    /// Whether a role to which nothing is forbidden will do, also for clients of other machines.
    pub allow_superuser: bool,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on.
    pub port: u16,
    /// How long a stored archetype is used.
    pub cache_ttl: Duration,
    /// Log filter.
    pub log_level: String,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// The zone whose calendar counts.
    pub zone: TimeZone,
    /// The decision policy.
    pub policy: Policy,
    /// The HTTP server's limits.
    pub limits: Limits,
    /// How long a decision waits for its commit before it goes to the spool.
    pub commit_timeout: Duration,
    /// Size of the spool.
    pub spool_bytes: u64,
    /// How long a server keeps rows that it has by month.
    pub retention: Retention,
    /// Known people in memory.
    pub cache_people: u64,
    /// What may be sent to besides public addresses.
    pub outbound: Addresses,
    /// Whether requests are logged in the database.
    pub request_log: bool,
    /// What that log keeps of users.
    pub request_log_users: Shown,
    /// The name of this server among its replicas, if it has been given one.
    pub instance: Option<String>,
    /// What is alerted of, and how.
    pub alerts: AlertConfig,
    /// Where traces and metrics are sent, if anywhere.
    pub otlp: Option<telemetry::OtlpConfig>,
    /// When the nightly run is due.
    pub job_schedule: Schedule,
    /// Points by which the share of an archetype may move from one run to the next without a warning.
    pub job_drift_points: f64,
    /// New requests of a user after which their archetype is recomputed in the background; 0: never.
    pub refresh_after: u32,
    publishable_keys: KeyMap,
    secret_keys: KeyMap,
    /// All values with their sources.
    pub values: Values,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Config {
    /// Parses the settings.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the first setting that does not fit.
    pub fn from_values(values: Values) -> Result<Self, ConfigError> {
        let data_dir = PathBuf::from(values.text("NUDGE_DATA_DIR").unwrap_or_default());
        let database = Database::parse(&values, &data_dir)?;
        let policy = policy(&values)?;
        let rate = |name| values.number::<u32>(name, 0..=1_000_000).map(|rate| (rate > 0).then_some(rate));
        let millis = |name, range| values.number::<u64>(name, range).map(Duration::from_millis);
        let limits = Limits {
            connections: values.number("NUDGE_MAX_CONNECTIONS", 1..=1_000_000)?,
            in_flight: values.number("NUDGE_MAX_IN_FLIGHT", 1..=1_000_000)?,
            header_timeout: millis("NUDGE_HEADER_TIMEOUT_MS", 10..=600_000)?,
            body_timeout: millis("NUDGE_BODY_TIMEOUT_MS", 10..=600_000)?,
            rate_per_caller: rate("NUDGE_RATE_PER_CALLER")?,
            rate_per_address: rate("NUDGE_RATE_PER_ADDRESS")?,
            shutdown: millis("NUDGE_SHUTDOWN_MS", 0..=600_000)?,
        };
        Ok(Self {
            database,
            data_dir,
            allow_superuser: values.number::<u8>("NUDGE_ALLOW_SUPERUSER", 0..=1)? == 1,
            bind: values.parse("NUDGE_BIND", "an IP address, such as 127.0.0.1 or 0.0.0.0")?,
            port: values.number("NUDGE_PORT", 0..=65_535)?,
            cache_ttl: Duration::from_secs_f64(3_600.0 * cache_hours(&values)?),
            log_level: values.text("LOG_LEVEL").unwrap_or_default().to_owned(),
            log_json: match values.text("NUDGE_LOG_FORMAT") {
                Some("json") => true,
                Some("text") => false,
                _ => return Err(values.bad("NUDGE_LOG_FORMAT", "must be `text` or `json`")),
            },
            zone: TimeZone::get(values.text("NUDGE_TIMEZONE").unwrap_or("UTC")).map_err(|_| {
                values.bad("NUDGE_TIMEZONE", "must be an IANA time zone, such as UTC or Europe/Berlin")
            })?,
            policy,
            limits,
            commit_timeout: millis("NUDGE_COMMIT_TIMEOUT_MS", 1..=60_000)?,
            spool_bytes: values.number::<u64>("NUDGE_SPOOL_MIB", 1..=65_536)? * 1024 * 1024,
            retention: Retention {
                decisions_months: values.number("NUDGE_KEEP_DECISIONS_MONTHS", 0..=12_000)?,
                events_months: values.number("NUDGE_KEEP_EVENTS_MONTHS", 0..=12_000)?,
                requests_days: values.number("NUDGE_KEEP_REQUESTS_DAYS", 0..=365_000)?,
            },
            cache_people: values.number("NUDGE_CACHE_PEOPLE", 1..=100_000_000)?,
            request_log: values.number::<u8>("NUDGE_REQUEST_LOG", 0..=1)? == 1,
            request_log_users: values
                .text("NUDGE_REQUEST_LOG_USERS")
                .unwrap_or_default()
                .parse()
                .map_err(|problem: &str| values.bad("NUDGE_REQUEST_LOG_USERS", problem))?,
            outbound: values
                .text("NUDGE_OUTBOUND_ALLOW_PRIVATE")
                .unwrap_or_default()
                .parse()
                .map_err(|error: BadNetworks| values.bad("NUDGE_OUTBOUND_ALLOW_PRIVATE", error))?,
            instance: instance(&values)?,
            alerts: AlertConfig::parse(&values)?,
            otlp: telemetry::OtlpConfig::parse(&values)?,
            job_schedule: values
                .text("NUDGE_JOB_SCHEDULE")
                .unwrap_or("off")
                .parse()
                .map_err(|error: BadSchedule| values.bad("NUDGE_JOB_SCHEDULE", error))?,
            job_drift_points: drift_points(&values)?,
            refresh_after: values.number("NUDGE_REFRESH_AFTER_REQUESTS", 0..=1_000_000)?,
            publishable_keys: values.key_map("SUPABASE_PUBLISHABLE_KEYS", "sb_publishable_")?,
            secret_keys: values.key_map("SUPABASE_SECRET_KEYS", "sb_secret_")?,
            values,
        })
    }

    /// Gives the name of this server among its replicas: the one that it has been given, or host name and port.
    pub fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{host}:{}", self.port)
        })
    }

    /// Makes what the log of requests keeps of users.
    pub fn users_of_log(&self, keys: &Keys) -> Users {
        Users::new(self.request_log_users, self.values.text("NUDGE_REQUEST_LOG_KEY"), &keys.secret)
    }

    /// Names this process among those that share the database.
    pub fn holder(&self) -> String {
        format!("{} pid {}", self.instance(), std::process::id())
    }

    /// Lists every setting as it may be shown: of a secret only whether it is set, of a connection all but the password.
    pub fn shown(&self) -> Vec<ShownSetting> {
        let shown = |setting: &Setting| {
            let value = self.values.text(setting.name)?;
            Some(match setting {
                Setting { secret: true, .. } => "(set)".to_owned(),
                Setting { connection: true, .. } => without_password(value),
                _ => value.to_owned(),
            })
        };
        let source = |name| self.values.source(name).map_or_else(|| "not set".to_owned(), Source::to_string);
        SETTINGS
            .iter()
            .map(|setting| ShownSetting {
                name: setting.name,
                value: shown(setting),
                source: source(setting.name),
                help: setting.help,
            })
            .collect()
    }

    /// Gives the address under which clients reach this server.
    pub fn url(&self) -> String {
        if let Some(url) = self.values.text("SUPABASE_URL") {
            return url.trim_end_matches('/').to_owned();
        }
        let host = if self.bind.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { self.bind };
        match host {
            IpAddr::V4(v4) => format!("http://{v4}:{}", self.port),
            IpAddr::V6(v6) => format!("http://[{v6}]:{}", self.port),
        }
    }
}

fn drift_points(values: &Values) -> Result<f64, ConfigError> {
    let points = values.parse::<f64>("NUDGE_JOB_DRIFT_POINTS", "a number of percentage points")?;
    match (0.0..=100.0).contains(&points) {
        true => Ok(points),
        false => Err(values.bad("NUDGE_JOB_DRIFT_POINTS", "must be 0 to 100")),
    }
}

fn instance(values: &Values) -> Result<Option<String>, ConfigError> {
    let Some(name) = values.text("NUDGE_INSTANCE") else { return Ok(None) };
    let fits = name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(values.bad("NUDGE_INSTANCE", "must be at most 128 visible ASCII characters"));
    }
    Ok(Some(name.to_owned()))
}

/// A setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// The name.
    pub name: &'static str,
    /// The value, without what must not be seen; `None` when there is none.
    pub value: Option<String>,
    /// Where it came from.
    pub source: String,
    /// What it means.
    pub help: &'static str,
}

fn cache_hours(values: &Values) -> Result<f64, ConfigError> {
    values.parse::<f64>("CACHE_TTL_HOURS", "a number of hours").and_then(|h| {
        if (0.0..=8_760.0).contains(&h) {
            Ok(h)
        } else {
            Err(values.bad("CACHE_TTL_HOURS", "must be 0 to 8760"))
        }
    })
}

fn policy(values: &Values) -> Result<Policy, ConfigError> {
    let Some(path) = values.text("NUDGE_POLICY_FILE") else { return Ok(Policy::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: path.into(), detail: error.to_string() })?;
    let policy: Policy = toml::from_str(&text).map_err(|error| ConfigError::File {
        path: path.into(),
        detail: setting::toml_problem(&text, &error),
    })?;
    policy.validate().map_err(|error| values.bad("NUDGE_POLICY_FILE", error))?;
    Ok(policy)
}

/// The project's keys, configured or made.
pub struct Keys {
    /// HS256 secret.
    pub secret: String,
    /// The anonymous key, as clients send it.
    pub anon: String,
    /// The service key.
    pub service_role: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Takes the configured secret, or the local one (made on the first run), and the two keys for it.
    ///
    /// # Errors
    /// [`ConfigError`] when the secret is too short or the local one cannot be had.
    pub fn load(config: &Config) -> Result<Self, ConfigError> {
        let values = &config.values;
        let secret = match values.text("SUPABASE_JWT_SECRET") {
            Some(secret) if secret.len() < MIN_SECRET_BYTES => {
                return Err(values.bad(
                    "SUPABASE_JWT_SECRET",
                    format!("must have at least {MIN_SECRET_BYTES} bytes; it has {}", secret.len()),
                ));
            }
            Some(secret) => secret.to_owned(),
            None => keys::local_secret(&config.data_dir)?,
        };
        let key = |name, role| match values.text(name) {
            Some(key) => Ok(key.to_owned()),
            None => keys::legacy_key(secret.as_bytes(), role),
        };
        let (anon, service_role) =
            (key("SUPABASE_ANON_KEY", "anon")?, key("SUPABASE_SERVICE_ROLE_KEY", "service_role")?);
        Ok(Self { secret, anon, service_role })
    }

    /// Makes the authenticator, and checks that the configured keys are ones it accepts.
    ///
    /// # Errors
    /// [`ConfigError`] when a key or the key set cannot be used.
    pub async fn authenticator(
        &self,
        config: &Config,
        now: jiff::Timestamp,
    ) -> Result<Authenticator, ConfigError> {
        let values = &config.values;
        let mut publishable = config.publishable_keys.clone();
        let mut secret = config.secret_keys.clone();
        if self.anon.starts_with("sb_publishable_") {
            publishable.insert("SUPABASE_ANON_KEY".into(), self.anon.clone());
        }
        if self.service_role.starts_with("sb_secret_") {
            secret.insert("SUPABASE_SERVICE_ROLE_KEY".into(), self.service_role.clone());
        }
        let jwks = Jwks::new(values.text("SUPABASE_JWKS"), values.text("SUPABASE_JWKS_URL"))?;
        let authenticator =
            Authenticator::new(self.secret.as_bytes(), ApiKeys::new(publishable, secret), jwks);
        for (name, key, caller) in [
            ("SUPABASE_ANON_KEY", &self.anon, Caller::Anonymous),
            ("SUPABASE_SERVICE_ROLE_KEY", &self.service_role, Caller::Service),
        ] {
            let mut headers = axum::http::HeaderMap::new();
            let Ok(value) = key.parse() else { return Err(values.bad(name, "is not plain text")) };
            headers.insert("apikey", value);
            match authenticator.caller(&headers, now).await {
                Ok(found) if found == caller => {}
                Ok(_) => return Err(values.bad(name, "is a key for another role")),
                Err(error) => {
                    let hint = "set SUPABASE_JWT_SECRET to the secret it was signed with";
                    return Err(values.bad(name, format!("is not accepted: {error} ({hint})")));
                }
            }
        }
        Ok(authenticator)
    }
}

/// A JSON object name → key.
pub(crate) type KeyMap = BTreeMap<String, String>;
