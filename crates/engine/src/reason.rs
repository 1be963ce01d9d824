//! Every sentence that a person may read about a decision: a registered template filled with computed values.
//!
//! A reason is built only where its values were computed from data. The templates never promise what the roommate
//! still has to agree to, and never compare with other people.

use crate::price::{Cents, Demand};
use crate::vocabulary::{Archetype, TransactionType};

/// A computed value in a reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param {
    /// A count, or a number of days.
    Integer(i64),
    /// A factor or a share.
    Number(f64),
    /// Money; dollars on the wire.
    Money(Cents),
    /// A word of the vocabulary.
    Word(&'static str),
}

/// One reason. [`Reason::code`] is stable, [`Reason::params`] are the values, [`Reason::text`] is English.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// The neutral default was given: nothing personal was used.
    RuleNeutral,
    /// The requester has no earlier request.
    RuleNewUser,
    /// A big spender close to check-in.
    RuleBigSpenderUrgent {
        /// Days until check-in; negative when the date has passed.
        days: i64,
    },
    /// A big spender with time left.
    RuleBigSpenderRelaxed {
        /// Days until check-in; negative when the date has passed.
        days: i64,
    },
    /// A flexible requester.
    RuleFlexibleSwap,
    /// A standard requester with time left.
    RuleAverageRelaxed {
        /// Days until check-in; negative when the date has passed.
        days: i64,
    },
    /// A standard requester at medium range.
    RuleAverageMedium {
        /// Days until check-in; negative when the date has passed.
        days: i64,
    },
    /// A standard requester close to check-in.
    RuleAverageUrgent {
        /// Days until check-in; negative when the date has passed.
        days: i64,
    },
    /// The date has passed.
    Overdue,
    /// How the buyout's price comes about.
    BuyoutPrice {
        /// Base price of the night.
        base: Cents,
        /// Urgency multiplier in hundredths.
        urgency_hundredths: i64,
        /// Market demand.
        demand: Demand,
        /// The price.
        price: Cents,
    },
    /// What a crash costs.
    CrashShare {
        /// Share of the night's price, in hundredths.
        share_hundredths: i64,
        /// The price.
        price: Cents,
    },
    /// A swap has no price.
    SwapNoPrice {
        /// The platform fee.
        fee: Cents,
    },
    /// The option is cheaper than the buyout.
    SavingsVsBuyout {
        /// By how much, fees included.
        savings: Cents,
    },
    /// Own nights that could be offered in a swap.
    OfferableNights {
        /// How many.
        nights: u32,
        /// Days around the target date that were counted.
        window_days: i64,
    },
    /// The requester holds no night to offer.
    NoOfferableNights {
        /// Days around the target date that were counted.
        window_days: i64,
    },
    /// The roommate asks for this type more often than not.
    RoommatePrefers {
        /// The type.
        transaction_type: TransactionType,
        /// Share of the roommate's own requests.
        share: f64,
    },
    /// The roommate has accepted requests before.
    RoommateAcceptanceRate {
        /// Accepted share of those received.
        share: f64,
        /// How many were accepted.
        accepted: i64,
    },
    /// The requester's last request was of this type and was accepted.
    LastRequestAccepted {
        /// The type.
        transaction_type: TransactionType,
    },
}

