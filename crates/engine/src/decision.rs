//! The rules in order of precedence, the three options, and the decision that explains itself.

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::policy::Policy;
use crate::price::{Cents, Demand, quote};
use crate::reason::Reason;
use crate::signals::Signals;
use crate::urgency::Urgency;
use crate::vocabulary::{Archetype, TransactionType, UnknownWord, vocabulary};

vocabulary! {
    /// Where the night's price and demand come from.
    PricingSource {
        /// The night exists on a lease that both share.
        LeaseNight = "lease_night",
        /// The configured default.
        Default = "default",
    }
}

vocabulary! {
    /// Why a decision used nothing personal. Recorded, never shown to the requester.
    NeutralCause {
        /// The caller is anonymous.
        Anonymous = "anonymous",
        /// The requester opted out.
        OptedOut = "opted_out",
        /// Personal data could not be read.
        Degraded = "degraded",
    }
}

vocabulary! {
    /// The rule that chose the order of the options.
    Rule {
        /// No earlier request as requester, and every neutral default.
        NewUser = "new_user",
        /// `big_spender` within 14 days.
        BigSpenderUrgent = "big_spender_urgent",
        /// `big_spender` later than that.
        BigSpenderRelaxed = "big_spender_relaxed",
        /// `high_flexibility`.
        FlexibleSwap = "flexible_swap",
        /// `average_user` later than 21 days.
        AverageRelaxed = "average_relaxed",
        /// `average_user` within 7 to 21 days.
        AverageMedium = "average_medium",
        /// `average_user` before that.
        AverageUrgent = "average_urgent",
    }
}

impl Rule {
    /// Picks the rule: the first of the specification's table that applies.
    pub fn select(archetype: Archetype, prior_requests: u32, days: i64, policy: &Policy) -> Self {
        if prior_requests == 0 {
            return Self::NewUser;
        }
        match archetype {
            Archetype::BigSpender if days <= policy.big_spender_urgent_max_days => Self::BigSpenderUrgent,
            Archetype::BigSpender => Self::BigSpenderRelaxed,
            Archetype::HighFlexibility => Self::FlexibleSwap,
            Archetype::AverageUser if days > policy.average_medium_max_days => Self::AverageRelaxed,
            Archetype::AverageUser if days >= policy.average_medium_min_days => Self::AverageMedium,
            Archetype::AverageUser => Self::AverageUrgent,
        }
    }

    /// Gives the order of the options; the first is the default.
    pub const fn order(self) -> [TransactionType; 3] {
        use TransactionType::{Buyout, Crash, Swap};
        match self {
            Self::NewUser | Self::AverageMedium => [Crash, Swap, Buyout],
            Self::BigSpenderUrgent | Self::BigSpenderRelaxed => [Buyout, Crash, Swap],
            Self::FlexibleSwap | Self::AverageRelaxed => [Swap, Crash, Buyout],
            Self::AverageUrgent => [Crash, Buyout, Swap],
        }
    }

    /// Gives the rule's confidence.
    pub const fn confidence(self, policy: &Policy) -> f64 {
        let c = &policy.rule_confidence;
        match self {
            Self::NewUser => c.new_user,
            Self::BigSpenderUrgent => c.big_spender_urgent,
            Self::BigSpenderRelaxed => c.big_spender_relaxed,
            Self::FlexibleSwap => c.flexible_swap,
            Self::AverageRelaxed => c.average_relaxed,
            Self::AverageMedium => c.average_medium,
            Self::AverageUrgent => c.average_urgent,
        }
    }

    fn reason(self, days: i64, personal: bool) -> Reason {
        match self {
            Self::NewUser if personal => Reason::RuleNewUser,
            Self::NewUser => Reason::RuleNeutral,
            Self::BigSpenderUrgent => Reason::RuleBigSpenderUrgent { days },
            Self::BigSpenderRelaxed => Reason::RuleBigSpenderRelaxed { days },
            Self::FlexibleSwap => Reason::RuleFlexibleSwap,
            Self::AverageRelaxed => Reason::RuleAverageRelaxed { days },
            Self::AverageMedium => Reason::RuleAverageMedium { days },
            Self::AverageUrgent => Reason::RuleAverageUrgent { days },
        }
    }
}

/// The price and demand of the target night.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Night {
    /// Base price.
    #[serde(rename = "basePriceCents")]
    pub base_price: Cents,
    /// Market demand.
    #[serde(rename = "demandTenThousandths")]
    pub demand: Demand,
    /// Where both come from.
    #[serde(rename = "pricingSource")]
    pub source: PricingSource,
}

impl Night {
    /// Gives the configured default night.
    pub fn default_of(policy: &Policy) -> Self {
        Self {
            base_price: Cents(policy.default_base_price_cents),
            demand: Demand::new(policy.default_demand_ten_thousandths, policy),
            source: PricingSource::Default,
        }
    }
}

