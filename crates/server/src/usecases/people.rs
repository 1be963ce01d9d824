//! Known people: archetypes, leases and nights in memory, over the database.
//!
//! One load for any number of concurrent requests for a person. What is cached is forgotten when the person's facts
//! change: at once for changes made by this process, within the poll interval (250 ms) for those of another.
//!
//! Forgetting works by slots: a person's key carries the count of changes of the slot that their id falls into, so a
//! load that began before a change can never be found under the key that is looked up after it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use metrics::counter;
use moka::future::Cache;
use nudge_engine::{Archetype, EntityId, History, Person, Policy, Signals, UserId};
use nudge_store::{Changed, NightFacts, NightQuery, PersonFacts, Store, StoreError, WithRequests};
use tokio::sync::OnceCell;

use super::compute;
use super::nights::{Found, Nights};

/// Interval at which changes by other processes are looked for.
pub const POLL: Duration = Duration::from_millis(250);
/// Longest wait for the write of an archetype that was computed for a request.
const SAVE_WAIT: Duration = Duration::from_millis(250);
/// Longest time for which a person's leases and nights are not read again.
const HOME_TTL: Duration = Duration::from_secs(60);
/// Longest time for which facts are believed that the app keeps itself, of whose changes nobody tells.
const UNANNOUNCED_TTL: Duration = Duration::from_secs(1);
const SLOTS: usize = 4_096;

/// What decisions need to know of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Whether the person refuses personalization; then `person` holds nothing personal.
    pub opted_out: bool,
    /// Archetype, confidence and signals.
    pub person: Person,
    /// Their past as requester.
    pub history: History,
    /// When this has to be read again.
    fresh_until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    user: UserId,
    changes: u64,
}

/// The leases of a person, in ascending order.
#[derive(Debug)]
struct Home {
    leases: Box<[Lease]>,
    /// When they were read, where nobody tells of changes; then they are used for a second.
    unannounced: Option<Instant>,
}

/// A lease, and its nights once they have been asked for; `None` where they cannot be packed.
#[derive(Debug)]
struct Lease {
    id: EntityId,
    nights: OnceCell<Option<Nights>>,
}

impl Home {
    fn has(&self, lease: &EntityId) -> bool {
        self.leases.binary_search_by(|own| own.id.cmp(lease)).is_ok()
    }
}

/// The cache.
pub struct People {
    store: Store,
    policy: Arc<Policy>,
    ttl: jiff::SignedDuration,
    known: Cache<Key, Arc<Known>>,
    homes: Cache<Key, Arc<Home>>,
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").field("known", &self.known.entry_count()).finish_non_exhaustive()
    }
}

