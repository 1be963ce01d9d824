//! How people choose and answer: a multinomial logit over the three types and giving up, and a logit of the answer.
//!
//! Everything here is a probability or a value; draws are made in [`crate::course`].

use nudge_engine::TransactionType;

use crate::offer::Offer;
use crate::traits::Traits;

/// A number for buyout, crash and swap.
pub(crate) type ByOption = [f64; 3];

/// Weight of the expected gain against taste.
const GAIN_WEIGHT: f64 = 3.5;
/// Utility of giving up, and the weight of what a default leaves on the table.
const GIVING_UP: (f64, f64) = (0.55, 0.15);
/// Weight of the true answer in a belief, and of what is only believed.
const BELIEF: (f64, f64) = (0.7, 0.5);
/// How readily each type is accepted (α).
const READINESS: ByOption = [1.80, 1.45, 1.30];
/// Cost of a refusal as a share of the base price.
const REFUSAL_COST: f64 = 0.05;

/// One person asking another for a night, and what is offered to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// Who asks.
    pub(crate) requester: &'a Traits,
    /// Who holds the night.
    pub(crate) roommate: &'a Traits,
    /// Warmth between them.
    pub(crate) warmth: f64,
    /// Days until the night (d).
    pub(crate) lead_days: i64,
    /// Base price of the night in dollars.
    pub(crate) base_price: f64,
    /// The priced options and the default shown.
    pub(crate) offer: &'a Offer,
    /// What the requester only believes of each answer: standard normals.
    pub(crate) doubt: ByOption,
}

/// What can come of a scene.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prospects {
    /// Probability that each type is chosen; the rest gives up.
    pub(crate) chosen: ByOption,
    /// Probability that a request of each type is accepted.
    pub(crate) accepted: ByOption,
    /// Probability that a request is left without an answer.
    pub(crate) no_answer: f64,
    /// What each type gains the requester, over base price.
    gain: ByOption,
    /// What each type costs the requester, over base price.
    cost: ByOption,
    /// The answer's logit for each type (z).
    answer: ByOption,
}

/// The expected values of showing a default to one intent; money in dollars.
///
/// The expectation is over the choice and the answer, given what the requester believes of the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrueValues {
    /// Disclosed fees of accepted requests.
    pub platform_income: f64,
    /// List prices of accepted requests.
    pub volume: f64,
    /// Probability that a request is submitted.
    pub submitted: f64,
    /// Probability that a request is submitted and accepted.
    pub accepted: f64,
    /// Probability that the default is submitted.
    pub followed: f64,
    /// What the requester gains less what it costs; being steered is no benefit, a refusal (not silence) costs a little.
    pub requester_surplus: f64,
    /// What the roommate gains from being asked.
    pub responder_surplus: f64,
}

impl TrueValues {
    /// Adds the values of another intent.
    pub fn add(&mut self, other: &Self) {
        self.platform_income += other.platform_income;
        self.volume += other.volume;
        self.submitted += other.submitted;
        self.accepted += other.accepted;
        self.followed += other.followed;
        self.requester_surplus += other.requester_surplus;
        self.responder_surplus += other.responder_surplus;
    }
}

impl Scene<'_> {
    /// Works out what can come of it.
    pub(crate) fn prospects(&self) -> Prospects {
        let no_answer = self.no_answer();
        let answer = self.answer();
        let gain = self.gain();
        let cost = self.offer.options().map(|option| option.total_cost.dollars() / self.base_price);
        Prospects {
            chosen: self.chosen(&gain, &cost, &answer, no_answer),
            accepted: answer.map(|z| sigmoid(z) * (1.0 - no_answer)),
            no_answer,
            gain,
            cost,
            answer,
        }
    }

    /// Gives the probability that the roommate leaves a request without an answer.
    fn no_answer(&self) -> f64 {
        let days = (self.lead_days as f64).max(0.5);
        let slowness = libm::log(1.0 + self.roommate.response_hours / (2.0 * days));
        (0.04 + 0.05 * slowness).clamp(0.0, 0.4)
    }

    /// Gives the logit of the roommate's agreement to each type (z).
    fn answer(&self) -> ByOption {
        let (j, d) = (self.roommate, self.lead_days);
        let received =
            self.offer.options().map(|option| option.roommate_receives.dollars() / self.base_price);
        let money = [
            2.0 * (received[0] - j.value),
            2.0 * (received[1] - 0.5 * (1.0 - j.share_kept)),
            1.5 * (0.6 - j.giving_cost) - 0.9 * when(d < 7) - 0.3 * when((7..14).contains(&d))
                + 0.4 * when(d > 21),
        ];
        by_option(|k| READINESS[k] + j.willingness + self.warmth + money[k] + 0.5 * j.taste[k])
    }

    /// Gives what each type would gain the requester, over base price.
    fn gain(&self) -> ByOption {
        let (i, d) = (self.requester, self.lead_days);
        let need = 1.0 + 0.2 * when(d <= 3) + 0.1 * when(d > 3 && d <= 7);
        let value = i.value * need;
        let bother = 0.05 + 0.12 * when(d < 14) + 0.12 * when(d < 7);
        [value, value * i.share_kept, value - i.giving_cost * i.value - bother]
    }

    /// Gives the probability that each type is chosen.
    fn chosen(&self, gain: &ByOption, cost: &ByOption, answer: &ByOption, no_answer: f64) -> ByOption {
        let own = by_option(|k| {
            let belief = sigmoid(BELIEF.0 * answer[k] + BELIEF.1 * self.doubt[k]) * (1.0 - no_answer);
            GAIN_WEIGHT * belief * (gain[k] - cost[k]) + self.requester.taste[k]
        });
        let best = own.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let shown = self.offer.shown().map(position);
        let left_on_the_table = shown.map_or(0.0, |k| best - own[k]);
        let giving_up = GIVING_UP.0 + GIVING_UP.1 * left_on_the_table;
        let steered = by_option(|k| own[k] + self.requester.susceptibility * when(shown == Some(k)));
        let greatest = steered.into_iter().fold(giving_up, f64::max);
        let weights = steered.map(|u| libm::exp(u - greatest));
        let total = weights.iter().sum::<f64>() + libm::exp(giving_up - greatest);
        weights.map(|w| w / total)
    }

    /// Gives the expected values of showing what the offer shows.
    pub(crate) fn true_values(&self) -> TrueValues {
        let p = self.prospects();
        let mut values = TrueValues::default();
        for (k, option) in self.offer.options().iter().enumerate() {
            let accepted = p.chosen[k] * p.accepted[k];
            let refused = p.chosen[k] * (1.0 - p.accepted[k] - p.no_answer);
            values.submitted += p.chosen[k];
            values.accepted += accepted;
            values.platform_income += accepted * option.fee.dollars();
            values.volume += accepted * option.price.dollars();
            values.requester_surplus +=
                self.base_price * (accepted * (p.gain[k] - p.cost[k]) - refused * REFUSAL_COST);
            let consent = libm::log1p(libm::exp(p.answer[k])) / 2.0;
            values.responder_surplus += p.chosen[k] * (1.0 - p.no_answer) * consent * self.base_price;
        }
        values.followed = self.offer.shown().map_or(0.0, |shown| p.chosen[position(shown)]);
        values
    }
}

