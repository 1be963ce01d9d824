//! What an intent is shown: three priced options and, or not, a default.

use nudge_engine::{
    Audience, Cents, Decision, Demand, NeutralCause, Night, Policy, PricingSource, Snapshot, TransactionType,
    decide,
};

use crate::behaviour::position;
use crate::intent::Intent;

/// The money of one option, as the engine priced it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfferedOption {
    /// The list price.
    pub price: Cents,
    /// The disclosed platform fee.
    pub fee: Cents,
    /// What the requester pays.
    pub total_cost: Cents,
    /// What the roommate gets.
    pub roommate_receives: Cents,
}

/// What an intent is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    shown: Option<TransactionType>,
    options: [OfferedOption; 3],
}

impl Offer {
    /// Takes over a decision: its options, and its first option as the default shown.
    pub fn of(decision: &Decision) -> Self {
        let mut options = [OfferedOption::default(); 3];
        for option in &decision.options {
            options[position(option.transaction_type)] = OfferedOption {
                price: option.price,
                fee: option.platform_fee,
                total_cost: option.total_cost,
                roommate_receives: option.roommate_receives,
            };
        }
        Self { shown: Some(decision.primary()), options }
    }

    /// Prices an intent's night by the engine and shows no default.
    pub fn without_default(intent: &Intent, policy: &Policy) -> Self {
        let decision = decide(
            &Snapshot {
                target_date: intent.target_night,
                days_until_check_in: intent.lead_days,
                night: night(intent.base_price, intent.demand),
                audience: Audience::Neutral(NeutralCause::Anonymous),
            },
            policy,
        );
        Self { shown: None, ..Self::of(&decision) }
    }

    /// Replaces the default shown.
    pub fn showing(self, shown: Option<TransactionType>) -> Self {
        Self { shown, ..self }
    }

    /// Gives the default shown.
    pub fn shown(&self) -> Option<TransactionType> {
        self.shown
    }

    /// Gives the options: buyout, crash, swap.
    pub fn options(&self) -> &[OfferedOption; 3] {
        &self.options
    }

    /// Gives the option of a type.
    pub fn option(&self, transaction_type: TransactionType) -> &OfferedOption {
        &self.options[position(transaction_type)]
    }
}

/// Makes the engine's night of a price and a demand.
fn night(base_price: Cents, demand: Demand) -> Night {
    Night { base_price, demand, source: PricingSource::LeaseNight }
}