/// One party of the decision, as far as the rules look at them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The archetype in force.
    pub archetype: Archetype,
    /// Its confidence.
    pub confidence: f64,
    /// Whether an admin set it.
    pub overridden: bool,
    /// The signals it stands beside.
    pub signals: Signals,
}

impl Person {
    /// Says whether the person is new in the sense of the archetype's confidence: never when overridden.
    fn is_new(&self) -> bool {
        !self.overridden && self.signals.is_new()
    }
}

/// The requester's last request as requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRequest {
    /// Its type.
    pub transaction_type: TransactionType,
    /// Whether it was accepted.
    pub accepted: bool,
}

/// What the rules know of the requester's past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Number of the newest ten requests as requester: 0 to 10.
    pub prior_requests: u32,
    /// The newest of them.
    pub last: Option<LastRequest>,
}

/// Everything personal that a decision may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Personal {
    /// Who asks.
    pub requester: Person,
    /// Who holds the night.
    pub roommate: Person,
    /// The requester's past.
    pub history: History,
    /// Own nights that the requester could offer in a swap; `None` where it cannot be counted.
    pub offerable_nights: Option<u32>,
}

/// For whom the decision is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// Nothing personal is used.
    Neutral(NeutralCause),
    /// The requester and the roommate are known.
    Personal(Box<Personal>),
}

/// The facts of one decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The night asked for.
    pub target_date: Date,
    /// Calendar days until then; negative when it has passed.
    pub days_until_check_in: i64,
    /// Its price and demand.
    pub night: Night,
    /// For whom.
    pub audience: Audience,
}

/// One priced option.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedOption {
    /// What is proposed.
    pub transaction_type: TransactionType,
    /// The price.
    pub price: Cents,
    /// The disclosed fee.
    pub platform_fee: Cents,
    /// What the requester pays.
    pub total_cost: Cents,
    /// What the roommate gets.
    pub roommate_receives: Cents,
    /// What the platform gets.
    pub platform_receives: Cents,
    /// Buyout total less this total; `None` on the buyout.
    pub savings_vs_buyout: Option<Cents>,
    /// How readily the roommate takes this type.
    pub confidence: f64,
    /// Estimated probability that the roommate accepts, 0 to 0.95.
    pub probability: f64,
    /// Own nights that could be offered; on the swap only, and only where counted.
    pub potential_matches: Option<u32>,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
}

/// The three options, the default first.
pub type Option3 = [PricedOption; 3];

/// One decision with its whole explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The rule that chose the order.
    pub rule: Rule,
    /// The rule's confidence.
    pub confidence: f64,
    /// How close check-in is.
    pub urgency: Urgency,
    /// The night that was priced.
    pub night: Night,
    /// Whether the target date is Monday to Friday.
    pub is_weekday: bool,
    /// The requester's archetype; `average_user` for a neutral default.
    pub archetype: Archetype,
    /// Its confidence.
    pub archetype_confidence: f64,
    /// The roommate's archetype; `None` for a neutral default.
    pub roommate_archetype: Option<Archetype>,
    /// Whether anything personal was used.
    pub personalized: bool,
    /// The options in order.
    pub options: Option3,
}

impl Decision {
    /// Gives the pre-selected type.
    pub fn primary(&self) -> TransactionType {
        self.options[0].transaction_type
    }
}

/// Decides. The same snapshot and policy give the same decision, on every machine.
pub fn decide(snapshot: &Snapshot, policy: &Policy) -> Decision {
    let urgency = Urgency::of(snapshot.days_until_check_in, policy);
    let personal = match &snapshot.audience {
        Audience::Neutral(_) => None,
        Audience::Personal(personal) => Some(&**personal),
    };
    let rule = personal.map_or(Rule::NewUser, |p| {
        Rule::select(p.requester.archetype, p.history.prior_requests, urgency.days, policy)
    });
    // A snapshot may have been written under another policy, whose limits are not this one's.
    let night = Night { demand: snapshot.night.demand.within(policy), ..snapshot.night };
    let pricing = Pricing { night, urgency, policy };
    let mut options = rule.order().map(|t| pricing.option(t, personal));
    let mut first = Vec::with_capacity(6);
    first.push(rule.reason(snapshot.days_until_check_in, personal.is_some()));
    if urgency.overdue {
        first.push(Reason::Overdue);
    }
    first.append(&mut options[0].reasons);
    options[0].reasons = first;
    Decision {
        rule,
        confidence: rule.confidence(policy),
        urgency,
        night,
        is_weekday: !matches!(snapshot.target_date.weekday(), Weekday::Saturday | Weekday::Sunday),
        archetype: personal.map_or(Archetype::AverageUser, |p| p.requester.archetype),
        archetype_confidence: personal.map_or(policy.confidence_min, |p| p.requester.confidence),
        roommate_archetype: personal.map(|p| p.roommate.archetype),
        personalized: personal.is_some(),
        options,
    }
}

