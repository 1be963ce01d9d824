//! What people are like: hidden from every policy, and so private to this crate.

use crate::config::{WorldConfig, WorldKind};
use crate::draw::{Draw, Purpose};

/// A number for each hidden type: premium, flexible, average.
type ByType = [f64; 3];

/// Shares of the hidden types.
const TYPE_SHARES: ByType = [0.18, 0.22, 0.60];
/// Mean of the logarithm of a night's value over its base price, and its standard deviation.
const LOG_VALUE: (ByType, f64) = ([0.55, -0.05, 0.15], 0.25);
/// Mean share kept when sharing, and the beta distribution's n.
const SHARE_KEPT: (ByType, f64) = ([0.25, 0.60, 0.48], 12.0);
/// Mean cost of giving a night as a share of its value, and the beta distribution's n.
const GIVING_COST: (ByType, f64) = ([0.85, 0.42, 0.66], 14.0);
/// Median hours to answer, and the standard deviation of their logarithm between people.
const RESPONSE_HOURS: (ByType, f64) = ([6.0, 1.2, 4.0], 0.5);
/// Proposed price over list price.
const PRICE_FACTOR: ByType = [1.12, 0.92, 1.0];
/// Mean willingness to accept, and its standard deviation.
const WILLINGNESS: (ByType, f64) = ([-0.5, 0.7, 0.0], 0.6);
/// Standard deviation of a taste for a transaction type.
const TASTE_SD: f64 = 0.55;
/// Standard deviation of the warmth of a pair.
const WARMTH_SD: f64 = 0.5;
/// Part of the default effect that is susceptibility, and the spread of susceptibility.
const SUSCEPTIBILITY: (f64, f64) = (0.82, 0.5);
/// Median base price in dollars, and the standard deviation of its logarithm between pairs.
const BASE_PRICE: (f64, f64) = (150.0, 0.40);
/// Mean tenure in world Y and its greatest value; the tenure in world M.
const TENURE_MONTHS: (f64, f64, f64) = (4.0, 24.0, 18.0);

/// What one person is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Value of a night over its base price (v).
    pub(crate) value: f64,
    /// Share of the value kept when sharing (κ).
    pub(crate) share_kept: f64,
    /// Cost of giving a night as a share of its value (s).
    pub(crate) giving_cost: f64,
    /// Requests a month.
    pub(crate) monthly_rate: f64,
    /// Median hours to answer (h).
    pub(crate) response_hours: f64,
    /// Proposed price over list price.
    pub(crate) price_factor: f64,
    /// Willingness to accept (a).
    pub(crate) willingness: f64,
    /// Taste for buyout, crash and swap.
    pub(crate) taste: [f64; 3],
    /// Susceptibility to defaults (δ).
    pub(crate) susceptibility: f64,
}

impl Traits {
    /// Draws a person.
    pub(crate) fn draw(config: &WorldConfig, person: usize) -> Self {
        let mut d = Draw::new(config.seed, Purpose::Person, person);
        let kind = match d.uniform() {
            u if u < TYPE_SHARES[0] => 0,
            u if u < TYPE_SHARES[0] + TYPE_SHARES[1] => 1,
            _ => 2,
        };
        let mean = config.kind.monthly_rates()[kind];
        let shape = config.kind.rate_shape();
        Self {
            value: libm::exp(LOG_VALUE.0[kind] + LOG_VALUE.1 * d.normal()),
            share_kept: d.beta(SHARE_KEPT.0[kind], SHARE_KEPT.1),
            giving_cost: d.beta(GIVING_COST.0[kind], GIVING_COST.1),
            monthly_rate: config.rate_factor * mean / shape * d.gamma(shape),
            response_hours: RESPONSE_HOURS.0[kind] * libm::exp(RESPONSE_HOURS.1 * d.normal()),
            price_factor: PRICE_FACTOR[kind],
            willingness: WILLINGNESS.0[kind] + WILLINGNESS.1 * d.normal(),
            taste: [TASTE_SD * d.normal(), TASTE_SD * d.normal(), TASTE_SD * d.normal()],
            susceptibility: susceptibility(config.default_effect, d.normal()),
        }
    }
}

/// Gives δ = max(0, .82·D·π/√3 + .5·N), 0 where defaults have no effect.
fn susceptibility(default_effect: f64, normal: f64) -> f64 {
    if default_effect <= 0.0 {
        return 0.0;
    }
    let in_logits = default_effect * std::f64::consts::PI / libm::sqrt(3.0);
    (SUSCEPTIBILITY.0 * in_logits + SUSCEPTIBILITY.1 * normal).max(0.0)
}

/// What a pair of roommates shares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// Base price of their nights in dollars.
    pub(crate) base_price: f64,
    /// Warmth between them.
    pub(crate) warmth: f64,
    /// Months for which they have shared the lease.
    pub(crate) tenure_months: f64,
}

impl Pair {
    /// Draws a pair.
    pub(crate) fn draw(config: &WorldConfig, pair: usize) -> Self {
        let mut d = Draw::new(config.seed, Purpose::Pair, pair);
        Self {
            base_price: BASE_PRICE.0 * libm::exp(BASE_PRICE.1 * d.normal()),
            warmth: WARMTH_SD * d.normal(),
            tenure_months: match config.kind {
                WorldKind::Young => (TENURE_MONTHS.0 * d.exponential()).min(TENURE_MONTHS.1),
                WorldKind::Mature => TENURE_MONTHS.2,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn without_a_default_effect_nobody_is_susceptible() {
        let mut config = WorldConfig::new(WorldKind::Young, 200, 3, Timestamp::UNIX_EPOCH);
        config.default_effect = 0.0;
        assert!((0..200).all(|p| Traits::draw(&config, p).susceptibility <= 0.0));
        config.default_effect = crate::config::DEFAULT_EFFECT;
        let mean = (0..200).map(|p| Traits::draw(&config, p).susceptibility).sum::<f64>() / 200.0;
        assert!((mean - 1.02).abs() < 0.15, "{mean}");
    }
}
