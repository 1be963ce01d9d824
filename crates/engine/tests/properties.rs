//! What must hold for every input: the domain specification's section 8, and the finiteness of its section 2.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use nudge_engine::*;
use proptest::prelude::*;
use proptest::sample::select;

/// Words that claim what nobody computed, or press people.
const FORBIDDEN: [&str; 14] = [
    "guaranteed",
    "guarantee",
    "immediate",
    "immediately",
    "instant",
    "similar users",
    "users like you",
    "only",
    "hurry",
    "last chance",
    "limited",
    "popular",
    "most people",
    "act now",
];

/// 512 cases a property; a failure prints its smallest input, which then becomes a golden case or a fix.
fn thorough() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

fn now() -> Timestamp {
    "2026-03-15T12:00:00.5Z".parse().unwrap()
}

fn transaction_type() -> impl Strategy<Value = TransactionType> {
    select(TransactionType::ALL)
}

/// Prices as databases hold them at their worst.
fn price() -> impl Strategy<Value = Option<Cents>> {
    prop_oneof![
        1 => Just(None),
        4 => (0..300_000i64).prop_map(|cents| Some(Cents(cents))),
        1 => any::<i64>().prop_map(|cents| Some(Cents(cents))),
        1 => select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]).prop_map(|cents| Some(Cents(cents))),
    ]
}

/// Times near now, at the ends of the 90-day window, at the ends of time, and often equal.
fn timestamp() -> impl Strategy<Value = Timestamp> {
    let near = |seconds: i64| now() - SignedDuration::from_secs(seconds);
    prop_oneof![
        4 => (-86_400i64..200 * 86_400).prop_map(near),
        2 => (0..5i64).prop_map(move |hours| near(hours * 3_600)),
        1 => (-2..3i64).prop_map(|nanos| {
            now() - SignedDuration::from_hours(90 * 24) + SignedDuration::from_nanos(nanos)
        }),
        1 => (Timestamp::MIN.as_second()..Timestamp::MAX.as_second())
            .prop_map(|second| Timestamp::from_second(second).unwrap()),
        1 => select(vec![Timestamp::MIN, Timestamp::MAX]),
    ]
}

/// Rows without any order between their fields, each with an id of its own.
fn requests(greatest_count: usize) -> impl Strategy<Value = Vec<Request>> {
    let row = (
        select(vec![Role::Requester, Role::Receiver]),
        transaction_type(),
        select(RequestStatus::ALL),
        price(),
        price(),
        timestamp(),
        proptest::option::of(timestamp()),
    );
    proptest::collection::vec(row, 0..=greatest_count).prop_map(|rows| {
        let request = |(i, row)| {
            let (role, transaction_type, status, proposed_price, base_price, created_at, responded_at) = row;
            let id = format!("{:03}", (i * 53) % 997).into();
            Request {
                id,
                role,
                transaction_type,
                status,
                proposed_price,
                base_price,
                created_at,
                responded_at,
            }
        };
        rows.into_iter().enumerate().map(request).collect()
    })
}

/// Signals that some history could have produced, and their ends.
fn signals() -> impl Strategy<Value = Signals> {
    let share = || prop_oneof![4 => 0.0..=1.0f64, 1 => select(vec![0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0])];
    let count = || prop_oneof![4 => 0.0..5_000.0f64, 1 => select(vec![0.0, 0.5, 1.5, 2.0, 3.0, 10.0, 300.0, 1_000.0, f64::MAX])];
    let shares = (share(), share(), share(), share(), share(), share());
    let counts = (count(), count(), count(), count(), count(), 0..=100u8);
    let any_signals = (shares, counts).prop_map(|(shares, counts)| Signals {
        avg_transaction_value: counts.0,
        willingness_to_pay: shares.0,
        price_rejection_rate: shares.1,
        avg_response_time_hours: counts.1,
        acceptance_rate: shares.2,
        request_frequency_per_month: counts.2,
        buyout_preference: shares.3,
        crash_preference: shares.4,
        swap_preference: shares.5,
        flexibility_score: f64::from(counts.5),
        accommodation_history: counts.3,
        reciprocity_ratio: counts.4,
    });
    prop_oneof![
        4 => any_signals,
        1 => Just(Signals::no_data(&Policy::default())),
        1 => requests(20).prop_map(|rows| compute_signals(&rows, now(), &Policy::default())),
    ]
}