impl Reason {
    /// Gives the registered code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RuleNeutral => "rule_neutral_default",
            Self::RuleNewUser => "rule_new_user",
            Self::RuleBigSpenderUrgent { .. } => "rule_big_spender_urgent",
            Self::RuleBigSpenderRelaxed { .. } => "rule_big_spender_relaxed",
            Self::RuleFlexibleSwap => "rule_flexible_swap",
            Self::RuleAverageRelaxed { .. } => "rule_average_relaxed",
            Self::RuleAverageMedium { .. } => "rule_average_medium",
            Self::RuleAverageUrgent { .. } => "rule_average_urgent",
            Self::Overdue => "overdue",
            Self::BuyoutPrice { .. } => "buyout_price",
            Self::CrashShare { .. } => "crash_share",
            Self::SwapNoPrice { .. } => "swap_no_price",
            Self::SavingsVsBuyout { .. } => "savings_vs_buyout",
            Self::OfferableNights { .. } => "offerable_nights",
            Self::NoOfferableNights { .. } => "no_offerable_nights",
            Self::RoommatePrefers { .. } => "roommate_prefers",
            Self::RoommateAcceptanceRate { .. } => "roommate_acceptance_rate",
            Self::LastRequestAccepted { .. } => "last_request_accepted",
        }
    }

    /// Gives the computed values by name.
    pub fn params(&self) -> Vec<(&'static str, Param)> {
        use Param::{Integer, Money, Number, Word};
        match *self {
            Self::RuleNeutral | Self::RuleNewUser | Self::RuleFlexibleSwap | Self::Overdue => vec![],
            Self::RuleBigSpenderUrgent { days }
            | Self::RuleBigSpenderRelaxed { days }
            | Self::RuleAverageRelaxed { days }
            | Self::RuleAverageMedium { days }
            | Self::RuleAverageUrgent { days } => vec![("days", Integer(days))],
            Self::BuyoutPrice { base, urgency_hundredths, demand, price } => vec![
                ("basePrice", Money(base)),
                ("urgencyMultiplier", Number(urgency_hundredths as f64 / 100.0)),
                ("marketDemand", Number(demand.factor())),
                ("price", Money(price)),
            ],
            Self::CrashShare { share_hundredths, price } => {
                vec![("sharePercent", Integer(share_hundredths)), ("price", Money(price))]
            }
            Self::SwapNoPrice { fee } => vec![("fee", Money(fee))],
            Self::SavingsVsBuyout { savings } => vec![("savings", Money(savings))],
            Self::OfferableNights { nights, window_days } => {
                vec![("nights", Integer(i64::from(nights))), ("windowDays", Integer(window_days))]
            }
            Self::NoOfferableNights { window_days } => vec![("windowDays", Integer(window_days))],
            Self::RoommatePrefers { transaction_type, share } => {
                vec![("type", Word(transaction_type.as_str())), ("share", Number(share))]
            }
            Self::RoommateAcceptanceRate { share, accepted } => {
                vec![("share", Number(share)), ("accepted", Integer(accepted))]
            }
            Self::LastRequestAccepted { transaction_type } => vec![("type", Word(transaction_type.as_str()))],
        }
    }

    /// Writes the sentence.
    pub fn text(&self) -> String {
        let in_days = |days: i64| match days {
            ..0 => "past".to_owned(),
            0 => "today".to_owned(),
            1 => "in 1 day".to_owned(),
            n => format!("in {n} days"),
        };
        let profile = |archetype: Archetype| archetype.label();
        match *self {
            Self::RuleNeutral => {
                "This is the standard order of options; nothing personal was used.".to_owned()
            }
            Self::RuleNewUser => {
                "You have no earlier requests, so this is the standard order of options.".to_owned()
            }
            Self::RuleBigSpenderUrgent { days } => format!(
                "Your profile is {} and check-in is {}: buyout comes first.",
                profile(Archetype::BigSpender),
                in_days(days)
            ),
            Self::RuleBigSpenderRelaxed { days } => format!(
                "Your profile is {}: buyout comes first, also with check-in {}.",
                profile(Archetype::BigSpender),
                in_days(days)
            ),
            Self::RuleFlexibleSwap => {
                format!("Your profile is {}: swap comes first.", profile(Archetype::HighFlexibility))
            }
            Self::RuleAverageRelaxed { days } => {
                format!("Check-in is {}, which leaves time to arrange a swap.", in_days(days))
            }
            Self::RuleAverageMedium { days } => {
                format!("Check-in is {}: sharing the night comes first.", in_days(days))
            }
            Self::RuleAverageUrgent { days } => {
                format!("Check-in is {}: sharing the night comes first, then a buyout.", in_days(days))
            }
            Self::Overdue => "The date has passed; prices are those of the last days.".to_owned(),
            Self::BuyoutPrice { base, urgency_hundredths, demand, price } => format!(
                "{price}: base price {base} × urgency {} × demand {}.",
                urgency_hundredths as f64 / 100.0,
                demand.factor()
            ),
            Self::CrashShare { share_hundredths, price } => {
                format!(
                    "{price}: {share_hundredths} % of the night's price, because your roommate stays too."
                )
            }
            Self::SwapNoPrice { fee } => {
                format!("No price: you exchange nights and pay the {fee} platform fee.")
            }
            Self::SavingsVsBuyout { savings } => format!("{savings} less than a buyout, fees included."),
            Self::OfferableNights { nights: 1, window_days } => {
                format!("You hold 1 night of your own within {window_days} days that you could offer.")
            }
            Self::OfferableNights { nights, window_days } => {
                format!(
                    "You hold {nights} nights of your own within {window_days} days that you could offer."
                )
            }
            Self::NoOfferableNights { window_days } => {
                format!("You hold no night of your own within {window_days} days that you could offer.")
            }
            Self::RoommatePrefers { transaction_type, share } => {
                format!(
                    "{} % of your roommate's own recent requests were for a {transaction_type}.",
                    percent(share)
                )
            }
            Self::RoommateAcceptanceRate { share, accepted } => {
                format!(
                    "Your roommate accepted {} % of recent requests ({accepted} accepted).",
                    percent(share)
                )
            }
            Self::LastRequestAccepted { transaction_type } => {
                format!("Your last request was a {transaction_type}, and it was accepted.")
            }
        }
    }
}

/// Writes a share as a whole percentage.
fn percent(share: f64) -> i64 {
    (share * 100.0).round() as i64
}
