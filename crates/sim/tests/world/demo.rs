//! The demo's world: archetypes inside the guide's bands, a history that fits its calendar.

use std::collections::BTreeMap;

use crate::run_recent;
use crate::support::{now, shares};
use jiff::{SignedDuration, Timestamp};
use nudge_engine::RequestStatus;
use nudge_sim::{DEMO_SEED, World, WorldConfig, WorldKind};

fn demo(people: usize, seed: u64, now: Timestamp) -> World {
    World::generate(&WorldConfig::demo(WorldKind::Young, people, seed, now)).unwrap()
}

fn assert_in_bands(world: &World) {
    let (ledger, _) = run_recent(world);
    let shares = shares(&ledger, world);
    let bands = [15.0..=20.0, 20.0..=25.0, 55.0..=65.0];
    let inside = shares.iter().zip(&bands).all(|(share, band)| band.contains(share));
    assert!(inside, "{shares:?} at {:?}", world.config());
}

#[test]
fn archetypes_are_in_the_guides_bands_whatever_the_date() {
    for days in [0, 35, 70, 105, 140, 175, 210, 245, 280, 315, 350, 1_000] {
        assert_in_bands(&demo(2_000, DEMO_SEED, now() + SignedDuration::from_hours(24_i64 * days)));
    }
}

#[test]
fn archetypes_are_in_the_guides_bands_with_ten_times_the_people_and_other_seeds() {
    for seed in [DEMO_SEED, 1, 2] {
        assert_in_bands(&demo(20_000, seed, now()));
    }
}

#[test]
fn what_is_asked_for_is_a_night_of_the_calendar_that_the_roommate_holds() {
    let world = demo(400, 7, now());
    let today = world.config().today();
    let far = |days| today.saturating_add(SignedDuration::from_hours(24_i64 * days));
    let nights: BTreeMap<_, _> =
        world.nights(far(-760), far(125)).map(|n| ((n.lease_id.clone(), n.night), n)).collect();
    let (ledger, courses) = run_recent(&world);
    assert!(courses.len() > 40 && ledger.rows().len() > courses.len(), "{}", courses.len());
    for row in ledger.rows() {
        let night = &nights[&(row.lease_id.clone(), row.target_night)];
        assert_eq!((&night.held_by, night.base_price), (&row.receiver, row.base_price));
        if let Some(offered) = row.offered_night {
            assert_eq!(nights[&(row.lease_id.clone(), offered)].held_by, row.requester);
        }
    }
    for (intent, _, _) in &courses {
        let night = &nights[&(intent.lease_id.clone(), intent.target_night)];
        assert!((night.demand_ten_thousandths as f64 / 10_000.0 - intent.demand.factor()).abs() < 1e-9);
        assert!((0..=120).contains(&intent.lead_days));
    }
}

#[test]
fn nights_extend_without_changing() {
    let (early, late) = (demo(20, 3, now()), demo(20, 3, now() + SignedDuration::from_hours(24 * 90)));
    let from = early.config().today();
    let to = from.saturating_add(SignedDuration::from_hours(24 * 365));
    let nights: Vec<_> = early.nights(from, to).collect();
    assert_eq!(nights.len(), 10 * 366);
    assert_eq!(nights, late.nights(from, to).collect::<Vec<_>>());
    assert_eq!(early.nights(to, from).count(), 0);
    assert_eq!(early.lease_nights(10, from, to).count(), 0);
}

#[test]
fn recent_intents_begin_where_the_history_ends() {
    let world = demo(2_000, DEMO_SEED, now());
    let end = world.history_end();
    // A request is written some seconds after its intent.
    let slack = SignedDuration::from_mins(15);
    assert!(world.history().iter().all(|row| row.created_at <= end + slack));
    let (ledger, courses) = run_recent(&world);
    assert!(courses.iter().all(|(intent, ..)| intent.at > end && intent.at < now()));
    assert!(courses.windows(2).all(|pair| pair[0].0.at <= pair[1].0.at));
    let mut ids: Vec<_> = ledger.rows().iter().map(|row| row.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), ledger.rows().len());
}

#[test]
fn every_course_is_in_order_and_every_outcome_occurs() {
    let world = demo(2_000, DEMO_SEED, now());
    let (_, courses) = run_recent(&world);
    let mut seen = BTreeMap::new();
    for (intent, offer, course) in &courses {
        assert!(intent.at < course.viewed_at);
        let Some(selection) = course.selected else {
            assert!(course.request.is_none() && course.score.is_none());
            *seen.entry("gave up").or_insert(0) += 1;
            continue;
        };
        let request = course.request.as_ref().unwrap();
        assert_eq!(request.transaction_type, selection.transaction_type);
        assert!(course.viewed_at < selection.at && selection.at < request.created_at);
        assert!(request.created_at < now() && request.responded_at.is_none_or(|at| at >= request.created_at));
        assert_eq!(request.responded_at.is_none(), request.status == RequestStatus::Expired);
        assert!(course.score.is_none_or(|s| s.score <= 10 && Some(s.at) > request.responded_at));
        let followed = offer.shown() == Some(request.transaction_type);
        *seen.entry(if followed { "followed" } else { "chose another" }).or_insert(0) += 1;
        *seen.entry(request.as_of(now()).unwrap().status.as_str()).or_insert(0) += 1;
        *seen.entry(if course.score.is_some() { "scored" } else { "not scored" }).or_insert(0) += 1;
    }
    let kinds: Vec<&str> = seen.keys().copied().collect();
    let expected = [
        "accepted",
        "chose another",
        "expired",
        "followed",
        "gave up",
        "not scored",
        "pending",
        "rejected",
        "scored",
    ];
    assert_eq!(kinds, expected, "{seen:?}");
}
