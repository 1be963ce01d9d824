//! A user's archetype: shown, recomputed, overridden, reset. The routes and the command line both come here.

use std::sync::Arc;

use jiff::Timestamp;
use nudge_engine::{Archetype, Policy, UserId};
use nudge_store::{
    Actor, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, ComputedArchetype, PersonFacts, Store,
    StoreError, StoredArchetype, WithRequests,
};

use super::compute;
use super::people::People;

/// An archetype as shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// The user refuses personalization.
    OptedOut,
    /// Stored, or computed just now from the user's requests.
    Stored {
        /// The row.
        row: StoredArchetype,
        /// Whether the row was there before.
        cached: bool,
    },
    /// The user has no request: the no-data signals, not stored.
    NoHistory(ComputedArchetype),
}

/// What an admin wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Compute it now.
    Recalculate,
    /// Set it.
    Override {
        /// To this.
        archetype: Archetype,
        /// Why.
        reason: String,
        /// Until when.
        expires_at: Option<Timestamp>,
    },
    /// End an override.
    Reset,
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// Changed, and how the archetype stands now.
    Changed(Shown),
    /// A live override was kept.
    OverrideKept(Shown),
    /// There was none to reset.
    NothingToReset(Shown),
    /// Refused: the user opted out.
    OptedOut,
}

/// Times that a change is tried again because the facts changed in the middle of it.
const TRIES: usize = 5;

/// Works on archetypes.
#[derive(Debug, Clone)]
pub struct Archetypes {
    /// The database.
    pub store: Store,
    /// The cache to tell.
    pub people: Arc<People>,
    /// The policy.
    pub policy: Arc<Policy>,
}

impl Archetypes {
    async fn facts(&self, user: &UserId, with: WithRequests<'_>) -> Result<PersonFacts, StoreError> {
        self.store.load_person(user, with, self.policy.signal_requests, self.policy.history_requests).await
    }

    /// Shows a user's archetype, computing and storing it where it is missing or out of date.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn show(&self, user: &UserId, now: Timestamp) -> Result<Shown, StoreError> {
        for _ in 0..TRIES {
            let with = self.people.if_not_fresh(now);
            let facts = self.facts(user, with).await?;
            if facts.profile.opted_out {
                return Ok(Shown::OptedOut);
            }
            let Some(requests) = &facts.requests else {
                if let Some(row) = facts.archetype {
                    return Ok(Shown::Stored { row, cached: true });
                }
                continue;
            };
            let computed = compute(requests, now, &self.policy);
            if requests.is_empty() {
                return Ok(Shown::NoHistory(computed));
            }
            let shown = as_row(&computed);
            match self.store.save_archetype(user.clone(), computed, facts.version).await? {
                ArchetypeSaved::Saved => return Ok(Shown::Stored { row: shown, cached: false }),
                ArchetypeSaved::Superseded => {}
            }
        }
        Err(busy())
    }

    /// Does what an admin wants, audited in the same transaction.
    ///
    /// # Errors
    /// When the database cannot be read or written; then nothing was changed.
    pub async fn change(
        &self,
        user: &UserId,
        verb: &Verb,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Done, StoreError> {
        for _ in 0..TRIES {
            let facts = self.facts(user, WithRequests::Always).await?;
            if facts.profile.opted_out {
                return Ok(Done::OptedOut);
            }
            let requests = facts.requests.as_deref().unwrap_or_default();
            let change = self.plan(verb, requests, facts.version, now);
            let changed = self.store.change_archetype(user.clone(), change, actor.clone(), now).await?;
            let done = match changed {
                ArchetypeChanged::Superseded => continue,
                ArchetypeChanged::OptedOut => Done::OptedOut,
                ArchetypeChanged::NothingToReset => Done::NothingToReset(self.show(user, now).await?),
                ArchetypeChanged::OverrideKept { kept, audit_head } => {
                    tracing::info!(audit.head = %audit_head, "audit.extended");
                    Done::OverrideKept(Shown::Stored { row: kept, cached: true })
                }
                ArchetypeChanged::Done { new, audit_head, .. } => {
                    tracing::info!(audit.head = %audit_head, "audit.extended");
                    Done::Changed(match new {
                        Some(row) => Shown::Stored { row, cached: false },
                        None => Shown::NoHistory(compute(&[], now, &self.policy)),
                    })
                }
            };
            self.people.forget(user);
            return Ok(done);
        }
        Err(busy())
    }

    fn plan(
        &self,
        verb: &Verb,
        requests: &[nudge_engine::Request],
        version: nudge_store::FactsVersion,
        now: Timestamp,
    ) -> ArchetypeChange {
        let computed = compute(requests, now, &self.policy);
        let stored = (!requests.is_empty()).then(|| computed.clone());
        match verb {
            Verb::Recalculate => ArchetypeChange::Recalculate { computed: stored, version },
            Verb::Reset => ArchetypeChange::Reset { computed: stored, version },
            Verb::Override { archetype, reason, expires_at } => ArchetypeChange::Override {
                archetype: *archetype,
                reason: reason.clone(),
                expires_at: *expires_at,
                computed,
            },
        }
    }
}

fn as_row(computed: &ComputedArchetype) -> StoredArchetype {
    let c = computed.clone();
    StoredArchetype {
        archetype: c.archetype,
        confidence: c.confidence,
        signals: c.signals,
        reasoning: c.reasoning,
        scores: c.scores,
        manual: None,
        policy: c.policy,
        computed_at: c.computed_at,
        updated_at: c.computed_at,
    }
}

fn busy() -> StoreError {
    StoreError::Unavailable { detail: "the user's facts keep changing".to_owned() }
}
