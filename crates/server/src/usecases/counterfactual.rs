//! What would have to change for another default: one input at a time is changed, and the engine decides again.
//!
//! Nothing here knows a rule. Every claim is the answer of [`decide`] to a changed snapshot, so that it stays true when
//! the rules change.

use nudge_engine::{
    Archetype, Audience, Cents, Decision, Demand, History, Personal, Policy, Rule, Signals, Snapshot,
    TransactionType, classify, decide, score_table,
};

/// Most days that are tried in either direction. Beyond, no rule of any sensible policy changes.
const MOST_DAYS: i64 = 400;

/// What was changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Check-in in so many days, the nearest number that gives another default.
    Days(i64),
    /// The requester's archetype, as an override would set it.
    Archetype(Archetype),
    /// The number of the requester's earlier requests.
    PriorRequests(u32),
    /// One signal of the requester, the least change that gives another default; what it makes the requester.
    Signal {
        /// The signal's wire name.
        name: String,
        /// Its value in the record.
        from: f64,
        /// The changed value.
        to: f64,
        /// The archetype that the changed signals give.
        archetype: Archetype,
    },
}

/// A change that gives another default.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// What was changed.
    pub change: Change,
    /// The rule that would have decided.
    pub rule: Rule,
    /// The default that it gives.
    pub primary: TransactionType,
}

/// What was tried and what came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counterfactuals {
    /// Changes that give another default.
    pub flips: Vec<Flip>,
    /// Inputs that were changed to their extremes and left the default as it is.
    pub without_effect: Vec<&'static str>,
}

/// Finds single changes of a decision's inputs that give another default.
pub fn counterfactuals(snapshot: &Snapshot, policy: &Policy) -> Counterfactuals {
    let base = decide(snapshot, policy);
    let mut found = Counterfactuals::default();
    days(snapshot, policy, &base, &mut found);
    if let Audience::Personal(personal) = &snapshot.audience {
        let tried = Tried { snapshot, personal, policy, base: &base };
        tried.archetypes(&mut found);
        tried.history(&mut found);
        tried.signals(&mut found);
        tried.roommate(&mut found);
    }
    let prices = [Cents(1), Cents(10_000_000)].map(|base_price| {
        let mut changed = snapshot.clone();
        changed.night.base_price = base_price;
        changed
    });
    let demands = [policy.demand_min_ten_thousandths, policy.demand_max_ten_thousandths].map(|demand| {
        let mut changed = snapshot.clone();
        changed.night.demand = Demand::new(demand, policy);
        changed
    });
    for (name, changed) in [("the night's base price", prices), ("the market demand", demands)] {
        if changed.iter().all(|changed| decide(changed, policy).primary() == base.primary()) {
            found.without_effect.push(name);
        }
    }
    found
}

/// The nearest day in each direction on which the default is another.
fn days(snapshot: &Snapshot, policy: &Policy, base: &Decision, found: &mut Counterfactuals) {
    let on = |days: i64| {
        let decision = decide(&Snapshot { days_until_check_in: days, ..snapshot.clone() }, policy);
        (decision.primary() != base.primary()).then(|| flip(Change::Days(days), &decision))
    };
    let now = snapshot.days_until_check_in.max(0);
    let earlier = (0..now.min(MOST_DAYS)).rev().find_map(on);
    let later = (now + 1..=now.saturating_add(MOST_DAYS)).find_map(on);
    if earlier.is_none() && later.is_none() {
        found.without_effect.push("the days until check-in");
    }
    found.flips.extend(earlier.into_iter().chain(later));
}

fn flip(change: Change, decision: &Decision) -> Flip {
    Flip { change, rule: decision.rule, primary: decision.primary() }
}

struct Tried<'a> {
    snapshot: &'a Snapshot,
    personal: &'a Personal,
    policy: &'a Policy,
    base: &'a Decision,
}

