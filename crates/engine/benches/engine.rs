//! What one decision and one classification cost. Targets: decision 2 µs, classification from 50 requests 5 µs.

use std::hint::black_box;

use divan::Bencher;
use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use nudge_engine::*;

fn main() {
    divan::main();
}

/// A roommate with a preference, accepted requests and a repeated type: every reason that a decision can have.
fn personal_snapshot(policy: &Policy) -> Snapshot {
    let signals = Signals {
        avg_transaction_value: 900.0,
        acceptance_rate: 0.7,
        request_frequency_per_month: 2.0,
        swap_preference: 0.75,
        buyout_preference: 0.25,
        crash_preference: 0.0,
        accommodation_history: 7.0,
        ..Signals::no_data(policy)
    };
    let person = |archetype| Person { archetype, confidence: 0.85, overridden: false, signals };
    Snapshot {
        target_date: date(2026, 3, 15),
        days_until_check_in: 7,
        night: Night {
            base_price: Cents(15_000),
            demand: Demand::new(11_600, policy),
            source: PricingSource::LeaseNight,
        },
        audience: Audience::Personal(Box::new(Personal {
            requester: person(Archetype::AverageUser),
            roommate: person(Archetype::HighFlexibility),
            history: History {
                prior_requests: 4,
                last: Some(LastRequest { transaction_type: TransactionType::Swap, accepted: true }),
            },
            offerable_nights: Some(3),
        })),
    }
}

fn now() -> Timestamp {
    date(2026, 3, 15).at(12, 0, 0, 0).in_tz("UTC").map_or(Timestamp::UNIX_EPOCH, |zoned| zoned.timestamp())
}

/// `count` requests of both sides, every type and status, in no order of time.
fn requests(count: u32) -> Vec<Request> {
    let newest = now();
    let older = |minutes: u32| newest - SignedDuration::from_mins(i64::from(minutes));
    (0..count)
        .map(|place| {
            let i = place * 37 % 53;
            let transaction_type = TransactionType::ALL[i as usize % 3];
            let priced = transaction_type != TransactionType::Swap;
            Request {
                id: format!("0198c0de-0000-7000-8000-{i:012}").into(),
                role: if i % 2 == 0 { Role::Requester } else { Role::Receiver },
                transaction_type,
                status: RequestStatus::ALL[(i as usize / 3) % 5],
                proposed_price: priced.then_some(Cents(12_345 + 777 * i64::from(i))),
                base_price: Some(Cents(15_000)),
                created_at: older(i * 2_000 + 500),
                responded_at: Some(older(i * 2_000)),
            }
        })
        .collect()
}

#[divan::bench]
fn decide_personal(bencher: Bencher) {
    let policy = Policy::default();
    let snapshot = personal_snapshot(&policy);
    bencher.bench_local(|| decide(black_box(&snapshot), black_box(&policy)));
}

#[divan::bench]
fn decide_neutral(bencher: Bencher) {
    let policy = Policy::default();
    let snapshot =
        Snapshot { audience: Audience::Neutral(NeutralCause::Anonymous), ..personal_snapshot(&policy) };
    bencher.bench_local(|| decide(black_box(&snapshot), black_box(&policy)));
}

#[divan::bench]
fn decide_and_render_reasons(bencher: Bencher) {
    let policy = Policy::default();
    let snapshot = personal_snapshot(&policy);
    bencher.bench_local(|| {
        let decision = decide(black_box(&snapshot), black_box(&policy));
        decision.options.map(|option| option.reasons.iter().map(Reason::text).collect::<Vec<_>>())
    });
}

#[divan::bench]
fn classify_signals(bencher: Bencher) {
    let policy = Policy::default();
    let signals = compute_signals(&requests(50), now(), &policy);
    bencher.bench_local(|| classify(black_box(&signals), black_box(&policy)));
}

#[divan::bench(args = [1, 10, 50])]
fn signals_and_classification(bencher: Bencher, count: u32) {
    let policy = Policy::default();
    let (requests, now) = (requests(count), now());
    bencher
        .bench_local(|| classify(&compute_signals(black_box(&requests), now, &policy), black_box(&policy)));
}