fn person() -> impl Strategy<Value = Person> {
    (select(Archetype::ALL), 0.4..=1.0f64, any::<bool>(), signals()).prop_map(
        |(archetype, confidence, overridden, signals)| Person { archetype, confidence, overridden, signals },
    )
}

fn personal() -> impl Strategy<Value = Audience> {
    let last = (transaction_type(), any::<bool>())
        .prop_map(|(transaction_type, accepted)| LastRequest { transaction_type, accepted });
    let history = (0..=10u32, proptest::option::of(last))
        .prop_map(|(prior_requests, last)| History { prior_requests, last });
    let nights = proptest::option::of(prop_oneof![0..4u32, Just(u32::MAX)]);
    (person(), person(), history, nights).prop_map(|(requester, roommate, history, offerable_nights)| {
        Audience::Personal(Box::new(Personal { requester, roommate, history, offerable_nights }))
    })
}

fn audience() -> impl Strategy<Value = Audience> {
    prop_oneof![1 => select(NeutralCause::ALL).prop_map(Audience::Neutral), 4 => personal()]
}

/// Base prices from nothing to the greatest that a night may have, 100 000 dollars.
fn base_price() -> impl Strategy<Value = Cents> {
    prop_oneof![0..=10_000_000i64, 0..=3_000i64].prop_map(Cents)
}

fn demand() -> impl Strategy<Value = Demand> {
    (6_000..=15_000i64).prop_map(|units| Demand::new(units, &Policy::default()))
}

fn days() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..40i64, 1 => any::<i64>(), 1 => select(vec![i64::MIN, i64::MAX])]
}

fn target_date() -> impl Strategy<Value = Date> {
    (0..2_932_897i64).prop_map(|days| date(1970, 1, 1) + days.days())
}

