//! What an override would change for a user's next decisions: each is decided as it stands and as it would.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{Span, Timestamp};
use nudge_engine::{
    Archetype, Audience, Cents, Demand, History, Night, Person, Personal, Policy, PricingSource, Rule,
    Snapshot, TransactionType, UserId, days_between, decide,
};
use nudge_store::{DatedNight, Store, StoreError};

use super::people::{Known, People};

/// Days ahead that are looked at.
const DAYS_AHEAD: i64 = 60;
/// Most nights that are decided.
const MOST_NIGHTS: usize = 8;
/// Days ahead of the examples, where there is no night to decide.
const EXAMPLES: [i64; 4] = [3, 10, 18, 30];

/// A default and the rule that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preselected {
    /// The rule.
    pub rule: Rule,
    /// The pre-selected type.
    pub primary: TransactionType,
}

/// One night that the user could ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightPreview {
    /// The night.
    pub night: Date,
    /// Days until then.
    pub days: i64,
    /// Who holds it; `None` for an example.
    pub roommate: Option<UserId>,
    /// As things stand.
    pub now: Preselected,
    /// With the archetype overridden, in the order of [`Archetype::ALL`].
    pub overridden: [Preselected; 3],
}

/// How readily the user takes a type when asked, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AcceptancePreview {
    /// The type.
    pub transaction_type: TransactionType,
    /// As things stand.
    pub now: f64,
    /// With the archetype overridden, in the order of [`Archetype::ALL`].
    pub overridden: [f64; 3],
}

/// What overrides would change.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Whether the nights are examples, because the user has none that a roommate holds in the next days.
    pub examples: bool,
    /// Earlier requests of the user, at most ten: without one every archetype gives the same default.
    pub prior_requests: u32,
    /// The nights, by date.
    pub nights: Vec<NightPreview>,
    /// The user as a roommate who is asked.
    pub acceptance: [AcceptancePreview; 3],
}

/// Decides a user's next nights as they stand and under each override; `None` for a user who opted out.
///
/// # Errors
/// When the database cannot be read.
pub async fn preview(
    store: &Store,
    people: &People,
    policy: &Policy,
    user: &UserId,
    now: Timestamp,
    today: Date,
) -> Result<Option<Preview>, Arc<StoreError>> {
    let known = people.get(user, now).await?;
    if known.opted_out {
        return Ok(None);
    }
    let nights = nights(store, user, today).await?;
    let mut roommates: BTreeMap<UserId, Arc<Known>> = BTreeMap::new();
    for (_, roommate) in &nights {
        if !roommates.contains_key(roommate) {
            roommates.insert(roommate.clone(), people.get(roommate, now).await?);
        }
    }
    let examples = nights.is_empty();
    let asked = Asked { known: &known, today, policy };
    let previewed = if examples {
        EXAMPLES
            .iter()
            .map(|days| {
                let date = today.saturating_add(Span::new().days(*days));
                asked.night(date, None, &super::people::nobody(policy), Night::default_of(policy))
            })
            .collect()
    } else {
        let decided = nights.iter().filter_map(|(night, roommate)| {
            let known = roommates.get(roommate)?;
            Some(asked.night(night.night, Some(roommate.clone()), &known.person, priced(night, policy)))
        });
        decided.collect()
    };
    Ok(Some(Preview {
        examples,
        prior_requests: known.history.prior_requests,
        nights: previewed,
        acceptance: acceptance(&known.person, today, policy),
    }))
}

/// The next nights of the user's leases that somebody else holds.
async fn nights(
    store: &Store,
    user: &UserId,
    today: Date,
) -> Result<Vec<(DatedNight, UserId)>, Arc<StoreError>> {
    let last = today.saturating_add(Span::new().days(DAYS_AHEAD));
    let mut found = Vec::new();
    for lease in store.leases_of(user).await.map_err(Arc::new)? {
        let nights = store.nights_between(&lease, today, last).await.map_err(Arc::new)?;
        let others = nights.into_iter().filter_map(|night| {
            let holder = night.row.held_by.clone().filter(|holder| holder != user)?;
            Some((night, holder))
        });
        found.extend(others);
    }
    found.sort_by_key(|(night, _)| night.night);
    // Spread over the time ahead, so that every rule about days can show.
    let step = found.len().div_ceil(MOST_NIGHTS).max(1);
    Ok(found.into_iter().step_by(step).collect())
}

fn priced(night: &DatedNight, policy: &Policy) -> Night {
    Night {
        base_price: Cents(night.row.base_price_cents),
        demand: Demand::new(night.row.demand_ten_thousandths, policy),
        source: PricingSource::LeaseNight,
    }
}

fn overridden(person: &Person, archetype: Archetype) -> Person {
    Person { archetype, confidence: 1.0, overridden: true, ..person.clone() }
}

/// In the order of [`Archetype::ALL`].
const EACH: [Archetype; 3] = [Archetype::BigSpender, Archetype::HighFlexibility, Archetype::AverageUser];

struct Asked<'a> {
    known: &'a Known,
    today: Date,
    policy: &'a Policy,
}

impl Asked<'_> {
    fn night(&self, date: Date, roommate: Option<UserId>, other: &Person, night: Night) -> NightPreview {
        let days = days_between(self.today, date);
        let default = |requester: Person| {
            let personal = Personal {
                requester,
                roommate: other.clone(),
                history: self.known.history,
                offerable_nights: None,
            };
            let snapshot = Snapshot {
                target_date: date,
                days_until_check_in: days,
                night,
                audience: Audience::Personal(Box::new(personal)),
            };
            let decision = decide(&snapshot, self.policy);
            Preselected { rule: decision.rule, primary: decision.primary() }
        };
        NightPreview {
            night: date,
            days,
            roommate,
            now: default(self.known.person.clone()),
            overridden: EACH.map(|archetype| default(overridden(&self.known.person, archetype))),
        }
    }
}

/// The user as the one who is asked: by somebody without a past, so that only the user counts.
fn acceptance(person: &Person, today: Date, policy: &Policy) -> [AcceptancePreview; 3] {
    let options = |roommate: Person| {
        let personal = Personal {
            requester: super::people::nobody(policy),
            roommate,
            history: History::default(),
            offerable_nights: None,
        };
        let snapshot = Snapshot {
            target_date: today,
            days_until_check_in: 0,
            night: Night::default_of(policy),
            audience: Audience::Personal(Box::new(personal)),
        };
        decide(&snapshot, policy).options
    };
    let of = |roommate: Person, wanted: TransactionType| {
        let options = options(roommate);
        options
            .iter()
            .find(|option| option.transaction_type == wanted)
            .map_or(0.0, |option| option.confidence)
    };
    [TransactionType::Buyout, TransactionType::Crash, TransactionType::Swap].map(|transaction_type| {
        AcceptancePreview {
            transaction_type,
            now: of(person.clone(), transaction_type),
            overridden: EACH.map(|archetype| of(overridden(person, archetype), transaction_type)),
        }
    })
}
