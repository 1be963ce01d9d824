//! Every number of the rules, typed, named and versioned. Source of the defaults: the domain specification, `rules-v1`.

use serde::{Deserialize, Serialize};

use crate::decision::Rule;
use crate::vocabulary::{Archetype, TransactionType};

/// A policy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy `{name}`: {field} {problem}")]
pub struct InvalidPolicy {
    /// The policy's name.
    pub name: String,
    /// The number that is wrong.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// One line of the archetype table: a signal crosses a threshold and gives points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Threshold {
    /// The threshold, in the signal's unit; the comparison is strict.
    pub threshold: f64,
    /// The points that the row adds.
    pub points: f64,
}

const fn row(threshold: f64, points: f64) -> Threshold {
    Threshold { threshold, points }
}

/// The archetype table: which threshold gives how many points to whom. The direction is in the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "each field is one cell of the documented table, named by signal, direction, archetype"
)]
pub struct ArchetypeTable {
    pub transaction_value_above_big_spender: Threshold,
    pub transaction_value_below_high_flexibility: Threshold,
    pub willingness_above_big_spender: Threshold,
    pub willingness_below_high_flexibility: Threshold,
    pub price_rejection_below_big_spender: Threshold,
    pub price_rejection_above_high_flexibility: Threshold,
    pub response_hours_above_big_spender: Threshold,
    pub response_hours_below_high_flexibility: Threshold,
    pub acceptance_below_big_spender: Threshold,
    pub acceptance_above_high_flexibility: Threshold,
    pub frequency_above_big_spender: Threshold,
    pub flexibility_below_big_spender: Threshold,
    pub flexibility_above_high_flexibility: Threshold,
    pub accommodation_above_high_flexibility: Threshold,
    pub reciprocity_below_big_spender: Threshold,
    pub reciprocity_above_high_flexibility: Threshold,
    pub buyout_preference_above_big_spender: Threshold,
    pub swap_preference_above_high_flexibility: Threshold,
}

impl ArchetypeTable {
    /// Lists the rows in table order.
    fn rows(&self) -> [Threshold; 18] {
        [
            self.transaction_value_above_big_spender,
            self.transaction_value_below_high_flexibility,
            self.willingness_above_big_spender,
            self.willingness_below_high_flexibility,
            self.price_rejection_below_big_spender,
            self.price_rejection_above_high_flexibility,
            self.response_hours_above_big_spender,
            self.response_hours_below_high_flexibility,
            self.acceptance_below_big_spender,
            self.acceptance_above_high_flexibility,
            self.frequency_above_big_spender,
            self.flexibility_below_big_spender,
            self.flexibility_above_high_flexibility,
            self.accommodation_above_high_flexibility,
            self.reciprocity_below_big_spender,
            self.reciprocity_above_high_flexibility,
            self.buyout_preference_above_big_spender,
            self.swap_preference_above_high_flexibility,
        ]
    }
}

impl Default for ArchetypeTable {
    fn default() -> Self {
        Self {
            transaction_value_above_big_spender: row(1_000.0, 30.0),
            transaction_value_below_high_flexibility: row(300.0, 20.0),
            willingness_above_big_spender: row(0.7, 25.0),
            willingness_below_high_flexibility: row(0.4, 25.0),
            price_rejection_below_big_spender: row(0.3, 15.0),
            price_rejection_above_high_flexibility: row(0.6, 20.0),
            response_hours_above_big_spender: row(3.0, 15.0),
            response_hours_below_high_flexibility: row(2.0, 25.0),
            acceptance_below_big_spender: row(0.5, 15.0),
            acceptance_above_high_flexibility: row(0.7, 20.0),
            frequency_above_big_spender: row(2.0, 10.0),
            flexibility_below_big_spender: row(40.0, 20.0),
            flexibility_above_high_flexibility: row(70.0, 30.0),
            accommodation_above_high_flexibility: row(10.0, 15.0),
            reciprocity_below_big_spender: row(0.5, 10.0),
            reciprocity_above_high_flexibility: row(1.5, 15.0),
            buyout_preference_above_big_spender: row(0.6, 10.0),
            swap_preference_above_high_flexibility: row(0.5, 10.0),
        }
    }
}

/// Numbers for each archetype, or for each transaction type, in the order of their `ALL`.
pub type Triple = [f64; 3];

/// The confidence of each rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each field is the confidence of the rule that it names")]
pub struct RuleConfidence {
    pub new_user: f64,
    pub big_spender_urgent: f64,
    pub big_spender_relaxed: f64,
    pub flexible_swap: f64,
    pub average_relaxed: f64,
    pub average_medium: f64,
    pub average_urgent: f64,
}

