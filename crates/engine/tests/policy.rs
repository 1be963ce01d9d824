//! Numbers of `rules-v1` that no decision under it can show, and decisions under other policies.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use jiff::Timestamp;
use jiff::civil::date;
use nudge_engine::*;

fn policy(json: &str) -> Policy {
    let policy: Policy = serde_json::from_str(json).unwrap();
    assert_eq!(policy.validate(), Ok(()));
    policy
}

fn snapshot(base_cents: i64, demand: i64, policy: &Policy) -> Snapshot {
    let demand = Demand::new(demand, policy);
    let signals = Signals { avg_transaction_value: 500.0, ..Signals::no_data(policy) };
    let person = Person { archetype: Archetype::BigSpender, confidence: 0.8, overridden: false, signals };
    Snapshot {
        target_date: date(2026, 3, 15),
        days_until_check_in: 7,
        night: Night { base_price: Cents(base_cents), demand, source: PricingSource::LeaseNight },
        audience: Audience::Personal(Box::new(Personal {
            requester: person.clone(),
            roommate: person,
            history: History { prior_requests: 1, last: None },
            offerable_nights: None,
        })),
    }
}

#[test]
fn defaults_that_others_read_are_the_specifications() {
    let policy = Policy::default();
    assert_eq!(
        (policy.name.as_str(), policy.history_requests, policy.swap_window_days),
        ("rules-v1", 10, 30)
    );
    let night = Night::default_of(&policy);
    assert_eq!((night.base_price, night.source), (Cents(15_000), PricingSource::Default));
    assert_eq!(night.demand, Demand::new(10_000, &policy));
}

#[test]
fn a_policy_gives_only_what_differs_and_nothing_unknown() {
    assert_eq!(policy("{}"), Policy::default());
    let cheaper = policy(r#"{"name": "cheaper", "crashShareHundredths": 10}"#);
    assert_eq!(cheaper, Policy { name: "cheaper".into(), crash_share_hundredths: 10, ..Policy::default() });
    assert!(serde_json::from_str::<Policy>(r#"{"crashShare": 10}"#).is_err());
    let text = serde_json::to_string(&Policy::default()).unwrap();
    assert_eq!(policy(&text), Policy::default());
}

#[test]
fn the_rounding_unit_is_configuration() {
    let cents = policy(r#"{"name": "cents", "roundingUnitCents": 1}"#);
    let decision = decide(&snapshot(1_000, 11_600, &cents), &cents);
    let amounts = decision.options.map(|option| (option.price, option.platform_fee));
    // 10 × 1.25 × 1.16 = 14.50, its fee 0.2175; a crash 0.18 × 14.50 = 2.61.
    assert_eq!(amounts, [(Cents(1_450), Cents(22)), (Cents(261), Cents(500)), (Cents(0), Cents(500))]);
    let fives = policy(r#"{"name": "fives", "roundingUnitCents": 500}"#);
    let decision = decide(&snapshot(1_000, 11_600, &fives), &fives);
    assert_eq!(decision.options.map(|option| option.price), [Cents(1_500), Cents(500), Cents(0)]);
}

#[test]
fn acceptance_is_never_below_its_least() {
    let unwilling =
        policy(r#"{"name": "unwilling", "acceptance": [[0.1, 0, 0], [0.2, 0, 0], [0.21, 0, 0]]}"#);
    let decision = decide(&snapshot(15_000, 10_000, &unwilling), &unwilling);
    let confidences = decision.options.map(|option| (option.confidence * 100.0).round());
    assert!(confidences.iter().zip([20.0, 20.0, 21.0]).all(|(c, e)| (c - e).abs() < 1e-9), "{confidences:?}");
}

#[test]
fn a_classification_is_never_less_sure_than_the_least() {
    let unsure = policy(r#"{"name": "unsure", "confidenceBase": 0}"#);
    let tie = Signals { avg_transaction_value: 200.0, flexibility_score: 80.0, ..Signals::no_data(&unsure) };
    let classification = classify(&tie, &unsure);
    assert_eq!(classification.archetype, Archetype::AverageUser);
    assert!((classification.confidence - 0.4).abs() < 1e-12, "{}", classification.confidence);
}

/// Stored rows hold no negative price; if one ever does, it must not make up for the positive ones.
#[test]
fn a_negative_price_counts_as_none_paid() {
    let policy = Policy::default();
    let signals = |cents: i64| {
        let row = |(i, cents): (usize, i64)| Request {
            id: i.to_string().into(),
            role: Role::Requester,
            transaction_type: TransactionType::Buyout,
            status: RequestStatus::Accepted,
            proposed_price: Some(Cents(cents)),
            base_price: Some(Cents(10_000)),
            created_at: Timestamp::UNIX_EPOCH,
            responded_at: None,
        };
        let rows: Vec<Request> = [cents, 15_000].into_iter().enumerate().map(row).collect();
        compute_signals(&rows, Timestamp::UNIX_EPOCH, &policy)
    };
    assert_eq!(signals(-10_000), signals(0));
    assert_eq!(signals(i64::MIN), signals(0));
}
