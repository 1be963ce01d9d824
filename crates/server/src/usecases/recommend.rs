//! One recommendation: facts, decision, record.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{
    Audience, Decision, Demand, EntityId, NeutralCause, Night, Personal, Policy, PricingSource, Snapshot,
    UserId, days_between, decide,
};
use nudge_store::{NightFacts, ProfileRole, Store, StoreError};

use super::people::{Known, People};
use crate::auth::Caller;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who wants the night.
    pub user: UserId,
    /// Who may give it.
    pub roommate: UserId,
    /// The night.
    pub target_date: Date,
}

/// Why there is no recommendation.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Neither the caller's own id nor asked by an admin.
    #[error("not the caller's own id")]
    NotYourself,
    /// The two share no lease.
    #[error("no shared lease")]
    NoSharedLease,
    /// The requester holds the night.
    #[error("the requester holds the night")]
    OwnNight,
    /// A third tenant holds the night.
    #[error("a third tenant holds the night")]
    ThirdTenant,
    /// The database, where an answer without it would be wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A decision with what it was made from.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The facts.
    pub snapshot: Snapshot,
    /// The decision.
    pub decision: Decision,
    /// The shared lease, if it was looked up.
    pub lease: Option<EntityId>,
    /// Whether personal data could not be read.
    pub degraded: bool,
}

/// Reads what decisions need.
#[derive(Debug, Clone)]
pub struct Recommender {
    /// The database.
    pub store: Store,
    /// The archetype cache.
    pub people: Arc<People>,
    /// The policy.
    pub policy: Arc<Policy>,
}

impl Recommender {
    /// Decides for a caller. `today` is the day of `now` in the configured zone.
    ///
    /// # Errors
    /// [`Refusal`] says which check failed.
    pub async fn recommend(
        &self,
        caller: &Caller,
        question: &Question,
        now: Timestamp,
        today: Date,
    ) -> Result<Decided, Refusal> {
        let may_ask_for_strangers = match caller {
            Caller::Anonymous => {
                let night = Night::default_of(&self.policy);
                return Ok(self.neutral(question, today, night, NeutralCause::Anonymous));
            }
            Caller::Service => true,
            Caller::User(me) if *me == question.user => false,
            Caller::User(_) if self.is_admin(caller).await? => true,
            Caller::User(_) => return Err(Refusal::NotYourself),
        };
        let night = match self.night(question, today).await {
            Ok(night) => night,
            Err(error) => return Ok(self.degraded(question, today, &error)),
        };
        // Before anything is read, or computed and stored, of the people.
        let strangers_allowed =
            may_ask_for_strangers || night.lease_id.is_none() && self.is_admin(caller).await?;
        check(question, &night, strangers_allowed)?;
        match self.people(question, now).await {
            Ok((requester, roommate)) => Ok(self.decide(question, today, night, &requester, &roommate)),
            Err(error) => Ok(self.degraded(question, today, &error)),
        }
    }

    async fn is_admin(&self, caller: &Caller) -> Result<bool, StoreError> {
        match caller {
            Caller::User(me) => Ok(self.store.profile(me).await?.role == ProfileRole::Admin),
            Caller::Anonymous | Caller::Service => Ok(false),
        }
    }

    async fn night(&self, question: &Question, today: Date) -> Result<NightFacts, Arc<StoreError>> {
        let Question { user, roommate, target_date } = question;
        self.people.night(user, roommate, *target_date, today).await
    }

    async fn people(
        &self,
        question: &Question,
        now: Timestamp,
    ) -> Result<(Arc<Known>, Arc<Known>), Arc<StoreError>> {
        let requester = self.people.get(&question.user, now).await?;
        let roommate = self.people.get(&question.roommate, now).await?;
        Ok((requester, roommate))
    }

    fn degraded(&self, question: &Question, today: Date, error: &StoreError) -> Decided {
        tracing::warn!(%error, "recommend.degraded");
        metrics::counter!("nudge_decisions_degraded_total").increment(1);
        self.neutral(question, today, Night::default_of(&self.policy), NeutralCause::Degraded)
    }

    fn decide(
        &self,
        question: &Question,
        today: Date,
        facts: NightFacts,
        requester: &Known,
        roommate: &Known,
    ) -> Decided {
        let night = priced(&facts, &self.policy);
        if requester.opted_out {
            let mut decided = self.neutral(question, today, night, NeutralCause::OptedOut);
            decided.lease = facts.lease_id;
            return decided;
        }
        let audience = Audience::Personal(Box::new(Personal {
            requester: requester.person.clone(),
            roommate: roommate.person.clone(),
            history: requester.history,
            offerable_nights: facts.offerable_nights,
        }));
        let snapshot = snapshot(question, today, night, audience);
        Decided {
            decision: decide(&snapshot, &self.policy),
            snapshot,
            lease: facts.lease_id,
            degraded: false,
        }
    }

    fn neutral(&self, question: &Question, today: Date, night: Night, cause: NeutralCause) -> Decided {
        let snapshot = snapshot(question, today, night, Audience::Neutral(cause));
        Decided {
            decision: decide(&snapshot, &self.policy),
            snapshot,
            lease: None,
            degraded: cause == NeutralCause::Degraded,
        }
    }
}

fn snapshot(question: &Question, today: Date, night: Night, audience: Audience) -> Snapshot {
    let target_date = question.target_date;
    Snapshot { target_date, days_until_check_in: days_between(today, target_date), night, audience }
}

/// Refuses a night that cannot be asked of this roommate.
fn check(question: &Question, night: &NightFacts, may_ask_for_strangers: bool) -> Result<(), Refusal> {
    if night.lease_id.is_none() && !may_ask_for_strangers {
        return Err(Refusal::NoSharedLease);
    }
    match night.night.as_ref().and_then(|night| night.held_by.as_ref()) {
        Some(holder) if *holder == question.user => Err(Refusal::OwnNight),
        Some(holder) if *holder != question.roommate => Err(Refusal::ThirdTenant),
        _ => Ok(()),
    }
}

/// Gives the night's price and demand, or the configured default where there is no such night.
fn priced(facts: &NightFacts, policy: &Policy) -> Night {
    facts.night.as_ref().map_or_else(
        || Night::default_of(policy),
        |row| Night {
            base_price: nudge_engine::Cents(row.base_price_cents),
            demand: Demand::new(row.demand_ten_thousandths, policy),
            source: PricingSource::LeaseNight,
        },
    )
}