fn snapshot_for(audience: impl Strategy<Value = Audience>) -> impl Strategy<Value = Snapshot> {
    (target_date(), days(), base_price(), demand(), select(PricingSource::ALL), audience).prop_map(
        |(target_date, days_until_check_in, base_price, demand, source, audience)| Snapshot {
            target_date,
            days_until_check_in,
            night: Night { base_price, demand, source },
            audience,
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    snapshot_for(audience())
}

fn decision(snapshot: &Snapshot) -> Decision {
    decide(snapshot, &Policy::default())
}

fn option_of(decision: &Decision, transaction_type: TransactionType) -> &PricedOption {
    decision.options.iter().find(|option| option.transaction_type == transaction_type).unwrap()
}

/// The amounts of the three options in the order of the vocabulary, with nothing of the order of the decision.
fn amounts(decision: &Decision) -> Vec<(Cents, Cents, Cents, Cents, Cents, Option<Cents>)> {
    let of = |t: &TransactionType| {
        let o = option_of(decision, *t);
        (o.price, o.platform_fee, o.total_cost, o.roommate_receives, o.platform_receives, o.savings_vs_buyout)
    };
    TransactionType::ALL.iter().map(of).collect()
}

fn bits(signals: &Signals) -> Vec<u64> {
    signals.named().iter().map(|(_, value)| value.to_bits()).collect()
}

fn contains_words(text: &str, words: &str) -> bool {
    let spaced = |t: &str| {
        let letters = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
        format!(
            " {} ",
            t.chars().map(letters).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
        )
    };
    spaced(text).contains(&spaced(words))
}

// --- signals and archetype ---

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn signals_are_finite_whatever_the_rows_hold(rows in requests(70), now in timestamp()) {
        let signals = compute_signals(&rows, now, &Policy::default());
        for (name, value) in signals.named() {
            prop_assert!(value.is_finite(), "{name} is {value}");
        }
        prop_assert_eq!(signals.first_impossible(), None);
        prop_assert!(signals.avg_response_time_hours >= 0.1);
        prop_assert!(signals.flexibility_score.fract() == 0.0);
        prop_assert!(signals.request_frequency_per_month <= 50.0 / 3.0);
    }

    #[test]
    fn signals_do_not_depend_on_the_order_of_the_rows(
        (rows, shuffled) in requests(70).prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))
    ) {
        let policy = Policy::default();
        let (one, other) = (compute_signals(&rows, now(), &policy), compute_signals(&shuffled, now(), &policy));
        prop_assert_eq!(bits(&one), bits(&other));
        prop_assert_eq!(classify(&one, &policy), classify(&other, &policy));
    }

    #[test]
    fn what_is_older_than_the_newest_fifty_changes_nothing(rows in requests(40), older in requests(30)) {
        let policy = Policy::default();
        let after_epoch = |row: &Request| row.created_at > Timestamp::UNIX_EPOCH;
        let mut rows: Vec<Request> = rows.into_iter().filter(after_epoch).collect();
        let filler = |i: usize| Request {
            id: format!("f{i}").into(),
            role: Role::Requester,
            transaction_type: TransactionType::Crash,
            status: RequestStatus::Pending,
            proposed_price: Some(Cents(3_000)),
            base_price: Some(Cents(15_000)),
            created_at: now(),
            responded_at: None,
        };
        rows.extend((rows.len()..50).map(filler));
        let of_fifty = compute_signals(&rows, now(), &policy);
        rows.extend(older.into_iter().map(|row| Request { created_at: Timestamp::UNIX_EPOCH, ..row }));
        prop_assert_eq!(bits(&of_fifty), bits(&compute_signals(&rows, now(), &policy)));
    }

    #[test]
    fn scores_are_the_sum_of_their_rows(signals in signals()) {
        let classification = classify(&signals, &Policy::default());
        let scores = &classification.scores;
        let sum = |archetype| -> f64 {
            scores.breakdown.iter().filter(|row| row.archetype == archetype).map(|row| row.points).sum()
        };
        let totals = [scores.big_spender, scores.high_flexibility, scores.average_user];
        let sums =
            [sum(Archetype::BigSpender), sum(Archetype::HighFlexibility), 50.0 + sum(Archetype::AverageUser)];
        for (total, sum) in totals.iter().zip(sums) {
            prop_assert!((total - sum).abs() < 1e-9, "{totals:?} is not {sums:?}");
        }
        let greatest = totals.into_iter().fold(0.0, f64::max);
        let later = totals.iter().rposition(|total| *total >= greatest).unwrap();
        prop_assert_eq!(classification.archetype, Archetype::ALL[later]);
        let new = signals.avg_transaction_value == 0.0 && signals.request_frequency_per_month == 0.0;
        let most = if new { 0.6 } else { 0.95 };
        prop_assert!((0.4..=most).contains(&classification.confidence), "{}", classification.confidence);
        prop_assert!(classification.reasoning().len() == scores.breakdown.len().min(5));
    }

    #[test]
    fn a_score_row_never_contradicts_itself(signals in signals()) {
        for row in classify(&signals, &Policy::default()).scores.breakdown {
            let text = row.text();
            let (_, rest) = text.split_once(" is ").unwrap();
            let (value, rest) = rest.split_once(", ").unwrap();
            let (comparison, _) = rest.split_once(':').unwrap();
            let (side, threshold) = comparison.split_once(' ').unwrap();
            let (value, threshold): (f64, f64) = (value.parse().unwrap(), threshold.parse().unwrap());
            prop_assert!(if side == "above" { value > threshold } else { value < threshold }, "{text}");
            prop_assert!((value - row.value).abs() <= 0.005 + row.value.abs() * 1e-12, "{text}: {}", row.value);
        }
    }
}

