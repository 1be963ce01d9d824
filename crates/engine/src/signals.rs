//! Twelve numbers about a user, computed from their newest date change requests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::price::Cents;
use crate::vocabulary::{RequestStatus, TransactionType};

/// The side on which a user stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user asked.
    Requester,
    /// The user was asked.
    Receiver,
}

/// One date change request, as seen by one of its two parties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The request's id, which breaks ties of time.
    pub id: Box<str>,
    /// The user's side.
    pub role: Role,
    /// What was proposed.
    pub transaction_type: TransactionType,
    /// Where it stands.
    pub status: RequestStatus,
    /// The proposed price; a swap has none.
    pub proposed_price: Option<Cents>,
    /// The night's base price at that time.
    pub base_price: Option<Cents>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was answered.
    pub responded_at: Option<Timestamp>,
}

impl Request {
    /// Gives the price if the request has one: a swap's is left out even when a row holds one.
    fn price(&self) -> Option<Cents> {
        self.proposed_price.filter(|_| self.transaction_type != TransactionType::Swap)
    }
}

/// The behavioural signals of one user. Shares are 0 to 1; every value is finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signals {
    /// Mean price of accepted priced requests, in dollars.
    pub avg_transaction_value: f64,
    /// Mean of proposed over base price, capped at 2 and halved.
    pub willingness_to_pay: f64,
    /// Share of own requests that were rejected although they offered more than 1.2 times the base price.
    pub price_rejection_rate: f64,
    /// Mean hours to answer.
    pub avg_response_time_hours: f64,
    /// Accepted share of the requests received.
    pub acceptance_rate: f64,
    /// Own requests a month over the last 90 days.
    pub request_frequency_per_month: f64,
    /// Share of own requests that were buyouts.
    pub buyout_preference: f64,
    /// Share of own requests that were crashes.
    pub crash_preference: f64,
    /// Share of own requests that were swaps.
    pub swap_preference: f64,
    /// 0 to 100, from acceptance, swaps, and received over asked.
    pub flexibility_score: f64,
    /// Number of received requests that were accepted.
    pub accommodation_history: f64,
    /// Accepted received over accepted asked.
    pub reciprocity_ratio: f64,
}

impl Signals {
    /// Gives the signals of a user without any request.
    pub fn no_data(policy: &Policy) -> Self {
        Self {
            avg_transaction_value: 0.0,
            willingness_to_pay: 0.5,
            price_rejection_rate: 0.5,
            avg_response_time_hours: 24.0,
            acceptance_rate: policy.acceptance_rate_default,
            request_frequency_per_month: 0.0,
            buyout_preference: 0.33,
            crash_preference: 0.33,
            swap_preference: 0.34,
            flexibility_score: 50.0,
            accommodation_history: 0.0,
            reciprocity_ratio: 1.0,
        }
    }

    /// Gives the preference for a transaction type.
    pub fn preference(&self, transaction_type: TransactionType) -> f64 {
        match transaction_type {
            TransactionType::Buyout => self.buyout_preference,
            TransactionType::Crash => self.crash_preference,
            TransactionType::Swap => self.swap_preference,
        }
    }

    /// Says whether the user is *new*: no accepted priced transaction, and no request of their own lately.
    pub fn is_new(&self) -> bool {
        self.avg_transaction_value <= 0.0 && self.request_frequency_per_month <= 0.0
    }

    /// Lists the signals by wire name, in the order of the specification.
    pub fn named(&self) -> [(&'static str, f64); 12] {
        [
            ("avgTransactionValue", self.avg_transaction_value),
            ("willingnessToPay", self.willingness_to_pay),
            ("priceRejectionRate", self.price_rejection_rate),
            ("avgResponseTimeHours", self.avg_response_time_hours),
            ("acceptanceRate", self.acceptance_rate),
            ("requestFrequencyPerMonth", self.request_frequency_per_month),
            ("buyoutPreference", self.buyout_preference),
            ("crashPreference", self.crash_preference),
            ("swapPreference", self.swap_preference),
            ("flexibilityScore", self.flexibility_score),
            ("accommodationHistory", self.accommodation_history),
            ("reciprocityRatio", self.reciprocity_ratio),
        ]
    }

    /// Names the first signal that no history could have produced, for signals that come from outside.
    pub fn first_impossible(&self) -> Option<&'static str> {
        let greatest = |name: &str| match name {
            "willingnessToPay" | "priceRejectionRate" | "acceptanceRate" | "buyoutPreference"
            | "crashPreference" | "swapPreference" => 1.0,
            "flexibilityScore" => 100.0,
            _ => f64::MAX,
        };
        self.named()
            .into_iter()
            .find(|(name, value)| !(0.0..=greatest(name)).contains(value))
            .map(|(name, _)| name)
    }
}

/// Computes the signals from a user's requests, in any order; only the newest 50 count (a policy number).
///
/// `now` bounds the window of the request frequency.
pub fn compute_signals(requests: &[Request], now: Timestamp, policy: &Policy) -> Signals {
    let newest = newest_first(requests, policy.signal_requests);
    if newest.is_empty() {
        return Signals::no_data(policy);
    }
    let mut tally = Tally::default();
    let window_start = now.as_nanosecond() - i128::from(policy.frequency_window_days) * NANOS_PER_DAY;
    for request in &newest {
        match request.role {
            Role::Requester => tally.add_asked(request, window_start, now, policy),
            Role::Receiver => tally.add_got(request),
        }
    }
    tally.signals(policy)
}

