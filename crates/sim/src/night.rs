//! Nights: a price, a demand and a holder for each lease and date.

use jiff::civil::Date;
use nudge_engine::{Cents, Demand, EntityId, Policy, UserId};

use crate::calendar::{add_days, day_number, is_weekend};
use crate::draw::{Draw, Purpose};
use crate::world::World;

/// Price of a weekend night over that of another.
const WEEKEND_FACTOR: f64 = 1.20;
/// Probability that a drawn night is a weekend.
const WEEKEND_SHARE: f64 = 0.42;
/// Standard deviation of the logarithm of a night's price.
const PRICE_NOISE: f64 = 0.05;
/// Months in a year.
const YEAR_MONTHS: f64 = 12.0;
/// Days in a year of the calendar.
const YEAR_DAYS: f64 = 365.25;

/// One night of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightRow {
    /// The lease.
    pub lease_id: EntityId,
    /// The date.
    pub night: Date,
    /// The tenant who holds it.
    pub held_by: UserId,
    /// Base price.
    pub base_price: Cents,
    /// Market demand in ten-thousandths.
    pub demand_ten_thousandths: i64,
}

/// The price and demand of a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Base price.
    pub(crate) base_price: Cents,
    /// Market demand in ten-thousandths.
    pub(crate) demand_ten_thousandths: i64,
}

impl Terms {
    /// Makes the terms from the pair's price, the season (a share of the year) and two normals.
    fn new(base_price: f64, weekend: bool, season: f64, noise: f64, swing: f64) -> Self {
        let factor = if weekend { WEEKEND_FACTOR } else { 1.0 };
        let price = base_price * factor * libm::exp(PRICE_NOISE * noise);
        let lift = 0.10 * (f64::from(u8::from(weekend)) - WEEKEND_SHARE);
        let demand = 1.0 + 0.12 * swing + lift + 0.08 * libm::sin(std::f64::consts::TAU * season);
        Self {
            base_price: Cents((price * 100.0).round() as i64),
            demand_ten_thousandths: (demand.clamp(0.7, 1.4) * 10_000.0).round() as i64,
        }
    }

    /// Gives the demand as the engine takes it, within the limits of `rules-v1`.
    pub(crate) fn demand(self) -> Demand {
        Demand::new(self.demand_ten_thousandths, &Policy::default())
    }
}

/// Draws the night of one request; `month` counts from the start of the world's window.
pub(crate) fn drawn_terms(d: &mut Draw, base_price: f64, month: f64) -> Terms {
    let weekend = d.chance(WEEKEND_SHARE);
    Terms::new(base_price, weekend, month / YEAR_MONTHS, d.normal(), d.normal())
}

/// Gives the night of a lease's calendar: a function of seed, lease and date, and of nothing else.
pub(crate) fn night_terms(seed: u64, pair: usize, base_price: f64, night: Date) -> Terms {
    let day = day_number(night);
    let mut d = Draw::new(seed, Purpose::Night, pair).at(day.unsigned_abs());
    Terms::new(base_price, is_weekend(night), day as f64 / YEAR_DAYS, d.normal(), d.normal())
}

impl World {
    /// Lists the nights of all leases from one date to another, both included, lease by lease.
    ///
    /// Nights do not depend on the world's `now`, so that later calls extend earlier ones.
    pub fn nights(&self, from: Date, to: Date) -> impl Iterator<Item = NightRow> + '_ {
        (0..self.leases.len()).flat_map(move |lease| self.lease_nights(lease, from, to))
    }

    /// Lists the nights of one lease (its index among [`World::leases`]) from one date to another, both included.
    pub fn lease_nights(&self, lease: usize, from: Date, to: Date) -> impl Iterator<Item = NightRow> + '_ {
        let days = if lease < self.leases.len() { day_number(to) - day_number(from) + 1 } else { 0 };
        (0..days).map(move |day| self.night(lease, add_days(from, day)))
    }

    fn night(&self, lease: usize, night: Date) -> NightRow {
        let terms = night_terms(self.config.seed, lease, self.pairs[lease].base_price, night);
        let row = &self.leases[lease];
        NightRow {
            lease_id: row.id.clone(),
            night,
            held_by: row.members[day_number(night).rem_euclid(2) as usize].clone(),
            base_price: terms.base_price,
            demand_ten_thousandths: terms.demand_ten_thousandths,
        }
    }
}
