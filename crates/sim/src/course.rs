//! How an intent goes: choosing, asking, being answered.

use jiff::Timestamp;
use nudge_engine::{Cents, InvalidId, Policy, RequestStatus, TransactionType};

use crate::behaviour::{ByOption, Scene, TrueValues, position};
use crate::calendar::{add_days, add_millis};
use crate::draw::Draw;
use crate::intent::Intent;
use crate::offer::Offer;
use crate::request::RequestRow;
use crate::world::World;

/// Standard deviation of the logarithm of a proposed price.
const PRICE_NOISE: f64 = 0.08;
/// Standard deviation of the logarithm of the hours to one answer.
const RESPONSE_NOISE: f64 = 0.8;
/// Median seconds to a choice, the standard deviation of their logarithm, and the longest.
const DECISION_SECS: (f64, f64, f64) = (12.0, 0.7, 600.0);
/// Share of answered requests after which a score is given.
const SCORE_SHARE: f64 = 0.15;

/// What a requester selected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    /// The type.
    pub transaction_type: TransactionType,
    /// When.
    pub at: Timestamp,
    /// Seconds from seeing the options to selecting one.
    pub time_to_decision_seconds: f64,
}

/// A net promoter score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// 0 to 10.
    pub score: u8,
    /// When it was given.
    pub at: Timestamp,
}

/// How an intent went.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// When the options were seen: everybody looks.
    pub viewed_at: Timestamp,
    /// What was selected; nothing by those who gave up.
    pub selected: Option<Selection>,
    /// The request submitted, with its final status even where the answer or expiry lies after the world's now: see
    /// [`RequestRow::as_of`].
    pub request: Option<RequestRow>,
    /// A score, now and then, after an answer.
    pub score: Option<Score>,
}

impl World {
    /// Runs an intent to its end under what it is shown. The same intent and offer go the same way every time, and
    /// different offers meet the same person in the same mood.
    ///
    /// # Errors
    /// None for a world that was generated; the request's id is parsed.
    pub fn respond(&self, intent: &Intent, offer: &Offer) -> Result<Course, InvalidId> {
        let mut d = intent.key.course(self.config.seed);
        let scene = self.scene(intent, offer, doubt(&mut d));
        let prospects = scene.prospects();
        let viewed_at = add_millis(intent.at, 300.0 + 900.0 * d.uniform());
        let secs = (DECISION_SECS.0 * libm::exp(DECISION_SECS.1 * d.normal())).min(DECISION_SECS.2);
        let secs = (secs * 10.0).round() / 10.0;
        let selected = pick(&prospects.chosen, d.uniform()).map(|transaction_type| Selection {
            transaction_type,
            at: add_millis(viewed_at, secs * 1_000.0),
            time_to_decision_seconds: secs,
        });
        let Some(selection) = selected else {
            return Ok(Course { viewed_at, selected, request: None, score: None });
        };
        let k = position(selection.transaction_type);
        let mut request = self.submitted(intent, offer, &selection, &mut d)?;
        let (answer, hours) = (d.uniform(), libm::exp(RESPONSE_NOISE * d.normal()));
        request.status = if answer < prospects.accepted[k] {
            RequestStatus::Accepted
        } else if answer < 1.0 - prospects.no_answer {
            RequestStatus::Rejected
        } else {
            RequestStatus::Expired
        };
        if request.status != RequestStatus::Expired {
            let hours = hours * self.traits(intent.roommate_index()).response_hours;
            request.responded_at = Some(add_millis(request.created_at, hours * 3_600_000.0));
        }
        let score = score(&request, &mut d);
        Ok(Course { viewed_at, selected, request: Some(request), score })
    }

    /// Gives the expected values of showing an intent an offer.
    pub fn true_values(&self, intent: &Intent, offer: &Offer) -> TrueValues {
        let doubt = doubt(&mut intent.key.course(self.config.seed));
        self.scene(intent, offer, doubt).true_values()
    }

    /// Runs an intent of the history, in which no default was shown, and gives the request that came of it.
    pub(crate) fn respond_unaided(
        &self,
        intent: &Intent,
        policy: &Policy,
    ) -> Result<Option<RequestRow>, InvalidId> {
        let offer = Offer::without_default(intent, policy);
        Ok(self.respond(intent, &offer)?.request)
    }

    fn scene<'a>(&'a self, intent: &Intent, offer: &'a Offer, doubt: ByOption) -> Scene<'a> {
        Scene {
            requester: self.traits(intent.requester_index()),
            roommate: self.traits(intent.roommate_index()),
            warmth: self.pair(intent.requester_index()).warmth,
            lead_days: intent.lead_days,
            base_price: intent.base_price.dollars(),
            offer,
            doubt,
        }
    }

    /// Makes the request of a selection, still pending.
    fn submitted(
        &self,
        intent: &Intent,
        offer: &Offer,
        selection: &Selection,
        d: &mut Draw,
    ) -> Result<RequestRow, InvalidId> {
        let transaction_type = selection.transaction_type;
        let haggling = libm::exp(PRICE_NOISE * d.normal());
        let factor = self.traits(intent.requester_index()).price_factor * haggling;
        let list = offer.option(transaction_type).price;
        let proposed = Cents((list.0 as f64 * factor).round() as i64);
        let swap = transaction_type == TransactionType::Swap;
        Ok(RequestRow {
            id: intent.key.request_id()?,
            lease_id: intent.lease_id.clone(),
            requester: intent.requester.clone(),
            receiver: intent.roommate.clone(),
            transaction_type,
            target_night: intent.target_night,
            // Nights alternate, so the night after the roommate's is the requester's own.
            offered_night: swap.then(|| add_days(intent.target_night, 1)),
            proposed_price: (!swap).then_some(proposed),
            base_price: intent.base_price,
            status: RequestStatus::Pending,
            created_at: add_millis(selection.at, 1_000.0 + 4_000.0 * d.uniform()),
            responded_at: None,
        })
    }
}

/// Draws what the requester only believes of the answers.
fn doubt(d: &mut Draw) -> ByOption {
    [d.normal(), d.normal(), d.normal()]
}

/// Picks a type by its probability; nothing where the rest is met.
fn pick(chosen: &ByOption, uniform: f64) -> Option<TransactionType> {
    let mut below = 0.0;
    TransactionType::ALL.iter().copied().find(|t| {
        below += chosen[position(*t)];
        uniform < below
    })
}

/// Gives a score now and then: better after a yes.
fn score(request: &RequestRow, d: &mut Draw) -> Option<Score> {
    let (given, mood, minutes) = (d.chance(SCORE_SHARE), d.normal(), 1.0 + 59.0 * d.uniform());
    let responded = request.responded_at.filter(|_| given)?;
    let mean = if request.status == RequestStatus::Accepted { 8.4 } else { 6.2 };
    let score = (mean + 1.6 * mood).round().clamp(0.0, 10.0) as u8;
    Some(Score { score, at: add_millis(responded, minutes * 60_000.0) })
}