/// What all three options are priced from.
struct Pricing<'a> {
    night: Night,
    urgency: Urgency,
    policy: &'a Policy,
}

impl Pricing<'_> {
    fn option(&self, transaction_type: TransactionType, personal: Option<&Personal>) -> PricedOption {
        let quoted = self.quote(transaction_type);
        let total_cost = quoted.price + quoted.fee;
        let roommate_receives = match transaction_type {
            TransactionType::Swap => Cents(0),
            _ => Cents((quoted.price - quoted.fee).0.max(0)),
        };
        let savings_vs_buyout = (transaction_type != TransactionType::Buyout).then(|| {
            let buyout = self.quote(TransactionType::Buyout);
            buyout.price + buyout.fee - total_cost
        });
        let potential_matches =
            personal.and_then(|p| p.offerable_nights).filter(|_| transaction_type == TransactionType::Swap);
        let (confidence, probability) = self.acceptance(transaction_type, personal);
        let mut option = PricedOption {
            transaction_type,
            price: quoted.price,
            platform_fee: quoted.fee,
            total_cost,
            roommate_receives,
            platform_receives: total_cost - roommate_receives,
            savings_vs_buyout,
            confidence,
            probability,
            potential_matches,
            reasons: Vec::with_capacity(5),
        };
        self.explain(&mut option, personal);
        option
    }

    fn quote(&self, transaction_type: TransactionType) -> crate::price::Quote {
        let Night { base_price, demand, .. } = self.night;
        quote(transaction_type, base_price, self.urgency.multiplier_hundredths, demand, self.policy)
    }

    /// Gives the option's confidence and the estimated probability that the roommate accepts.
    fn acceptance(&self, transaction_type: TransactionType, personal: Option<&Personal>) -> (f64, f64) {
        let policy = self.policy;
        let Some(Personal { roommate, history, .. }) = personal else {
            return (policy.acceptance_new, policy.acceptance_new * policy.acceptance_rate_default);
        };
        let confidence = if roommate.is_new() {
            policy.acceptance_new
        } else {
            let beyond =
                (roommate.signals.preference(transaction_type) - policy.preference_threshold).max(0.0);
            (policy.acceptance_of(transaction_type, roommate.archetype) + policy.preference_weight * beyond)
                .clamp(policy.acceptance_min, policy.acceptance_max)
        };
        let factor = if last_accepted(history, transaction_type) { policy.last_accepted_factor } else { 1.0 };
        let probability = confidence * roommate.signals.acceptance_rate * factor;
        (confidence, probability.clamp(0.0, policy.acceptance_max))
    }

    /// Adds the reasons that the option's own values and the data bear out.
    fn explain(&self, option: &mut PricedOption, personal: Option<&Personal>) {
        let transaction_type = option.transaction_type;
        option.reasons.push(match transaction_type {
            TransactionType::Buyout => Reason::BuyoutPrice {
                base: self.night.base_price,
                urgency_hundredths: self.urgency.multiplier_hundredths,
                demand: self.night.demand,
                price: option.price,
            },
            TransactionType::Crash => Reason::CrashShare {
                share_hundredths: self.policy.crash_share_hundredths,
                price: option.price,
            },
            TransactionType::Swap => Reason::SwapNoPrice { fee: option.platform_fee },
        });
        if let Some(savings) = option.savings_vs_buyout.filter(|s| s.0 > 0) {
            option.reasons.push(Reason::SavingsVsBuyout { savings });
        }
        let window_days = self.policy.swap_window_days;
        match option.potential_matches {
            Some(0) => option.reasons.push(Reason::NoOfferableNights { window_days }),
            Some(nights) => option.reasons.push(Reason::OfferableNights { nights, window_days }),
            None => {}
        }
        let Some(Personal { roommate, history, .. }) = personal else { return };
        let share = roommate.signals.preference(transaction_type);
        if share > self.policy.preference_threshold && !roommate.is_new() {
            option.reasons.push(Reason::RoommatePrefers { transaction_type, share });
        }
        // A count above 0 proves that the rate was computed from requests and is not the no-data value.
        let accepted = roommate.signals.accommodation_history as i64;
        if accepted > 0 {
            option
                .reasons
                .push(Reason::RoommateAcceptanceRate { share: roommate.signals.acceptance_rate, accepted });
        }
        if last_accepted(history, transaction_type) {
            option.reasons.push(Reason::LastRequestAccepted { transaction_type });
        }
    }
}

/// Says whether the requester's last request was of this type and was accepted.
fn last_accepted(history: &History, transaction_type: TransactionType) -> bool {
    history.last == Some(LastRequest { transaction_type, accepted: true })
}