// --- prices ---

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn prices_do_not_depend_on_who_asks(one in snapshot(), someone_else in audience()) {
        let other = Snapshot { audience: someone_else, ..one.clone() };
        prop_assert_eq!(amounts(&decision(&one)), amounts(&decision(&other)));
    }

    #[test]
    fn prices_depend_on_the_date_by_urgency_alone(one in snapshot(), target_date in target_date()) {
        let other = Snapshot { target_date, ..one.clone() };
        prop_assert_eq!(amounts(&decision(&one)), amounts(&decision(&other)));
    }

    #[test]
    fn prices_rise_with_base_urgency_and_demand(
        one in snapshot(), base in base_price(), nearer in days(), demand in demand()
    ) {
        let dearer = Cents(base.0.max(one.night.base_price.0));
        let busier = demand.max(one.night.demand);
        let cheap = decision(&one);
        for (what, other) in [
            ("base", Snapshot { night: Night { base_price: dearer, ..one.night }, ..one.clone() }),
            ("demand", Snapshot { night: Night { demand: busier, ..one.night }, ..one.clone() }),
            ("urgency", Snapshot { days_until_check_in: nearer.min(one.days_until_check_in), ..one.clone() }),
        ] {
            let dear = decision(&other);
            for t in TransactionType::ALL {
                let (low, high) = (option_of(&cheap, *t), option_of(&dear, *t));
                prop_assert!(low.price <= high.price, "{what}: {t} {} > {}", low.price, high.price);
                prop_assert!(low.platform_fee <= high.platform_fee, "{what}: fee of {t}");
                prop_assert!(low.total_cost <= high.total_cost, "{what}: total of {t}");
                prop_assert!(low.roommate_receives <= high.roommate_receives, "{what}: roommate's part of {t}");
            }
        }
    }

    #[test]
    fn prices_are_rounded_once_and_half_up(one in snapshot()) {
        let decision = decision(&one);
        let multiplier = match one.days_until_check_in {
            ..=3 => 150,
            4..=7 => 125,
            8..=14 => 110,
            _ => 100,
        };
        // Exact amounts as fractions of a dollar: numerator over 100 (cents) × 100 × 10 000 [× 100].
        let factor = (one.night.demand.factor() * 10_000.0).round() as i128;
        let night = i128::from(one.night.base_price.0) * multiplier * factor;
        let is_rounded = |amount: Cents, numerator: i128, denominator: i128| {
            let dollars = i128::from(amount.0) / 100;
            let below_or_at = |d: i128| 2 * d * denominator <= 2 * numerator + denominator;
            amount.0 % 100 == 0 && below_or_at(dollars) && !below_or_at(dollars + 1)
        };
        let buyout = option_of(&decision, TransactionType::Buyout);
        let crash = option_of(&decision, TransactionType::Crash);
        let swap = option_of(&decision, TransactionType::Swap);
        prop_assert!(is_rounded(buyout.price, night, 100_000_000), "{buyout:?}");
        prop_assert!(is_rounded(crash.price, night * 18, 10_000_000_000), "{crash:?}");
        prop_assert!(is_rounded(buyout.platform_fee, i128::from(buyout.price.0) * 15, 100_000), "{buyout:?}");
        prop_assert_eq!((swap.price, swap.platform_fee, crash.platform_fee), (Cents(0), Cents(500), Cents(500)));
    }

    #[test]
    fn the_ledger_balances(one in snapshot()) {
        let decision = decision(&one);
        let buyout_total = option_of(&decision, TransactionType::Buyout).total_cost.0;
        for option in &decision.options {
            let PricedOption { price, platform_fee, total_cost, roommate_receives, platform_receives, .. } = option;
            prop_assert_eq!(total_cost.0, price.0 + platform_fee.0);
            prop_assert_eq!(total_cost.0, roommate_receives.0 + platform_receives.0);
            let receives = match option.transaction_type {
                TransactionType::Swap => 0,
                _ => (price.0 - platform_fee.0).max(0),
            };
            prop_assert_eq!(roommate_receives.0, receives);
            for amount in [price, platform_fee, total_cost, roommate_receives, platform_receives] {
                prop_assert!(amount.0 >= 0, "{option:?}");
            }
            let savings = (option.transaction_type != TransactionType::Buyout).then(|| buyout_total - total_cost.0);
            prop_assert_eq!(option.savings_vs_buyout.map(|s| s.0), savings);
        }
    }

    #[test]
    fn no_number_of_a_snapshot_breaks_the_ledger(
        one in snapshot(), base in any::<i64>(), demand in any::<i64>(), days in any::<i64>()
    ) {
        // Demand is built by its limits; a snapshot read back from text may hold anything.
        let mut wire = serde_json::to_value(&one).unwrap();
        wire["night"]["basePriceCents"] = base.into();
        wire["night"]["demandTenThousandths"] = demand.into();
        wire["daysUntilCheckIn"] = days.into();
        let decision = decision(&serde_json::from_value(wire).unwrap());
        prop_assert!((0.7..=1.4).contains(&decision.night.demand.factor()));
        prop_assert!(decision.urgency.days >= 0);
        for option in &decision.options {
            prop_assert_eq!(option.total_cost.0, option.roommate_receives.0 + option.platform_receives.0);
            prop_assert!(option.price.0 >= 0 && option.roommate_receives.0 >= 0 && option.platform_receives.0 >= 0);
        }
    }
}

