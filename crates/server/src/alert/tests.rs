//! The machine as a property of every course of figures, and figures against ones worked out by hand.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nudge_store::AlertState;
use proptest::prelude::*;

use super::figures::RequestFigures;
use super::machine::{Limits, Reading, Standing, Tell};
use super::rule::Rule;
use super::window::Window;

const REPEAT: SignedDuration = SignedDuration::from_secs(300);

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_773_050_400 + secs).unwrap()
}

fn secs(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

fn limits() -> Limits {
    Limits {
        threshold: 5.0,
        clear: 4.0,
        window: secs(60),
        pending: secs(15),
        resolve: secs(30),
        min_sample: 20,
    }
}

fn figure(value: f64) -> Reading {
    Reading::Figure { value, sample: 100 }
}

/// Goes through figures, five seconds apart; gives the states and what was told.
fn course(readings: &[Reading]) -> Vec<(AlertState, Option<Tell>)> {
    let mut standing = Standing::unknown(at(0));
    let mut states = Vec::new();
    for (n, reading) in readings.iter().enumerate() {
        let now = at(5 * i64::try_from(n).unwrap());
        standing = standing.step(&limits(), *reading, now);
        let told = standing.due(false, REPEAT, now);
        if let Some(tell) = told {
            standing.memory.told = Some((tell, now));
        }
        states.push((standing.state, told));
    }
    states
}

#[test]
fn an_alert_fires_after_its_time_and_ends_after_its_time() {
    use AlertState::{Firing, Ok, Pending};
    let mut readings = vec![figure(1.0)];
    readings.extend([figure(9.0); 5]);
    readings.extend([figure(4.5); 3]);
    readings.extend([figure(1.0); 8]);
    let states = course(&readings);
    let only = |from: usize, to: usize| states[from..to].iter().map(|(state, _)| *state).collect::<Vec<_>>();
    assert_eq!(only(0, 6), [Ok, Pending, Pending, Pending, Firing, Firing], "15 seconds");
    assert_eq!(only(6, 9), [Firing; 3], "between the two limits nothing changes");
    assert_eq!(only(9, 17), [Firing, Firing, Firing, Firing, Firing, Firing, Ok, Ok], "30 seconds");
    let told: Vec<_> =
        states.iter().enumerate().filter_map(|(n, (_, told))| told.map(|told| (n, told))).collect();
    assert_eq!(told, [(4, Tell::Firing), (15, Tell::Resolved)]);
}

#[test]
fn without_a_figure_a_firing_alert_stays_for_its_window_and_ends_with_no_data() {
    let mut readings = vec![figure(9.0); 5];
    readings.extend([Reading::Nothing; 14]);
    let states = course(&readings);
    assert!(states[5..17].iter().all(|(state, _)| *state == AlertState::Firing));
    assert_eq!(states[17], (AlertState::NoData, Some(Tell::Resolved)), "60 seconds");
    assert_eq!(states[18], (AlertState::NoData, None));
}

#[test]
fn a_sample_that_is_too_small_is_no_data_and_shows_its_size() {
    let standing =
        Standing::unknown(at(0)).step(&limits(), Reading::Figure { value: 100.0, sample: 19 }, at(0));
    assert_eq!((standing.state, standing.value, standing.sample), (AlertState::NoData, None, Some(19)));
    let standing = standing.step(&limits(), Reading::Figure { value: 100.0, sample: 20 }, at(5));
    assert_eq!((standing.state, standing.value), (AlertState::Pending, Some(100.0)));
}

#[test]
fn while_silenced_nobody_is_told_and_afterwards_only_what_still_is_so() {
    let fire = |mut standing: Standing, from: i64| {
        for n in 0..5 {
            standing = standing.step(&limits(), figure(9.0), at(from + 5 * n));
        }
        standing
    };
    let firing = fire(Standing::unknown(at(0)), 0);
    assert_eq!(firing.due(true, REPEAT, at(20)), None);
    assert_eq!(firing.due(false, REPEAT, at(25)), Some(Tell::Firing));
    let mut over = firing;
    for n in 5..20 {
        over = over.step(&limits(), figure(0.0), at(5 * n));
    }
    assert_eq!((over.state, over.due(false, REPEAT, at(100))), (AlertState::Ok, None), "nobody knew of it");
}

#[derive(Debug, Clone, Copy)]
struct Step {
    reading: Option<(f64, u64)>,
    silenced: bool,
    secs: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reading =
        prop::option::weighted(0.8, (prop_oneof![0.0..4.0f64, 4.0..5.0f64, 5.01..50.0f64], 10u64..200));
    let step = (reading, prop::bool::weighted(0.2), 0i64..40).prop_map(|(reading, silenced, secs)| Step {
        reading,
        silenced,
        secs,
    });
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn every_course_keeps_the_rules(steps in steps()) {
        let limits = limits();
        let mut standing = Standing::unknown(at(0));
        let mut now = at(0);
        let mut breach_since: Option<Timestamp> = None;
        let mut well_since: Option<Timestamp> = None;
        let mut told: Vec<(Tell, Timestamp)> = Vec::new();
        for step in steps {
            now = now.checked_add(secs(step.secs)).unwrap();
            let reading = step.reading.map_or(Reading::Nothing, |(value, sample)| Reading::Figure { value, sample });
            let usable = step.reading.filter(|(_, sample)| *sample >= limits.min_sample).map(|(value, _)| value);
            // What must hold is worked out beside the machine, from the figures alone.
            let breaching = usable.is_some_and(|value| value > limits.threshold);
            let was_firing = standing.state == AlertState::Firing;
            breach_since = match breaching { true => breach_since.or(Some(now)), false => None };
            let between = usable.is_some_and(|value| value > limits.clear);
            well_since = match between { true => None, false => well_since.or(Some(now)) };
            let next = standing.step(&limits, reading, now);

            prop_assert_eq!(next.state == AlertState::NoData && !was_firing, usable.is_none() && !was_firing);
            if next.state == AlertState::Firing && !was_firing {
                let begun = breach_since.expect("it fires on a breach only");
                prop_assert!(now.duration_since(begun) >= limits.pending);
            }
            if breaching && breach_since.is_some_and(|begun| now.duration_since(begun) >= limits.pending) {
                prop_assert_eq!(next.state, AlertState::Firing);
            }
            if was_firing && next.state != AlertState::Firing {
                let well = well_since.expect("it ends on what is well, or missing");
                prop_assert!(now.duration_since(well) >= limits.resolve);
                prop_assert!(matches!(next.state, AlertState::Ok | AlertState::NoData));
            }
            prop_assert_eq!(next.since == standing.since || next.since == now, true);
            prop_assert_eq!(next.state != standing.state, next.since != standing.since || next.state != standing.state);
            // The same figure at the same time changes nothing more.
            prop_assert_eq!(&next.step(&limits, reading, now), &next);

            standing = next;
            if let Some(tell) = standing.due(step.silenced, REPEAT, now) {
                prop_assert!(!step.silenced);
                match (tell, told.last()) {
                    (Tell::Firing, Some((Tell::Firing, before))) => prop_assert!(now.duration_since(*before) >= REPEAT),
                    (Tell::Resolved, last) => prop_assert!(matches!(last, Some((Tell::Firing, _)))),
                    (Tell::Firing, _) => {}
                }
                prop_assert_eq!(tell == Tell::Firing, standing.state == AlertState::Firing);
                standing.memory.told = Some((tell, now));
                told.push((tell, now));
            }
            // What is remembered survives being written down.
            let written = serde_json::to_value(&standing.memory).unwrap();
            let read: super::machine::Memory = serde_json::from_value(written).unwrap();
            prop_assert_eq!(&read, &standing.memory);
        }
    }
}

fn count(figures: &RequestFigures, times: usize, is_error: bool, millis: u64) {
    for _ in 0..times {
        figures.count(is_error, Some(Duration::from_millis(millis)));
    }
}

#[test]
fn the_share_of_errors_is_that_of_the_window() {
    let figures = RequestFigures::default();
    let mut window = Window::new(secs(300));
    window.note(at(0), figures.totals(), 0);
    assert_eq!(window.error_percent(secs(300)), Reading::Nothing, "no requests");
    count(&figures, 90, false, 1);
    count(&figures, 10, true, 1);
    window.note(at(100), figures.totals(), 0);
    assert_eq!(window.error_percent(secs(300)), Reading::Figure { value: 10.0, sample: 100 });
    count(&figures, 50, true, 1);
    window.note(at(200), figures.totals(), 0);
    assert_eq!(window.error_percent(secs(100)), Reading::Figure { value: 100.0, sample: 50 });
    assert_eq!(window.error_percent(secs(300)), Reading::Figure { value: 40.0, sample: 150 });
    // The first hundred have left the window.
    for secs in (205..=500).step_by(5) {
        window.note(at(secs), figures.totals(), 0);
    }
    assert_eq!(window.error_percent(secs(300)), Reading::Nothing);
    // A clock that was set back begins anew, and counts nothing twice.
    count(&figures, 30, false, 1);
    window.note(at(10), figures.totals(), 0);
    assert_eq!(window.error_percent(secs(300)), Reading::Nothing);
}

#[test]
fn p95_is_interpolated_in_its_bucket_and_waiting_routes_are_left_out() {
    let figures = RequestFigures::default();
    let mut window = Window::new(secs(600));
    window.note(at(0), figures.totals(), 0);
    count(&figures, 90, false, 4);
    count(&figures, 10, false, 400);
    figures.count(false, None);
    window.note(at(10), figures.totals(), 0);
    // 90 up to 5 ms, 10 between 300 and 500 ms: the 95th of 100 is in the middle of those.
    let Reading::Figure { value, sample } = window.p95_millis(secs(600)) else { panic!() };
    assert!((value - 400.0).abs() < 1e-9 && sample == 100, "{value} of {sample}");
    count(&figures, 1_000, false, 60_000);
    window.note(at(20), figures.totals(), 0);
    assert!(
        matches!(window.p95_millis(secs(600)), Reading::Figure { value, .. } if (value - 5_000.0).abs() < 1e-9)
    );
}

#[test]
fn a_spool_that_was_empty_once_drains() {
    let mut window = Window::new(secs(300));
    let totals = RequestFigures::default().totals();
    let least = |window: &Window| match window.least_spool_depth(secs(300)) {
        Reading::Figure { value, .. } => Some(value),
        Reading::Nothing => None,
    };
    for (n, depth) in [3, 7].into_iter().chain([9; 70]).enumerate() {
        window.note(at(5 * i64::try_from(n).unwrap()), totals, depth);
        assert_eq!(least(&window).is_some(), n >= 60, "after {n}");
    }
    assert_eq!(least(&window), Some(9.0));
    window.note(at(360), totals, 0);
    assert_eq!(least(&window), Some(0.0));
    window.note(at(365), totals, 5);
    assert_eq!(least(&window), Some(0.0));
}

#[test]
fn every_alert_has_a_section_of_the_manual() {
    let manual = include_str!("../../../../docs/OPERATIONS.md");
    for rule in Rule::ALL {
        assert_eq!(rule.as_str().parse(), Ok(rule));
        let heading =
            format!("\n### Alert: {}\n", rule.anchor().trim_start_matches("alert-").replace('-', " "));
        let section = manual.split(&heading).nth(1).unwrap_or_else(|| panic!("{heading}"));
        let section = section.split("\n### ").next().unwrap();
        for part in ["**Means**", "**Look at**", "**Do**"] {
            assert!(section.contains(part), "{part} of {rule}");
        }
    }
}