impl People {
    /// Makes an empty cache. `ttl` is the age at which a stored archetype is computed again.
    pub fn new(store: Store, policy: Arc<Policy>, ttl: Duration, capacity: u64) -> Self {
        Self {
            store,
            policy,
            ttl: jiff::SignedDuration::try_from(ttl).unwrap_or(jiff::SignedDuration::MAX),
            known: Cache::new(capacity),
            homes: Cache::builder().max_capacity(capacity).time_to_live(HOME_TTL).build(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Says which stored archetypes are used as they are: young ones, of this policy.
    pub fn if_not_fresh(&self, now: Timestamp) -> WithRequests<'_> {
        let fresh_after = now.checked_sub(self.ttl).unwrap_or(Timestamp::MIN);
        WithRequests::IfNotFresh { fresh_after, now, policy: &self.policy.name }
    }

    /// Gives the number of people in memory, as far as it is counted yet.
    pub fn known(&self) -> u64 {
        self.known.entry_count()
    }

    /// Gives the age at which a stored archetype is computed again, in hours.
    pub fn ttl_hours(&self) -> f64 {
        self.ttl.as_secs_f64() / 3_600.0
    }

    /// Gives what is known of a person, computing and storing their archetype where it is missing or out of date.
    ///
    /// # Errors
    /// When the facts cannot be read: never answered by a default.
    pub async fn get(&self, user: &UserId, now: Timestamp) -> Result<Arc<Known>, Arc<StoreError>> {
        let slot = self.slot(user);
        let mut key = Key { user: user.clone(), changes: slot.load(Ordering::Acquire) };
        if let Some(known) = self.known.get(&key).await {
            if now < known.fresh_until {
                counter!("nudge_archetype_cache_hits_total").increment(1);
                return Ok(known);
            }
            // Out of date: whoever comes first moves the slot on, the others follow.
            let moved =
                slot.compare_exchange(key.changes, key.changes + 1, Ordering::AcqRel, Ordering::Acquire);
            key.changes = moved.map_or_else(|newer| newer, |older| older + 1);
        }
        self.known.try_get_with(key, self.load(user, now)).await
    }

    /// Gives what two people share on a night: from memory where it is near, else from the database.
    ///
    /// # Errors
    /// When memberships or nights cannot be read.
    pub async fn night(
        &self,
        requester: &UserId,
        roommate: &UserId,
        target_date: Date,
        today: Date,
    ) -> Result<NightFacts, Arc<StoreError>> {
        let (mine, theirs) = (self.home(requester).await?, self.home(roommate).await?);
        let shared: Vec<&Lease> = mine.leases.iter().filter(|lease| theirs.has(&lease.id)).collect();
        let window = self.policy.swap_window_days;
        let mut first = None;
        for lease in &shared {
            let nights = lease.nights.get_or_try_init(|| self.load_nights(&lease.id, today)).await?;
            let found = nights.as_ref().and_then(|nights| nights.find(requester, target_date, today, window));
            let Some(Found { night, offerable }) = found else {
                return self.load_night(requester, &shared, target_date, today).await;
            };
            let is_there = night.is_some();
            let facts =
                NightFacts { lease_id: Some(lease.id.clone()), night, offerable_nights: Some(offerable) };
            if is_there {
                return Ok(facts);
            }
            first.get_or_insert(facts);
        }
        Ok(first.unwrap_or_default())
    }

    async fn load_night(
        &self,
        requester: &UserId,
        shared: &[&Lease],
        target_date: Date,
        today: Date,
    ) -> Result<NightFacts, Arc<StoreError>> {
        let shared_leases: Vec<EntityId> = shared.iter().map(|lease| lease.id.clone()).collect();
        let swap_window_days = self.policy.swap_window_days;
        let query =
            NightQuery { requester, shared_leases: &shared_leases, target_date, today, swap_window_days };
        Ok(self.store.load_night(&query).await?)
    }

    async fn load_nights(&self, lease: &EntityId, today: Date) -> Result<Option<Nights>, StoreError> {
        let rows = self.store.nights_between(lease, today, Nights::last_day(today)).await?;
        Ok(Nights::pack(today, rows))
    }

    async fn home(&self, user: &UserId) -> Result<Arc<Home>, Arc<StoreError>> {
        let key = Key { user: user.clone(), changes: self.slot(user).load(Ordering::Acquire) };
        if let Some(home) = self.homes.get(&key).await {
            if home.unannounced.is_none_or(|read| read.elapsed() < UNANNOUNCED_TTL) {
                return Ok(home);
            }
            self.homes.invalidate(&key).await;
        }
        self.homes.try_get_with(key, self.load_home(user)).await
    }

    async fn load_home(&self, user: &UserId) -> Result<Arc<Home>, StoreError> {
        let unannounced = (!self.store.announced().await?.homes).then(Instant::now);
        let leases = self.store.leases_of(user).await?;
        let leases = leases.into_iter().map(|id| Lease { id, nights: OnceCell::new() }).collect();
        Ok(Arc::new(Home { leases, unannounced }))
    }

    /// Forgets a person.
    pub fn forget(&self, user: &UserId) {
        self.slot(user).fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everybody.
    pub fn forget_all(&self) {
        for slot in &self.slots {
            slot.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Forgets people whose facts another process has changed, for as long as the future is polled.
    pub async fn follow_changes(&self) {
        let mut revision = None;
        loop {
            match self.follow_once(revision).await {
                Ok(newest) => revision = Some(newest),
                // Not known what was missed: nothing cached may be used until the feed can be read again.
                Err(error) => {
                    tracing::debug!(%error, "people.changes_unreadable");
                    self.forget_all();
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn follow_once(&self, revision: Option<i64>) -> Result<i64, StoreError> {
        let Some(revision) = revision else {
            let head = self.store.changes_head().await?;
            self.forget_all();
            return Ok(head);
        };
        self.forget_since(revision).await
    }

    /// Forgets people whose facts have changed since a number of the feed, and gives the newest number.
    ///
    /// # Errors
    /// When the feed cannot be read; nobody is forgotten then.
    pub async fn forget_since(&self, revision: i64) -> Result<i64, StoreError> {
        let (newest, changed) = self.store.changes_since(revision).await?;
        match changed {
            Some(Changed::Users(users)) => users.iter().for_each(|user| self.forget(user)),
            Some(Changed::Everybody) => self.forget_all(),
            None => {}
        }
        Ok(newest)
    }

    fn slot(&self, user: &UserId) -> &AtomicU64 {
        let hash = self.hasher.hash_one(user.as_str());
        &self.slots[usize::try_from(hash % SLOTS as u64).unwrap_or(0)]
    }

    async fn load(&self, user: &UserId, now: Timestamp) -> Result<Arc<Known>, StoreError> {
        counter!("nudge_archetype_cache_misses_total").increment(1);
        let with = self.if_not_fresh(now);
        let facts = self
            .store
            .load_person(user, with, self.policy.signal_requests, self.policy.history_requests)
            .await?;
        let mut known = self.know(user, facts, now).await;
        if !self.store.announced().await?.people {
            let soon = now.checked_add(UNANNOUNCED_TTL).unwrap_or(Timestamp::MAX);
            known.fresh_until = known.fresh_until.min(soon);
        }
        Ok(Arc::new(known))
    }

    /// Turns facts into what is known, computing and storing the archetype if the facts came with requests.
    async fn know(&self, user: &UserId, facts: PersonFacts, now: Timestamp) -> Known {
        let end = now.checked_add(self.ttl).unwrap_or(Timestamp::MAX);
        if facts.profile.opted_out {
            return Known {
                opted_out: true,
                person: nobody(&self.policy),
                history: History::default(),
                fresh_until: end,
            };
        }
        if let Some(requests) = &facts.requests {
            let computed = compute(requests, now, &self.policy);
            let person = Person {
                archetype: computed.archetype,
                confidence: computed.confidence,
                overridden: false,
                signals: computed.signals,
            };
            if !requests.is_empty() {
                let save = self.store.save_archetype(user.clone(), computed, facts.version);
                match tokio::time::timeout(SAVE_WAIT, save).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "archetype.not_stored"),
                    Err(_late) => tracing::warn!("archetype.store_late"),
                }
            }
            return Known { opted_out: false, person, history: facts.history, fresh_until: end };
        }
        // Without requests the store found a usable archetype.
        let Some(stored) = facts.archetype else {
            return Known {
                opted_out: false,
                person: nobody(&self.policy),
                history: facts.history,
                fresh_until: now,
            };
        };
        let overridden = stored.has_live_override(now);
        let fresh_until = if overridden {
            stored.manual.as_ref().and_then(|m| m.expires_at).unwrap_or(end).min(end)
        } else {
            stored.computed_at.checked_add(self.ttl).unwrap_or(end)
        };
        let person = Person {
            archetype: stored.archetype,
            confidence: stored.confidence,
            overridden,
            signals: stored.signals,
        };
        Known { opted_out: false, person, history: facts.history, fresh_until }
    }
}

/// A person of whom nothing is used: `average_user` with confidence 0.4 and the no-data signals.
pub fn nobody(policy: &Policy) -> Person {
    Person {
        archetype: Archetype::AverageUser,
        confidence: policy.confidence_min,
        overridden: false,
        signals: Signals::no_data(policy),
    }
}