impl Default for RuleConfidence {
    fn default() -> Self {
        Self {
            new_user: 0.40,
            big_spender_urgent: 0.85,
            big_spender_relaxed: 0.72,
            flexible_swap: 0.78,
            average_relaxed: 0.65,
            average_medium: 0.70,
            average_urgent: 0.75,
        }
    }
}

/// The rules' configuration. A file gives only what differs, and then a name other than `rules-v1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Policy {
    /// The name recorded with every decision.
    pub name: String,

    /// Newest requests that signals are computed from.
    pub signal_requests: usize,
    /// Newest requests as requester that count as history for the rules.
    pub history_requests: u32,
    /// Days that the request frequency looks back.
    pub frequency_window_days: i64,
    /// Months in that window, the frequency's divisor.
    pub frequency_window_months: f64,
    /// Proposed over base price in hundredths above which a rejection counts as one of price.
    pub high_price_hundredths: i64,
    /// Ratio of proposed to base price above which willingness to pay does not grow.
    pub willingness_cap: f64,
    /// Least mean response time in hours.
    pub response_hours_min: f64,
    /// Weights of acceptance rate, swap preference and received over asked in the flexibility score.
    pub flexibility_weights: Triple,

    /// The archetype table.
    pub table: ArchetypeTable,
    /// Points that `average_user` starts with.
    pub average_user_points: f64,
    /// Confidence at a tie.
    pub confidence_base: f64,
    /// Points of lead that are worth a confidence of 1.
    pub confidence_points: f64,
    /// Least confidence.
    pub confidence_min: f64,
    /// Greatest confidence.
    pub confidence_max: f64,
    /// Greatest confidence for a new user.
    pub confidence_new_max: f64,

    /// Last day of CRITICAL.
    pub critical_max_days: i64,
    /// Last day of HIGH.
    pub high_max_days: i64,
    /// Last day of MEDIUM.
    pub medium_max_days: i64,
    /// Price multiplier of CRITICAL, in hundredths.
    pub critical_multiplier_hundredths: i64,
    /// Price multiplier of HIGH, in hundredths.
    pub high_multiplier_hundredths: i64,
    /// Price multiplier of MEDIUM, in hundredths.
    pub medium_multiplier_hundredths: i64,
    /// Price multiplier of LOW, in hundredths.
    pub low_multiplier_hundredths: i64,

    /// Last day that is urgent for a big spender.
    pub big_spender_urgent_max_days: i64,
    /// First day of `average_medium`.
    pub average_medium_min_days: i64,
    /// Last day of `average_medium`.
    pub average_medium_max_days: i64,
    /// Confidence of each rule.
    pub rule_confidence: RuleConfidence,

    /// Prices and fees are rounded to this many cents.
    pub rounding_unit_cents: i64,
    /// Base price of a night that nobody priced.
    pub default_base_price_cents: i64,
    /// Demand of a night that nobody priced, in ten-thousandths.
    pub default_demand_ten_thousandths: i64,
    /// Least demand, in ten-thousandths.
    pub demand_min_ten_thousandths: i64,
    /// Greatest demand, in ten-thousandths.
    pub demand_max_ten_thousandths: i64,
    /// Buyout fee in thousandths of the price.
    pub buyout_fee_per_mille: i64,
    /// Share of the night's price that a crash costs, in hundredths.
    pub crash_share_hundredths: i64,
    /// Fee of a crash.
    pub crash_fee_cents: i64,
    /// Fee of a swap.
    pub swap_fee_cents: i64,

    /// Acceptance by a roommate who is new, and of every neutral default.
    pub acceptance_new: f64,
    /// Acceptance by the roommate's archetype: rows buyout, crash, swap; columns big_spender, high_flexibility, average_user.
    pub acceptance: [Triple; 3],
    /// Weight of a preference beyond its threshold.
    pub preference_weight: f64,
    /// Preference above which the weight counts.
    pub preference_threshold: f64,
    /// Least acceptance.
    pub acceptance_min: f64,
    /// Greatest acceptance, and greatest probability.
    pub acceptance_max: f64,
    /// Acceptance rate of a roommate nothing is known of.
    pub acceptance_rate_default: f64,
    /// Factor when the requester's last request was of this type and was accepted.
    pub last_accepted_factor: f64,
    /// Days around the target date in which an own night counts as offerable.
    pub swap_window_days: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            name: Self::RULES_V1.to_owned(),
            signal_requests: 50,
            history_requests: 10,
            frequency_window_days: 90,
            frequency_window_months: 3.0,
            high_price_hundredths: 120,
            willingness_cap: 2.0,
            response_hours_min: 0.1,
            flexibility_weights: [40.0, 30.0, 30.0],
            table: ArchetypeTable::default(),
            average_user_points: 50.0,
            confidence_base: 0.5,
            confidence_points: 100.0,
            confidence_min: 0.4,
            confidence_max: 0.95,
            confidence_new_max: 0.6,
            critical_max_days: 3,
            high_max_days: 7,
            medium_max_days: 14,
            critical_multiplier_hundredths: 150,
            high_multiplier_hundredths: 125,
            medium_multiplier_hundredths: 110,
            low_multiplier_hundredths: 100,
            big_spender_urgent_max_days: 14,
            average_medium_min_days: 7,
            average_medium_max_days: 21,
            rule_confidence: RuleConfidence::default(),
            rounding_unit_cents: 100,
            default_base_price_cents: 15_000,
            default_demand_ten_thousandths: 10_000,
            demand_min_ten_thousandths: 7_000,
            demand_max_ten_thousandths: 14_000,
            buyout_fee_per_mille: 15,
            crash_share_hundredths: 18,
            crash_fee_cents: 500,
            swap_fee_cents: 500,
            acceptance_new: 0.40,
            acceptance: [[0.75, 0.45, 0.60], [0.50, 0.70, 0.65], [0.35, 0.80, 0.60]],
            preference_weight: 0.4,
            preference_threshold: 0.5,
            acceptance_min: 0.2,
            acceptance_max: 0.95,
            acceptance_rate_default: 0.5,
            last_accepted_factor: 1.15,
            swap_window_days: 30,
        }
    }
}

