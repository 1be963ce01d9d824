//! What the pages share: sessions, limits, the settings as they may be shown.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use moka::future::Cache;
use nudge_store::{ConfidenceStep, Store, StoreError};
use tokio::sync::{Semaphore, watch};

use crate::auth::session::Sessions;
use crate::config::{Config, ShownSetting};

/// Attempts to sign in from one address at once; one more comes back every [`SIGN_IN_PAUSE`].
const SIGN_INS_OF_ADDRESS: u32 = 10;
/// Attempts to sign in from everywhere at once.
const SIGN_INS_OF_ALL: u32 = 60;
const SIGN_IN_PAUSE: Duration = Duration::from_secs(6);
const SIGN_IN_PAUSE_OF_ALL: Duration = Duration::from_secs(1);
/// Pages that may be kept up to date at once.
const LIVE_PAGES: usize = 64;
/// Age at which the confidences, which take a read of a whole table, are counted anew.
const CONFIDENCES_TTL: Duration = Duration::from_secs(60);

/// The state of the dashboard.
#[derive(Debug)]
pub struct State {
    /// Signs and verifies sessions.
    pub sessions: Sessions,
    /// Every setting as it may be shown.
    pub settings: Vec<ShownSetting>,
    /// Whether clients reach the server by https, so that cookies are for https only.
    pub secure: bool,
    /// Places of pages that are kept up to date.
    pub live: Arc<Semaphore>,
    /// Becomes true when the server stops, so that pages which are kept up to date end.
    pub stopping: watch::Sender<bool>,
    confidences: Cache<(), Arc<Vec<ConfidenceStep>>>,
    sign_ins: DefaultKeyedRateLimiter<IpAddr>,
    all_sign_ins: DefaultDirectRateLimiter,
}

fn quota(burst: u32, pause: Duration) -> Quota {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(pause).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN)).allow_burst(burst)
}

impl State {
    /// Makes the state from the settings and the JWT secret.
    pub fn new(config: &Config, secret: &str) -> Self {
        Self {
            sessions: Sessions::new(secret.as_bytes()),
            settings: config.shown(),
            secure: config.url().starts_with("https://"),
            live: Arc::new(Semaphore::new(LIVE_PAGES)),
            stopping: watch::Sender::new(false),
            confidences: Cache::builder().max_capacity(1).time_to_live(CONFIDENCES_TTL).build(),
            sign_ins: RateLimiter::keyed(quota(SIGN_INS_OF_ADDRESS, SIGN_IN_PAUSE)),
            all_sign_ins: RateLimiter::direct(quota(SIGN_INS_OF_ALL, SIGN_IN_PAUSE_OF_ALL)),
        }
    }

    /// Counts an attempt to sign in.
    ///
    /// # Errors
    /// Gives the seconds to wait when there have been too many.
    pub fn attempt(&self, address: Option<IpAddr>) -> Result<(), u64> {
        let clock = DefaultClock::default();
        if let Some(address) = address {
            self.sign_ins
                .check_key(&address)
                .map_err(|not_until| not_until.wait_time_from(clock.now()).as_secs() + 1)?;
        }
        self.all_sign_ins.check().map_err(|not_until| not_until.wait_time_from(clock.now()).as_secs() + 1)
    }

    /// Forgets the addresses that have not tried lately.
    pub fn tidy(&self) {
        self.sign_ins.retain_recent();
    }

    /// Counts the archetypes by confidence, or recalls the count of the last minute. Who asks at once waits for one count.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn confidences(&self, store: &Store) -> Result<Arc<Vec<ConfidenceStep>>, Arc<StoreError>> {
        let count = async { store.archetype_confidences().await.map(Arc::new) };
        let counted = self.confidences.try_get_with((), count).await?;
        if counted.is_empty() {
            // The first archetypes show at once.
            self.confidences.invalidate(&()).await;
        }
        Ok(counted)
    }
}
