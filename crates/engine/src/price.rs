//! Exact money: integer cents, multipliers in hundredths, demand in ten-thousandths, one rounding at the end.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::vocabulary::TransactionType;

/// An amount of money in minor units (cents).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(pub i64);

impl Cents {
    /// Gives the amount in major units (dollars), for the wire.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

impl Add for Cents {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Cents {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Cents {
    /// Writes dollars: `$225`, `$7.50`, `-$3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, cents) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        if cents % 100 == 0 {
            write!(f, "{sign}${}", cents / 100)
        } else {
            write!(f, "{sign}${}.{:02}", cents / 100, cents % 100)
        }
    }
}

/// A market demand factor in ten-thousandths, within the policy's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Demand(i64);

impl Demand {
    /// Limits a factor given in ten-thousandths to the policy's range (0.7 to 1.4 by default).
    pub fn new(ten_thousandths: i64, policy: &Policy) -> Self {
        Self(ten_thousandths.clamp(policy.demand_min_ten_thousandths, policy.demand_max_ten_thousandths))
    }

    /// Limits a factor from elsewhere (a recorded snapshot, another policy) to the policy's range.
    pub fn within(self, policy: &Policy) -> Self {
        Self::new(self.0, policy)
    }

    /// Gives the factor as a number, for the wire.
    pub fn factor(self) -> f64 {
        self.0 as f64 / 10_000.0
    }
}

/// The price and the platform fee of one transaction type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// What the roommate is offered before the fee is taken out.
    pub price: Cents,
    /// The disclosed platform fee.
    pub fee: Cents,
}

/// Prices one transaction type for a night: never a function of who asks.
///
/// `urgency_hundredths` is the urgency multiplier in hundredths.
pub fn quote(
    transaction_type: TransactionType,
    base: Cents,
    urgency_hundredths: i64,
    demand: Demand,
    policy: &Policy,
) -> Quote {
    let product = i128::from(base.0.max(0)) * i128::from(urgency_hundredths) * i128::from(demand.0);
    let unit = policy.rounding_unit_cents;
    match transaction_type {
        TransactionType::Buyout => {
            let price = round_half_up(product, 100 * 10_000, unit);
            let fee =
                round_half_up(i128::from(price.0) * i128::from(policy.buyout_fee_per_mille), 1_000, unit);
            Quote { price, fee }
        }
        TransactionType::Crash => {
            let share = product * i128::from(policy.crash_share_hundredths);
            Quote {
                price: round_half_up(share, 100 * 100 * 10_000, unit),
                fee: Cents(policy.crash_fee_cents),
            }
        }
        TransactionType::Swap => Quote { price: Cents(0), fee: Cents(policy.swap_fee_cents) },
    }
}

/// Divides a non-negative amount and rounds it, half up, to a whole number of units: the one place that rounds money.
fn round_half_up(numerator: i128, denominator: i128, unit_cents: i64) -> Cents {
    let step = denominator * i128::from(unit_cents);
    let units = (2 * numerator + step) / (2 * step);
    Cents(i64::try_from(units * i128::from(unit_cents)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_where_floating_point_is_not() {
        let policy = Policy::default();
        let demand = Demand::new(11_600, &policy);
        // 10 × 1.25 × 1.16 is 14.5 exactly, 14.499999999999998 in floating point.
        assert_eq!(quote(TransactionType::Buyout, Cents(1_000), 125, demand, &policy).price, Cents(1_500));
    }

    #[test]
    fn amounts_are_written_as_people_write_them() {
        assert_eq!(Cents(22_500).to_string(), "$225");
        assert_eq!(Cents(750).to_string(), "$7.50");
        assert_eq!(Cents(-300).to_string(), "-$3");
    }
}
