//! Wire types that the API, the command line and the record share: converted once from what the engine says.

use nudge_engine::{Cents, Decision, Param, PricedOption, Reason, TransactionType};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A number as JSON prints it: whole ones without a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Num(pub f64);

impl Num {
    /// Gives the number as a JSON value.
    pub fn value(self) -> Value {
        match self.whole() {
            Some(whole) => Value::from(whole),
            None => Value::from(self.0),
        }
    }

    fn whole(self) -> Option<i64> {
        (self.0.fract().abs() < f64::MIN_POSITIVE && self.0.abs() < 9e15).then_some(self.0 as i64)
    }
}

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole() {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl From<Cents> for Num {
    fn from(cents: Cents) -> Self {
        Self(cents.dollars())
    }
}

/// One reason.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReasonBody {
    /// Registered code.
    code: &'static str,
    /// Computed values by name; money in dollars.
    #[schema(value_type = serde_json::Map<String, Value>)]
    params: Params,
    /// The sentence.
    text: String,
}

/// The computed values of a reason, as a JSON object.
#[derive(Debug)]
struct Params(Vec<(&'static str, Param)>);

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, param) in &self.0 {
            match param {
                Param::Integer(n) => map.serialize_entry(name, n)?,
                Param::Number(n) => map.serialize_entry(name, &Num(*n))?,
                Param::Money(cents) => map.serialize_entry(name, &Num::from(*cents))?,
                Param::Word(word) => map.serialize_entry(name, word)?,
            }
        }
        map.end()
    }
}

impl From<&Reason> for ReasonBody {
    fn from(reason: &Reason) -> Self {
        Self { code: reason.code(), params: Params(reason.params()), text: reason.text() }
    }
}

/// One option. Money is in dollars.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptionBody {
    /// `buyout`, `crash` or `swap`.
    r#type: &'static str,
    /// Price.
    #[schema(value_type = f64)]
    price: Num,
    /// Disclosed platform fee.
    #[schema(value_type = f64)]
    platform_fee: Num,
    /// What the requester pays.
    #[schema(value_type = f64)]
    total_cost: Num,
    /// 1 to 3.
    priority: u8,
    /// True on the first.
    recommended: bool,
    /// How readily the roommate takes this type, 0.2 to 0.95.
    #[schema(value_type = f64)]
    confidence: Num,
    /// What the roommate gets.
    #[schema(value_type = f64)]
    roommate_receives: Num,
    /// What the platform gets.
    #[schema(value_type = f64)]
    platform_receives: Num,
    /// 1 to 1.5.
    #[schema(value_type = f64)]
    urgency_multiplier: Num,
    /// 0 to 0.95.
    #[schema(value_type = f64)]
    estimated_acceptance_probability: Num,
    /// Buyout total less this total; absent on the buyout, may be negative for very cheap nights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    savings_vs_buyout: Option<Num>,
    /// True on the swap; absent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    requires_user_night: Option<bool>,
    /// Own nights that could be offered; on the swap only, absent when it cannot be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    potential_matches: Option<u32>,
    /// The reasons' sentences.
    reasoning: Vec<String>,
    /// The reasons with codes and values.
    reasons: Vec<ReasonBody>,
}

/// Converts the options of a decision.
pub fn options(decision: &Decision) -> [OptionBody; 3] {
    let urgency_multiplier = Num(decision.urgency.multiplier());
    let mut priority = 0;
    decision.options.each_ref().map(|option| {
        priority += 1;
        option_body(option, priority, urgency_multiplier)
    })
}

fn option_body(option: &PricedOption, priority: u8, urgency_multiplier: Num) -> OptionBody {
    let reasons: Vec<ReasonBody> = option.reasons.iter().map(ReasonBody::from).collect();
    OptionBody {
        r#type: option.transaction_type.as_str(),
        price: option.price.into(),
        platform_fee: option.platform_fee.into(),
        total_cost: option.total_cost.into(),
        priority,
        recommended: priority == 1,
        confidence: Num(option.confidence),
        roommate_receives: option.roommate_receives.into(),
        platform_receives: option.platform_receives.into(),
        urgency_multiplier,
        estimated_acceptance_probability: Num(option.probability),
        savings_vs_buyout: option.savings_vs_buyout.map(Num::from),
        requires_user_night: (option.transaction_type == TransactionType::Swap).then_some(true),
        potential_matches: option.potential_matches,
        reasoning: reasons.iter().map(|r| r.text.clone()).collect(),
        reasons,
    }
}