// --- decisions ---

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn the_order_is_a_permutation_with_one_first(one in snapshot()) {
        let decision = decision(&one);
        let mut types = decision.options.iter().map(|option| option.transaction_type).collect::<Vec<_>>();
        prop_assert_eq!(decision.options.iter().filter(|o| o.transaction_type == decision.primary()).count(), 1);
        prop_assert_eq!(decision.rule.order().to_vec(), types.clone());
        types.sort();
        prop_assert_eq!(types, TransactionType::ALL.to_vec());
    }

    #[test]
    fn the_rule_depends_on_archetype_history_and_days_alone(one in snapshot(), other in snapshot()) {
        let facts = |s: &Snapshot| match &s.audience {
            Audience::Neutral(_) => None,
            Audience::Personal(p) => Some((p.requester.archetype, p.history.prior_requests)),
        };
        let rule = |s: &Snapshot| match (facts(s), s.days_until_check_in) {
            (None | Some((_, 0)), _) => Rule::NewUser,
            (Some((Archetype::BigSpender, _)), ..=14) => Rule::BigSpenderUrgent,
            (Some((Archetype::BigSpender, _)), _) => Rule::BigSpenderRelaxed,
            (Some((Archetype::HighFlexibility, _)), _) => Rule::FlexibleSwap,
            (Some((Archetype::AverageUser, _)), ..=6) => Rule::AverageUrgent,
            (Some((Archetype::AverageUser, _)), 7..=21) => Rule::AverageMedium,
            (Some((Archetype::AverageUser, _)), _) => Rule::AverageRelaxed,
        };
        for snapshot in [one, other] {
            prop_assert_eq!(decision(&snapshot).rule, rule(&snapshot));
        }
    }

    #[test]
    fn probabilities_and_confidences_stay_in_their_bounds(one in snapshot()) {
        let decision = decision(&one);
        for option in &decision.options {
            prop_assert!((0.0..=0.95).contains(&option.probability), "{}", option.probability);
            prop_assert!((0.2..=0.95).contains(&option.confidence), "{}", option.confidence);
        }
        prop_assert!((0.4..=0.85).contains(&decision.confidence));
    }

    #[test]
    fn a_matching_last_request_never_lowers_a_probability(one in snapshot_for(personal()), t in transaction_type()) {
        let with = |accepted| {
            let mut other = one.clone();
            if let Audience::Personal(personal) = &mut other.audience {
                personal.history.last = Some(LastRequest { transaction_type: t, accepted });
            }
            decision(&other)
        };
        let (plain, repeated) = (with(false), with(true));
        for of in TransactionType::ALL {
            let (before, after) = (option_of(&plain, *of).probability, option_of(&repeated, *of).probability);
            let expected = if *of == t { (before * 1.15).min(0.95) } else { before };
            prop_assert!((after - expected).abs() < 1e-12, "{of}: {before} to {after}");
        }
    }

    #[test]
    fn neutral_defaults_of_a_night_are_equal(
        one in snapshot(), cause in select(NeutralCause::ALL), other_cause in select(NeutralCause::ALL)
    ) {
        let neutral = |cause| decision(&Snapshot { audience: Audience::Neutral(cause), ..one.clone() });
        let decision = neutral(cause);
        prop_assert_eq!(&decision, &neutral(other_cause));
        prop_assert_eq!((decision.rule, decision.personalized), (Rule::NewUser, false));
        prop_assert_eq!((decision.archetype, decision.roommate_archetype), (Archetype::AverageUser, None));
        for option in &decision.options {
            prop_assert!((option.confidence - 0.40).abs() < 1e-12 && (option.probability - 0.20).abs() < 1e-12);
            prop_assert_eq!(option.potential_matches, None);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_decision(one in snapshot()) {
        prop_assert_eq!(decision(&one), decision(&one.clone()));
    }

    #[test]
    fn a_snapshot_survives_its_own_text(one in snapshot()) {
        let text = serde_json::to_string(&one).unwrap();
        let read: Snapshot = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(decision(&read), decision(&one));
        prop_assert_eq!(read, one);
    }

    #[test]
    fn matches_are_on_the_swap_and_never_made_up(one in snapshot()) {
        let counted = match &one.audience {
            Audience::Neutral(_) => None,
            Audience::Personal(personal) => personal.offerable_nights,
        };
        for option in &decision(&one).options {
            let expected = counted.filter(|_| option.transaction_type == TransactionType::Swap);
            prop_assert_eq!(option.potential_matches, expected);
        }
    }
}

// --- reasons ---

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn every_option_has_a_reason_and_one_names_the_rule(one in snapshot()) {
        let decision = decision(&one);
        let is_rule = |reason: &Reason| reason.code().starts_with("rule_");
        prop_assert!(decision.options.iter().all(|option| option.reasons.iter().any(|r| !is_rule(r))));
        let rules: Vec<&str> =
            decision.options.iter().flat_map(|o| &o.reasons).filter(|r| is_rule(r)).map(Reason::code).collect();
        let expected =
            if decision.personalized { format!("rule_{}", decision.rule) } else { "rule_neutral_default".into() };
        prop_assert_eq!(rules, vec![expected.as_str()]);
        prop_assert_eq!(decision.options[0].reasons[0].code(), expected);
        for option in &decision.options {
            let mut codes: Vec<&str> = option.reasons.iter().map(Reason::code).collect();
            codes.sort_unstable();
            codes.dedup();
            prop_assert_eq!(codes.len(), option.reasons.len(), "a reason is given twice");
        }
    }

    #[test]
    fn reasons_promise_nothing_and_press_nobody(one in snapshot()) {
        for reason in decision(&one).options.iter().flat_map(|option| &option.reasons) {
            let text = reason.text();
            prop_assert!(text.ends_with('.') && !text.contains("NaN") && !text.contains("inf"), "{text}");
            for words in FORBIDDEN {
                prop_assert!(!contains_words(&text, words), "`{words}` in: {text}");
            }
            for number in text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
                prop_assert!(number.len() <= 20, "{text}");
            }
        }
    }

    #[test]
    fn reasons_carry_the_values_of_their_option(one in snapshot()) {
        let decision = decision(&one);
        for option in &decision.options {
            let personal = match &one.audience {
                Audience::Neutral(_) => None,
                Audience::Personal(personal) => Some(&**personal),
            };
            let mate = personal.map(|p| &p.roommate.signals);
            for reason in &option.reasons {
                let holds = match *reason {
                    Reason::RuleNeutral => personal.is_none(),
                    Reason::RuleNewUser => personal.is_some_and(|p| p.history.prior_requests == 0),
                    Reason::RuleFlexibleSwap => decision.archetype == Archetype::HighFlexibility,
                    Reason::RuleBigSpenderUrgent { days } | Reason::RuleBigSpenderRelaxed { days } => {
                        decision.archetype == Archetype::BigSpender && days == one.days_until_check_in
                    }
                    Reason::RuleAverageRelaxed { days }
                    | Reason::RuleAverageMedium { days }
                    | Reason::RuleAverageUrgent { days } => {
                        decision.archetype == Archetype::AverageUser && days == one.days_until_check_in
                    }
                    Reason::Overdue => one.days_until_check_in < 0,
                    Reason::BuyoutPrice { base, urgency_hundredths, demand, price } => {
                        (base, urgency_hundredths, demand, price)
                            == (
                                one.night.base_price,
                                decision.urgency.multiplier_hundredths,
                                one.night.demand,
                                option.price,
                            )
                    }
                    Reason::CrashShare { share_hundredths, price } => (share_hundredths, price) == (18, option.price),
                    Reason::SwapNoPrice { fee } => fee == option.platform_fee,
                    Reason::SavingsVsBuyout { savings } => savings.0 > 0 && Some(savings) == option.savings_vs_buyout,
                    Reason::OfferableNights { nights, window_days } => {
                        nights > 0 && Some(nights) == option.potential_matches && window_days == 30
                    }
                    Reason::NoOfferableNights { window_days } => {
                        option.potential_matches == Some(0) && window_days == 30
                    }
                    Reason::RoommatePrefers { transaction_type, share } => {
                        transaction_type == option.transaction_type
                            && share > 0.5
                            && mate.is_some_and(|s| s.preference(transaction_type).to_bits() == share.to_bits())
                    }
                    Reason::RoommateAcceptanceRate { share, accepted } => mate.is_some_and(|s| {
                        accepted > 0
                            && accepted == s.accommodation_history as i64
                            && share.to_bits() == s.acceptance_rate.to_bits()
                    }),
                    Reason::LastRequestAccepted { transaction_type } => {
                        transaction_type == option.transaction_type
                            && personal.and_then(|p| p.history.last).is_some_and(|last| {
                                last == LastRequest { transaction_type: option.transaction_type, accepted: true }
                            })
                    }
                };
                prop_assert!(holds, "{reason:?} of {option:?}");
            }
        }
    }

    #[test]
    fn an_overdue_date_is_never_told_as_one_to_come(one in snapshot(), ago in 1..10_000i64) {
        let overdue = Snapshot { days_until_check_in: -ago, ..one };
        let decision = decision(&overdue);
        prop_assert!(decision.urgency.overdue && decision.urgency.days == 0);
        prop_assert_eq!(decision.urgency.level, UrgencyLevel::Critical);
        let reasons: Vec<&Reason> = decision.options.iter().flat_map(|option| &option.reasons).collect();
        prop_assert_eq!(reasons.iter().filter(|reason| reason.code() == "overdue").count(), 1);
        for text in reasons.iter().map(|reason| reason.text()) {
            prop_assert!(!contains_words(&text, "today") && !text.contains("in -"), "{text}");
        }
    }
}