impl Tried<'_> {
    fn decide(&self, change: impl FnOnce(&mut Personal)) -> Decision {
        let mut personal = self.personal.clone();
        change(&mut personal);
        let audience = Audience::Personal(Box::new(personal));
        decide(&Snapshot { audience, ..self.snapshot.clone() }, self.policy)
    }

    fn is_another(&self, decision: &Decision) -> bool {
        decision.primary() != self.base.primary()
    }

    fn archetypes(&self, found: &mut Counterfactuals) {
        let mut any = false;
        for archetype in Archetype::ALL {
            if *archetype == self.personal.requester.archetype {
                continue;
            }
            let decision = self.decide(|personal| {
                personal.requester.archetype = *archetype;
                personal.requester.confidence = 1.0;
                personal.requester.overridden = true;
            });
            if self.is_another(&decision) {
                any = true;
                found.flips.push(flip(Change::Archetype(*archetype), &decision));
            }
        }
        if !any {
            found.without_effect.push("the requester's archetype");
        }
    }

    fn history(&self, found: &mut Counterfactuals) {
        let prior_requests = if self.personal.history.prior_requests == 0 { 1 } else { 0 };
        let decision =
            self.decide(|personal| personal.history = History { prior_requests, ..personal.history });
        if self.is_another(&decision) {
            found.flips.push(flip(Change::PriorRequests(prior_requests), &decision));
        } else {
            found.without_effect.push("whether the requester has earlier requests");
        }
    }

    /// The least change of each signal alone that makes the requester of another archetype, and that another default.
    fn signals(&self, found: &mut Counterfactuals) {
        if self.personal.requester.overridden {
            return;
        }
        let signals = &self.personal.requester.signals;
        let table = score_table(signals, self.policy);
        let mut any = false;
        for (name, from) in signals.named() {
            let thresholds = table.iter().filter(|row| row.signal == name).map(|row| row.threshold);
            let mut candidates: Vec<f64> = thresholds.flat_map(|at| around(name, at)).collect();
            candidates.sort_by(|a, b| (a - from).abs().total_cmp(&(b - from).abs()));
            let nearest = candidates.into_iter().find_map(|to| {
                let changed = with(signals, name, to)?;
                let class = classify(&changed, self.policy);
                let decision = self.decide(|personal| {
                    personal.requester.signals = changed;
                    personal.requester.archetype = class.archetype;
                    personal.requester.confidence = class.confidence;
                });
                let change = Change::Signal { name: name.to_owned(), from, to, archetype: class.archetype };
                self.is_another(&decision).then(|| flip(change, &decision))
            });
            any |= nearest.is_some();
            found.flips.extend(nearest);
        }
        if !any {
            found.without_effect.push("any one of the requester's signals alone");
        }
    }

    fn roommate(&self, found: &mut Counterfactuals) {
        let archetypes = Archetype::ALL.iter().all(|archetype| {
            let decision = self.decide(|personal| {
                personal.roommate.archetype = *archetype;
                personal.roommate.overridden = true;
            });
            !self.is_another(&decision)
        });
        let nights = [Some(0), Some(30), None]
            .into_iter()
            .all(|nights| !self.is_another(&self.decide(|personal| personal.offerable_nights = nights)));
        for (same, name) in [
            (archetypes, "the roommate's archetype"),
            (nights, "the nights that the requester could offer in return"),
        ] {
            if same {
                found.without_effect.push(name);
            }
        }
    }
}

/// Values at a threshold and just on its other sides: the comparison is strict, so the threshold itself fires nothing.
fn around(signal: &str, threshold: f64) -> [f64; 3] {
    let unit = match signal {
        "avgTransactionValue" | "accommodationHistory" | "flexibilityScore" => 1.0,
        "avgResponseTimeHours" | "requestFrequencyPerMonth" => 0.1,
        _ => 0.01,
    };
    let rounded = |value: f64| (value * 1e6).round() / 1e6;
    [rounded(threshold - unit), threshold, rounded(threshold + unit)]
}