/// Orders by newest, then by greatest id, and keeps the first `limit`.
fn newest_first(requests: &[Request], limit: usize) -> Vec<&Request> {
    let mut sorted: Vec<&Request> = requests.iter().collect();
    sorted.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
    sorted.truncate(limit);
    sorted
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// The ratio 1 in the fixed-point unit of the willingness sum. In floating point six ratios of 0.8 sum up to a mean
/// below 0.8 and would cross the archetype table's strict threshold; in this unit every ratio of finite decimals is
/// exact, and any order gives the same sum.
const RATIO_ONE: i128 = 1_000_000_000_000_000_000;

/// Sums over one user's requests: integers, so that a mean is rounded once, by its division.
#[derive(Default)]
struct Tally {
    asked: u32,
    asked_ok: u32,
    asked_lately: u32,
    asked_by_type: [u32; 3],
    price_rejections: u32,
    priced_asked: u32,
    willingness: i128,
    got: u32,
    got_ok: u32,
    responses: u32,
    response_nanos: i128,
    priced_ok: u32,
    priced_ok_cents: i128,
}

impl Tally {
    fn add_asked(&mut self, request: &Request, window_start: i128, now: Timestamp, policy: &Policy) {
        self.asked += 1;
        self.asked_by_type[match request.transaction_type {
            TransactionType::Buyout => 0,
            TransactionType::Crash => 1,
            TransactionType::Swap => 2,
        }] += 1;
        if request.created_at.as_nanosecond() >= window_start && request.created_at <= now {
            self.asked_lately += 1;
        }
        if request.status == RequestStatus::Accepted {
            self.asked_ok += 1;
            self.add_value(request);
        }
        let Some(proposed) = request.price() else { return };
        self.priced_asked += 1;
        let base = request.base_price.filter(|base| base.0 > 0);
        let ratio = base.map_or(RATIO_ONE, |base| i128::from(proposed.0) * RATIO_ONE / i128::from(base.0));
        let cap = (policy.willingness_cap * RATIO_ONE as f64) as i128;
        self.willingness = self.willingness.saturating_add(ratio.clamp(0, cap.max(0)));
        if let (RequestStatus::Rejected, Some(base)) = (request.status, base) {
            let above =
                i128::from(proposed.0) * 100 > i128::from(base.0) * i128::from(policy.high_price_hundredths);
            self.price_rejections += u32::from(above);
        }
    }

    fn add_got(&mut self, request: &Request) {
        self.got += 1;
        if request.status == RequestStatus::Accepted {
            self.got_ok += 1;
            self.add_value(request);
        }
        if let Some(responded) = request.responded_at {
            self.responses += 1;
            self.response_nanos += responded.as_nanosecond() - request.created_at.as_nanosecond();
        }
    }

    fn add_value(&mut self, request: &Request) {
        if let Some(price) = request.price() {
            self.priced_ok += 1;
            self.priced_ok_cents += i128::from(price.0.max(0));
        }
    }

    fn signals(&self, policy: &Policy) -> Signals {
        let none = Signals::no_data(policy);
        let share = |part: u32, whole: u32, otherwise: f64| {
            if whole == 0 { otherwise } else { f64::from(part) / f64::from(whole) }
        };
        let acceptance_rate = share(self.got_ok, self.got, none.acceptance_rate);
        let swap_preference = share(self.asked_by_type[2], self.asked, 0.0);
        let [w_accept, w_swap, w_received] = policy.flexibility_weights;
        // One division over the common denominator: an exact half must not fall below itself before it is rounded.
        let (got, asked) = (f64::from(self.got.max(1)), f64::from(self.asked.max(1)));
        let accepted = if self.got == 0 { none.acceptance_rate } else { f64::from(self.got_ok) };
        let of_asked = w_swap * f64::from(self.asked_by_type[2]) + w_received * f64::from(self.got);
        let flexibility = (w_accept * accepted * asked + of_asked * got) / (got * asked);
        Signals {
            avg_transaction_value: if self.priced_ok == 0 {
                none.avg_transaction_value
            } else {
                self.priced_ok_cents as f64 / f64::from(self.priced_ok) / 100.0
            },
            willingness_to_pay: if self.priced_asked == 0 {
                none.willingness_to_pay
            } else {
                let greatest = f64::from(self.priced_asked) * policy.willingness_cap * RATIO_ONE as f64;
                (self.willingness as f64 / greatest).clamp(0.0, 1.0)
            },
            price_rejection_rate: share(self.price_rejections, self.asked, 0.0),
            avg_response_time_hours: if self.responses == 0 {
                none.avg_response_time_hours
            } else {
                let hours = self.response_nanos as f64 / 3.6e12 / f64::from(self.responses);
                hours.max(policy.response_hours_min)
            },
            acceptance_rate,
            request_frequency_per_month: f64::from(self.asked_lately) / policy.frequency_window_months,
            buyout_preference: share(self.asked_by_type[0], self.asked, 0.0),
            crash_preference: share(self.asked_by_type[1], self.asked, 0.0),
            swap_preference,
            flexibility_score: flexibility.round().min(100.0),
            accommodation_history: f64::from(self.got_ok),
            reciprocity_ratio: match (self.got_ok, self.asked_ok) {
                (0, 0) => 1.0,
                (n, 0) => f64::from(n),
                (n, d) => f64::from(n) / f64::from(d),
            },
        }
    }
}