// --- days and ids ---

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn days_between_counts_calendar_days(today in target_date(), days in -700_000..700_000i64) {
        if let Ok(target) = today.checked_add(days.days()) {
            prop_assert_eq!(days_between(today, target), days);
        }
    }

    #[test]
    fn weekdays_are_monday_to_friday(one in snapshot()) {
        // 1970-01-01 was a Thursday: three days after a Monday.
        let day_of_week = (days_between(date(1970, 1, 1), one.target_date) + 3).rem_euclid(7);
        prop_assert_eq!(decision(&one).is_weekday, day_of_week < 5);
    }

    #[test]
    fn an_id_that_parses_is_canonical(text in "\\PC{0,70}|[A-Za-z0-9._:-]{1,66}|[0-9a-fA-F]{32}|[0-9A-F]{8}(-[0-9a-f]{4}){3}-[0-9A-F]{12}") {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        let valid = (1..=64).contains(&text.chars().count()) && text.chars().all(allowed) && text != "anonymous";
        let parsed = UserId::parse(&text);
        prop_assert_eq!(parsed.is_ok(), valid, "{:?}", text);
        if let Ok(id) = parsed {
            prop_assert_eq!(UserId::parse(id.as_str()).unwrap(), id.clone(), "parsing twice changes nothing");
            let hexadecimal: String = text.chars().filter(|c| *c != '-').collect();
            if hexadecimal.len() == 32 && hexadecimal.chars().all(|c| c.is_ascii_hexdigit()) && text.len() == 32 {
                prop_assert_eq!(id.as_str().len(), 36);
                prop_assert_eq!(id.as_str().replace('-', ""), text.to_lowercase());
            }
        }
    }
}