/// Gives the signals with one of them changed; `None` where no history could have produced them.
fn with(signals: &Signals, name: &str, to: f64) -> Option<Signals> {
    let mut value = serde_json::to_value(signals).ok()?;
    *value.get_mut(name)? = serde_json::Value::from(to);
    let changed: Signals = serde_json::from_value(value).ok()?;
    changed.first_impossible().is_none().then_some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use nudge_engine::{LastRequest, Night, Person};

    fn snapshot(archetype: Archetype, days: i64, prior_requests: u32, signals: Signals) -> Snapshot {
        let policy = Policy::default();
        let person = Person { archetype, confidence: 0.8, overridden: false, signals };
        let last = LastRequest { transaction_type: TransactionType::Crash, accepted: true };
        Snapshot {
            target_date: date(2026, 3, 16),
            days_until_check_in: days,
            night: Night::default_of(&policy),
            audience: Audience::Personal(Box::new(Personal {
                requester: person.clone(),
                roommate: person,
                history: History { prior_requests, last: Some(last) },
                offerable_nights: Some(1),
            })),
        }
    }

    fn flips(snapshot: &Snapshot) -> Vec<(Change, &'static str, &'static str)> {
        let found = counterfactuals(snapshot, &Policy::default());
        found.flips.into_iter().map(|f| (f.change, f.rule.as_str(), f.primary.as_str())).collect()
    }

    #[test]
    fn the_nearest_days_are_those_at_the_edge_of_a_rule() {
        let signals = Signals::no_data(&Policy::default());
        // average_medium, a crash: 22 days give a swap; fewer days give a crash as well.
        let found = flips(&snapshot(Archetype::AverageUser, 10, 3, signals));
        assert_eq!(found[0], (Change::Days(22), "average_relaxed", "swap"));
        assert!(!found[1..].iter().any(|(change, ..)| matches!(change, Change::Days(_))));
        let found = flips(&snapshot(Archetype::AverageUser, 60, 3, signals));
        assert_eq!(found[0], (Change::Days(21), "average_medium", "crash"));
    }

    #[test]
    fn archetypes_and_history_are_tried_each() {
        let signals = Signals::no_data(&Policy::default());
        let found = flips(&snapshot(Archetype::AverageUser, 10, 3, signals));
        assert!(found.contains(&(Change::Archetype(Archetype::BigSpender), "big_spender_urgent", "buyout")));
        assert!(found.contains(&(Change::Archetype(Archetype::HighFlexibility), "flexible_swap", "swap")));
        let found = flips(&snapshot(Archetype::BigSpender, 10, 3, signals));
        assert!(found.contains(&(Change::PriorRequests(0), "new_user", "crash")));
        // A new user's archetype changes nothing, a first request does.
        let newcomer = snapshot(Archetype::BigSpender, 10, 0, signals);
        assert_eq!(flips(&newcomer), [(Change::PriorRequests(1), "big_spender_urgent", "buyout")]);
        let without = counterfactuals(&newcomer, &Policy::default()).without_effect;
        for name in ["the days until check-in", "the requester's archetype", "the night's base price"] {
            assert!(without.contains(&name), "{without:?}");
        }
    }

    #[test]
    fn a_signal_is_moved_as_little_as_it_takes_and_no_further_than_is_possible() {
        let policy = Policy::default();
        // 45 points for big_spender: one more row is enough.
        let signals = Signals {
            avg_transaction_value: 900.0,
            willingness_to_pay: 0.72,
            price_rejection_rate: 0.3,
            avg_response_time_hours: 5.0,
            acceptance_rate: 0.5,
            ..Signals::no_data(&policy)
        };
        let class = classify(&signals, &policy);
        assert_eq!(class.archetype, Archetype::AverageUser);
        let found = flips(&snapshot(class.archetype, 10, 3, signals));
        let moved: Vec<_> = found
            .iter()
            .filter_map(|(change, _, primary)| match change {
                Change::Signal { name, to, archetype, .. } => {
                    Some((name.as_str(), *to, archetype.as_str(), *primary))
                }
                _ => None,
            })
            .collect();
        assert!(moved.contains(&("priceRejectionRate", 0.29, "big_spender", "buyout")), "{moved:?}");
        assert!(moved.contains(&("avgTransactionValue", 1_001.0, "big_spender", "buyout")), "{moved:?}");
        assert!(moved.iter().all(|(name, ..)| *name != "crashPreference"), "it is in no row");
    }

    #[test]
    fn an_overridden_requester_is_not_told_of_signals() {
        let mut snapshot = snapshot(Archetype::BigSpender, 10, 3, Signals::no_data(&Policy::default()));
        let Audience::Personal(personal) = &mut snapshot.audience else { unreachable!() };
        personal.requester.overridden = true;
        assert!(!flips(&snapshot).iter().any(|(change, ..)| matches!(change, Change::Signal { .. })));
    }

    #[test]
    fn nothing_changes_a_neutral_default() {
        let neutral = Snapshot {
            audience: Audience::Neutral(nudge_engine::NeutralCause::Anonymous),
            ..snapshot(Archetype::BigSpender, 10, 3, Signals::no_data(&Policy::default()))
        };
        let found = counterfactuals(&neutral, &Policy::default());
        assert_eq!(found.flips, []);
        assert_eq!(
            found.without_effect,
            ["the days until check-in", "the night's base price", "the market demand"]
        );
    }
}