/// Gives a type's place among buyout, crash and swap.
pub(crate) const fn position(transaction_type: TransactionType) -> usize {
    match transaction_type {
        TransactionType::Buyout => 0,
        TransactionType::Crash => 1,
        TransactionType::Swap => 2,
    }
}

fn by_option(f: impl FnMut(usize) -> f64) -> ByOption {
    [0, 1, 2].map(f)
}

fn when(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{Intent, Key};
    use nudge_engine::{Cents, Demand, EntityId, Policy, UserId};

    const REQUESTER: Traits = Traits {
        value: 1.2,
        share_kept: 0.5,
        giving_cost: 0.6,
        monthly_rate: 1.0,
        response_hours: 1.0,
        price_factor: 1.0,
        willingness: 0.0,
        taste: [0.1, -0.2, 0.3],
        susceptibility: 1.0,
    };
    const ROOMMATE: Traits = Traits {
        value: 1.1,
        share_kept: 0.4,
        giving_cost: 0.5,
        response_hours: 4.0,
        willingness: 0.2,
        taste: [-0.3, 0.4, 0.2],
        ..REQUESTER
    };

    fn offer() -> Offer {
        let intent = Intent {
            requester: UserId::parse("i").unwrap(),
            roommate: UserId::parse("j").unwrap(),
            lease_id: EntityId::parse("l").unwrap(),
            at: jiff::Timestamp::UNIX_EPOCH,
            target_night: jiff::civil::date(1970, 1, 6),
            lead_days: 5,
            base_price: Cents(20_000),
            demand: Demand::new(11_000, &Policy::default()),
            key: Key { person: 0, number: 0, further: false },
        };
        Offer::without_default(&intent, &Policy::default())
    }

    fn assert_values(requester: &Traits, offer: &Offer, expected: [f64; 7]) {
        let scene = Scene {
            requester,
            roommate: &ROOMMATE,
            warmth: 0.25,
            lead_days: 5,
            base_price: 200.0,
            offer,
            doubt: [0.5, -1.0, 0.2],
        };
        let v = scene.true_values();
        let values = [
            v.platform_income,
            v.volume,
            v.submitted,
            v.accepted,
            v.followed,
            v.requester_surplus,
            v.responder_surplus,
        ];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-9, "{values:?}");
        }
    }

    // The expected numbers were worked out apart from this code, from the text of the specification.
    const NOTHING_SHOWN: [f64; 7] = [
        2.8516803530088386,
        41.00302553162882,
        0.7606740487338435,
        0.5918546196880993,
        0.0,
        29.299092044606198,
        132.61846309880656,
    ];

    #[test]
    fn values_are_those_of_the_specification() {
        assert_values(&REQUESTER, &offer(), NOTHING_SHOWN);
        let crash_shown = [
            3.2412881504904156,
            40.82147921667797,
            0.8322026203182481,
            0.6627488687278061,
            0.5061405080440515,
            39.696600121821376,
            152.16683585614703,
        ];
        assert_values(&REQUESTER, &offer().showing(Some(TransactionType::Crash)), crash_shown);
    }

    #[test]
    fn a_default_does_not_change_the_odds_between_types_for_the_unsusceptible() {
        let immune = Traits { susceptibility: 0.0, ..REQUESTER };
        let chosen = |offer: &Offer| {
            let scene = Scene {
                requester: &immune,
                roommate: &ROOMMATE,
                warmth: 0.0,
                lead_days: 20,
                base_price: 150.0,
                offer,
                doubt: [0.0; 3],
            };
            scene.prospects().chosen
        };
        let (none, buyout) = (chosen(&offer()), chosen(&offer().showing(Some(TransactionType::Buyout))));
        assert!((none[0] / none[2] - buyout[0] / buyout[2]).abs() < 1e-12);
        assert!((none[1] / none[2] - buyout[1] / buyout[2]).abs() < 1e-12);
    }
}
