//! What every route works with.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use axum::http::request::Parts as RequestParts;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use nudge_engine::{Policy, UserId};
use nudge_store::{Actor, ProfileRole, Retention, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::error::ApiError;
use super::path;
use crate::auth::{Authenticator, Caller};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::jobs::schedule::Schedule;
use crate::outbound::{Bounds, Outbound};
use crate::recorder::Recorder;
use crate::request_log::{RequestLog, Seen};
use crate::telemetry::Metrics;
use crate::telemetry::otlp::Otlp;
use crate::usecases::alerts::{Alerts, Observed};
use crate::usecases::archetype::Archetypes;
use crate::usecases::job::Jobs;
use crate::usecases::people::People;
use crate::usecases::recommend::Recommender;
use crate::usecases::refresh::Refresher;
use crate::web::dashboard;

/// The state of a running server.
pub struct App {
    /// The clock.
    pub clock: Clock,
    /// The time zone whose calendar counts.
    pub zone: jiff::tz::TimeZone,
    /// Verifies callers.
    pub auth: Authenticator,
    /// The database.
    pub store: Store,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The archetype cache.
    pub people: Arc<People>,
    /// Decides.
    pub recommender: Recommender,
    /// Works on archetypes.
    pub archetypes: Archetypes,
    /// Starts, shows and cancels runs of the recalculation job.
    pub jobs: Arc<Jobs>,
    /// Says who is to be recomputed between two of them.
    pub refresher: Arc<Refresher>,
    /// Records decisions.
    pub recorder: Arc<Recorder>,
    /// Renders metrics.
    pub metrics: Metrics,
    /// Sends to what operators configure.
    pub outbound: Outbound,
    /// Logs requests.
    pub request_log: Arc<RequestLog>,
    /// Sends traces and metrics, if anywhere.
    pub otlp: Option<Arc<Otlp>>,
    /// Evaluates, shows and silences alerts.
    pub alerts: Arc<Alerts>,
    /// The HTTP limits.
    pub limits: Limits,
    /// When the nightly run is due.
    pub job_schedule: Schedule,
    /// Points by which an archetype's share may move between two runs without a warning.
    pub job_drift_points: f64,
    /// How long a database server keeps rows that it has by month.
    pub retention: Retention,
    /// The address under which clients reach the server.
    pub url: String,
    /// The name of this server among its replicas.
    pub instance: Arc<str>,
    /// The anonymous key, which browsers may know.
    pub anon_key: String,
    /// Whether the server listens on loopback only.
    pub loopback: bool,
    /// What the pages for admins share.
    pub dashboard: dashboard::State,
    data_dir: PathBuf,
    in_flight: Arc<Semaphore>,
    bodies: Semaphore,
    bodies_by_user: Mutex<HashMap<UserId, usize>>,
    per_caller: Option<DefaultKeyedRateLimiter<String>>,
    per_address: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The place of a request in work. It is given back while the body comes, and taken again when it is there.
#[derive(Debug, Clone, Default)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Holds a permit.
    pub fn of(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Puts another permit, or none, in the place of the one that is held.
    pub fn hold(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// The place of a body that is being read.
#[derive(Debug)]
pub struct BodyPlace<'a> {
    app: &'a App,
    user: Option<UserId>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for BodyPlace<'_> {
    fn drop(&mut self) {
        let Some(user) = &self.user else { return };
        let mut by_user = self.app.lock_bodies();
        if let Some(own) = by_user.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                by_user.remove(user);
            }
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What a server is put together from.
pub struct Parts {
    /// The clock.
    pub clock: Clock,
    /// Verifies callers.
    pub auth: Authenticator,
    /// The database.
    pub store: Store,
    /// Records decisions.
    pub recorder: Arc<Recorder>,
    /// Renders metrics.
    pub metrics: Metrics,
    /// Sends traces and metrics, if anywhere.
    pub otlp: Option<Arc<Otlp>>,
    /// Logs requests.
    pub request_log: Arc<RequestLog>,
    /// The anonymous key.
    pub anon_key: String,
    /// The JWT secret, from which the key of sessions is derived.
    pub secret: String,
}

impl App {
    /// Puts a server together.
    pub fn new(config: &Config, parts: Parts) -> Self {
        let policy = Arc::new(config.policy.clone());
        let store = parts.store;
        let outbound = Outbound::new(config.outbound.clone(), Bounds::default(), parts.clock.clone());
        let people =
            Arc::new(People::new(store.clone(), Arc::clone(&policy), config.cache_ttl, config.cache_people));
        Self {
            recommender: Recommender {
                store: store.clone(),
                people: Arc::clone(&people),
                policy: Arc::clone(&policy),
            },
            archetypes: Archetypes {
                store: store.clone(),
                people: Arc::clone(&people),
                policy: Arc::clone(&policy),
            },
            request_log: parts.request_log,
            jobs: Jobs::new(store.clone(), parts.clock.clone(), config.holder()),
            refresher: Arc::new(Refresher::new(config.refresh_after)),
            alerts: Arc::new(Alerts::new(config, store.clone(), outbound.clone())),
            outbound,
            clock: parts.clock,
            zone: config.zone.clone(),
            auth: parts.auth,
            store,
            policy,
            people,
            recorder: parts.recorder,
            metrics: parts.metrics,
            otlp: parts.otlp,
            job_schedule: config.job_schedule.clone(),
            job_drift_points: config.job_drift_points,
            retention: config.retention,
            url: config.url(),
            instance: config.instance().into(),
            anon_key: parts.anon_key,
            loopback: config.bind.is_loopback(),
            dashboard: dashboard::State::new(config, &parts.secret),
            data_dir: config.data_dir.clone(),
            in_flight: Arc::new(Semaphore::new(config.limits.in_flight)),
            bodies: Semaphore::new(config.limits.in_flight),
            bodies_by_user: Mutex::new(HashMap::new()),
            per_caller: config.limits.rate_per_caller.and_then(limiter),
            per_address: config.limits.rate_per_address.and_then(limiter),
            limits: config.limits.clone(),
        }
    }

    /// Gives a place to a request, or says that there is none. Health and metrics are answered by a full server too.
    pub fn admit(&self, route: &str) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if matches!(route, path::LIVE | path::READY | path::METRICS) {
            return Ok(None);
        }
        Arc::clone(&self.in_flight).try_acquire_owned().map(Some).map_err(|_| ApiError::Full)
    }

    /// Gives the number of requests in work, those whose bodies are still coming included.
    pub fn in_flight(&self) -> usize {
        2 * self.limits.in_flight - self.in_flight.available_permits() - self.bodies.available_permits()
    }

    /// Gives a place to a body that is about to be read. Bodies have places of their own, so that slow ones take nothing
    /// from requests without a body; and one user has an eighth of them at most, so that the others have some left.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn admit_body(&self, caller: &Caller) -> Result<BodyPlace<'_>, ApiError> {
        let permit = self.bodies.try_acquire().map_err(|_| ApiError::Full)?;
        let Caller::User(user) = caller else {
            return Ok(BodyPlace { app: self, user: None, _permit: permit });
        };
        let mut by_user = self.lock_bodies();
        let own = by_user.entry(user.clone()).or_insert(0);
        if *own >= (self.limits.in_flight / 8).max(4) {
            return Err(ApiError::Full);
        }
        *own += 1;
        drop(by_user);
        Ok(BodyPlace { app: self, user: Some(user.clone()), _permit: permit })
    }

    fn lock_bodies(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.bodies_by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves the caller of a request and counts it against the rates.
    ///
    /// # Errors
    /// 401 without a caller, 429 beyond a rate.
    pub async fn caller(&self, request: &RequestParts) -> Result<Caller, ApiError> {
        let address = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
        if let (Some(rates), Some(address)) = (&self.per_address, address) {
            within(rates, &address)?;
        }
        let caller = self.auth.caller(&request.headers, self.clock.now()).await?;
        if let (Caller::User(user), Some(seen)) = (&caller, request.extensions.get::<Seen>()) {
            seen.set(user);
        }
        if let Some(rates) = &self.per_caller {
            let key = match &caller {
                // The anonymous key is shared by everybody: one address is one caller.
                Caller::Anonymous => {
                    format!("anonymous@{}", address.map_or_else(String::new, |a| a.to_string()))
                }
                Caller::User(id) => format!("user:{id}"),
                Caller::Service => "service".to_owned(),
            };
            within(rates, &key)?;
        }
        Ok(caller)
    }

    /// Says what the alerts of this server are made from.
    pub fn observed(&self) -> Observed {
        let recorder = self.recorder.stats();
        Observed {
            totals: self.alerts.figures.totals(),
            spool_depth: recorder.spool_depth as u64,
            spool_used: self.recorder.spool_used(),
            disk_used: disk_used(&self.data_dir),
        }
    }

    /// Forgets the rates of callers that have been away.
    pub fn tidy_rates(&self) {
        if let Some(rates) = &self.per_caller {
            rates.retain_recent();
        }
        if let Some(rates) = &self.per_address {
            rates.retain_recent();
        }
        self.dashboard.tidy();
    }

    /// Gives who acts, if the caller may act as an admin *now*.
    ///
    /// # Errors
    /// 401 for anonymous callers, 403 for users whose profile does not say admin.
    pub async fn admin(&self, caller: &Caller, request: &Origin) -> Result<Actor, ApiError> {
        let (id, role) = match caller {
            Caller::Anonymous => return Err(ApiError::SignInRequired),
            Caller::Service => ("service_role".to_owned(), "service_role"),
            Caller::User(me) => match self.store.profile(me).await?.role {
                ProfileRole::Admin => (me.to_string(), "admin"),
                ProfileRole::Member => {
                    return Err(ApiError::RoleRequired { needed: "an admin or the service key" });
                }
            },
        };
        Ok(Actor {
            id,
            role: role.to_owned(),
            ip_address: request.address.clone(),
            user_agent: request.user_agent.clone(),
        })
    }

    /// Checks that a caller may see a user's data.
    ///
    /// # Errors
    /// 401 for anonymous callers, 403 for another user's id, whether or not that user exists.
    pub async fn may_see(&self, caller: &Caller, user: &UserId) -> Result<(), ApiError> {
        match caller {
            Caller::Anonymous => Err(ApiError::SignInRequired),
            Caller::Service => Ok(()),
            Caller::User(me) if me == user => Ok(()),
            Caller::User(me) => match self.store.profile(me).await?.role {
                ProfileRole::Admin => Ok(()),
                ProfileRole::Member => Err(ApiError::NotYourself),
            },
        }
    }
}

/// Where a request came from, for the record.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The address.
    pub address: Option<String>,
    /// The user agent, at most 256 characters of it.
    pub user_agent: Option<String>,
}

impl Origin {
    /// Reads it from a request.
    pub fn of(request: &RequestParts) -> Self {
        let address = request.extensions.get::<Peer>().map(|peer| peer.0.ip().to_string());
        Self { address, user_agent: user_agent(&request.headers) }
    }
}

/// Reads the user agent, at most 256 characters of it.
pub fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(axum::http::header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(256).collect())
}

/// Gives the share of a folder's disk that is taken, as those see it who are not root.
fn disk_used(folder: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let taken = disk.f_blocks.saturating_sub(disk.f_bfree) as f64;
    let all = taken + disk.f_bavail as f64;
    (all > 0.0).then(|| taken / all)
}

/// Makes a limiter that allows a number of requests a second, and that many at once.
fn limiter<K: Clone + std::hash::Hash + Eq>(per_second: u32) -> Option<DefaultKeyedRateLimiter<K>> {
    NonZeroU32::new(per_second).map(|n| RateLimiter::keyed(Quota::per_second(n)))
}

fn within<K: Clone + std::hash::Hash + Eq>(
    rates: &DefaultKeyedRateLimiter<K>,
    key: &K,
) -> Result<(), ApiError> {
    rates.check_key(key).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        ApiError::TooMany { retry_after_secs: wait.as_secs() + 1 }
    })
}