impl Policy {
    /// The name of the policy whose numbers are the specification's.
    pub const RULES_V1: &'static str = "rules-v1";

    /// Gives the acceptance of a transaction type by a roommate of an archetype.
    pub fn acceptance_of(&self, transaction_type: TransactionType, roommate: Archetype) -> f64 {
        let row = match transaction_type {
            TransactionType::Buyout => self.acceptance[0],
            TransactionType::Crash => self.acceptance[1],
            TransactionType::Swap => self.acceptance[2],
        };
        match roommate {
            Archetype::BigSpender => row[0],
            Archetype::HighFlexibility => row[1],
            Archetype::AverageUser => row[2],
        }
    }

    /// Checks that the numbers can be used, and that a policy which differs from `rules-v1` has a name of its own.
    ///
    /// # Errors
    /// [`InvalidPolicy`] names the first number that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        let fail = |field, problem| Err(InvalidPolicy { name: self.name.clone(), field, problem });
        let shares = [
            ("confidenceMin", self.confidence_min),
            ("confidenceMax", self.confidence_max),
            ("confidenceNewMax", self.confidence_new_max),
            ("acceptanceMin", self.acceptance_min),
            ("acceptanceMax", self.acceptance_max),
            ("acceptanceNew", self.acceptance_new),
            ("acceptanceRateDefault", self.acceptance_rate_default),
            ("preferenceThreshold", self.preference_threshold),
        ];
        let acceptance = self.acceptance.as_flattened().iter().map(|a| ("acceptance", *a));
        let rules = Rule::ALL.iter().map(|rule| ("ruleConfidence", rule.confidence(self)));
        let mut shares = shares.into_iter().chain(acceptance).chain(rules);
        if let Some((field, _)) = shares.find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return fail(field, "must be between 0 and 1");
        }
        let positive = [
            ("roundingUnitCents", self.rounding_unit_cents),
            ("defaultBasePriceCents", self.default_base_price_cents),
            ("frequencyWindowDays", self.frequency_window_days),
            ("demandMinTenThousandths", self.demand_min_ten_thousandths),
            ("highPriceHundredths", self.high_price_hundredths),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, v)| *v <= 0) {
            return fail(field, "must be above 0");
        }
        let numbers = [
            ("frequencyWindowMonths", self.frequency_window_months),
            ("willingnessCap", self.willingness_cap),
            ("responseHoursMin", self.response_hours_min),
            ("averageUserPoints", self.average_user_points),
            ("confidenceBase", self.confidence_base),
            ("confidencePoints", self.confidence_points),
            ("preferenceWeight", self.preference_weight),
            ("lastAcceptedFactor", self.last_accepted_factor),
        ];
        let weights = self.flexibility_weights.map(|w| ("flexibilityWeights", w));
        let mut numbers = numbers.into_iter().chain(weights);
        if let Some((field, _)) = numbers.find(|(_, n)| !(0.0..=1e6).contains(n)) {
            return fail(field, "must be between 0 and 1 000 000");
        }
        let mut of_table = self.table.rows().into_iter().flat_map(|row| [row.threshold, row.points]);
        if of_table.any(|n| !(-1e6..=1e6).contains(&n)) {
            return fail("table", "must hold numbers between -1 000 000 and 1 000 000");
        }
        let amounts = [
            ("buyoutFeePerMille", self.buyout_fee_per_mille),
            ("crashShareHundredths", self.crash_share_hundredths),
            ("crashFeeCents", self.crash_fee_cents),
            ("swapFeeCents", self.swap_fee_cents),
            ("swapWindowDays", self.swap_window_days),
            ("lowMultiplierHundredths", self.low_multiplier_hundredths),
            ("criticalMultiplierHundredths", self.critical_multiplier_hundredths),
            ("demandMaxTenThousandths", self.demand_max_ten_thousandths),
            ("frequencyWindowDays", self.frequency_window_days),
            ("roundingUnitCents", self.rounding_unit_cents),
        ];
        if let Some((field, _)) = amounts.iter().find(|(_, v)| !(0..=1_000_000).contains(v)) {
            return fail(field, "must be between 0 and 1 000 000");
        }
        if self.demand_max_ten_thousandths < self.demand_min_ten_thousandths {
            return fail("demandMaxTenThousandths", "must not be below demandMinTenThousandths");
        }
        if !(self.critical_max_days <= self.high_max_days && self.high_max_days <= self.medium_max_days) {
            return fail("mediumMaxDays", "the urgency bands must follow each other");
        }
        if !(self.critical_multiplier_hundredths >= self.high_multiplier_hundredths
            && self.high_multiplier_hundredths >= self.medium_multiplier_hundredths
            && self.medium_multiplier_hundredths >= self.low_multiplier_hundredths)
        {
            return fail("criticalMultiplierHundredths", "a nearer date must not be cheaper");
        }
        if self.confidence_min > self.confidence_max || self.acceptance_min > self.acceptance_max {
            return fail("confidenceMax", "a greatest value must not be below the least");
        }
        if self.confidence_points <= 0.0 || self.frequency_window_months <= 0.0 || self.willingness_cap <= 0.0
        {
            return fail("confidencePoints", "divisors must be above 0");
        }
        if self.signal_requests == 0 || self.signal_requests > 1_000 || self.history_requests == 0 {
            return fail("signalRequests", "must be between 1 and 1000");
        }
        if self.name.is_empty() || self.name.len() > 64 {
            return fail("name", "must have 1 to 64 characters");
        }
        if self.name == Self::RULES_V1 && *self != Self::default() {
            return fail(
                "name",
                "`rules-v1` is the specification's numbers; give a changed policy a name of its own",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_overflow_or_poison_a_decision_are_refused() {
        let changed = |change: fn(&mut Policy)| {
            let mut policy = Policy { name: "other".into(), ..Policy::default() };
            change(&mut policy);
            policy.validate().map_err(|refused| refused.field)
        };
        assert_eq!(changed(|_| ()), Ok(()));
        assert_eq!(changed(|p| p.last_accepted_factor = f64::NAN), Err("lastAcceptedFactor"));
        assert_eq!(changed(|p| p.confidence_points = f64::NAN), Err("confidencePoints"));
        assert_eq!(changed(|p| p.acceptance[1][2] = 1.5), Err("acceptance"));
        assert_eq!(changed(|p| p.rule_confidence.flexible_swap = -0.1), Err("ruleConfidence"));
        assert_eq!(
            changed(|p| p.table.flexibility_above_high_flexibility.points = f64::INFINITY),
            Err("table")
        );
        assert_eq!(changed(|p| p.frequency_window_days = i64::MAX), Err("frequencyWindowDays"));
        assert_eq!(changed(|p| p.demand_max_ten_thousandths = i64::MAX), Err("demandMaxTenThousandths"));
        assert_eq!(
            changed(|p| p.critical_multiplier_hundredths = i64::MAX),
            Err("criticalMultiplierHundredths")
        );
    }

    #[test]
    fn changed_numbers_need_a_name_of_their_own() {
        let mut policy = Policy { crash_share_hundredths: 20, ..Policy::default() };
        assert_eq!(policy.validate().unwrap_err().field, "name");
        policy.name = "rules-v1-cheaper".into();
        assert_eq!(policy.validate(), Ok(()));
        assert_eq!(Policy::default().validate(), Ok(()));
    }
}
