//! The same configuration gives the same world on every machine, and worlds do not depend on what is added to them.

use crate::run_recent;
use crate::support::now;
use jiff::SignedDuration;
use nudge_engine::Cents;
use nudge_sim::{InvalidConfig, Nights, RequestRow, SimError, World, WorldConfig, WorldKind};

/// FNV-1a over lines of text, 64 bits.
struct Fnv(u64);

impl Fnv {
    fn line(&mut self, text: &str) {
        for byte in text.bytes().chain([b'\n']) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn request(&mut self, r: &RequestRow) {
        let cents = |c: Option<Cents>| c.map_or(-1, |c| c.0);
        let head = format!("{} {} {} {} {}", r.id, r.lease_id, r.requester, r.receiver, r.transaction_type);
        let night = format!("{} {:?}", r.target_night, r.offered_night.map(|d| d.to_string()));
        let money = format!("{} {}", cents(r.proposed_price), r.base_price.0);
        let times = format!("{} {} {:?}", r.status, r.created_at, r.responded_at.map(|t| t.to_string()));
        self.line(&format!("{head} {night} {money} {times}"));
    }
}

/// Sums up all facts of a world, of its next three months, and of what the rules make of its recent days.
fn checksum(world: &World) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    for lease in world.leases() {
        let [a, b] = &lease.members;
        fnv.line(&format!("{} {} {} {a} {b}", lease.id, lease.name, lease.created_at));
    }
    let today = world.config().today();
    for n in world.nights(today, today.saturating_add(SignedDuration::from_hours(24 * 30))) {
        let terms = format!("{} {}", n.base_price.0, n.demand_ten_thousandths);
        fnv.line(&format!("{} {} {} {terms}", n.lease_id, n.night, n.held_by));
    }
    world.requests().for_each(|row| fnv.request(&row));
    for intent in world.further_intents(3.0).unwrap() {
        let night = format!("{} {} {}", intent.target_night, intent.base_price.0, intent.demand.factor());
        fnv.line(&format!("{} {} {} {night}", intent.requester, intent.at, intent.lead_days));
    }
    for (_, _, course) in run_recent(world).1 {
        course.request.iter().for_each(|row| fnv.request(row));
        let (secs, score) = (course.selected.map(|s| s.time_to_decision_seconds), course.score);
        fnv.line(&format!("{} {secs:?} {:?}", course.viewed_at, score.map(|s| (s.score, s.at.to_string()))));
    }
    fnv.0
}

#[test]
fn worlds_are_pinned() {
    let drawn = WorldConfig::new(WorldKind::Mature, 20, 1, now());
    let demo = WorldConfig::demo(WorldKind::Young, 100, 2, now());
    let sums = [drawn, demo].map(|config| checksum(&World::generate(&config).unwrap()));
    assert_eq!(sums, [5_368_370_493_823_416_926, 5_083_436_179_583_975_593]);
}

#[test]
fn a_world_begins_with_the_smaller_world_of_the_same_seed() {
    let world = |people| World::generate(&WorldConfig::new(WorldKind::Young, people, 5, now())).unwrap();
    let (small, large) = (world(20), world(60));
    assert_eq!(small.people(), &large.people()[..20]);
    let mut common = large.history().to_vec();
    common.retain(|row| small.people().iter().any(|person| person.id == row.requester));
    assert_eq!(small.history(), common);
}

#[test]
fn another_seed_is_another_world() {
    let sum =
        |seed| checksum(&World::generate(&WorldConfig::new(WorldKind::Young, 40, seed, now())).unwrap());
    assert_ne!(sum(1), sum(2));
}

#[test]
fn requests_come_at_their_rate_within_the_tenure() {
    let config = WorldConfig::new(WorldKind::Mature, 4_000, 9, now());
    let world = World::generate(&config).unwrap();
    // Mean rate .18·1.4 + .22·.6 + .6·.8 a month, over three months.
    let n = world.further_intents(3.0).unwrap().len() as f64 / 4_000.0;
    assert!((n / (3.0 * 0.864) - 1.0).abs() < 0.05, "{n}");
    let start = now() - SignedDuration::from_hours(24 * 548);
    assert!(world.history().iter().all(|row| row.created_at >= start));
    let none = World::generate(&WorldConfig { rate_factor: 0.0, ..config }).unwrap();
    assert!(none.history().is_empty() && none.further_intents(3.0).unwrap().is_empty());
}

#[test]
fn a_configuration_that_makes_no_world_says_why() {
    let good = WorldConfig::new(WorldKind::Young, 20, 1, now());
    let refusal = |config| match World::generate(&config) {
        Err(SimError::Config(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(WorldConfig { people: 3, ..good }), InvalidConfig::People(3));
    assert_eq!(refusal(WorldConfig { people: 0, ..good }), InvalidConfig::People(0));
    assert_eq!(refusal(WorldConfig { rate_factor: -1.0, ..good }), InvalidConfig::RateFactor(-1.0));
    assert_eq!(refusal(WorldConfig { recent_days: -1, ..good }), InvalidConfig::RecentDays(-1));
    assert_eq!(good.nights, Nights::Drawn);
    let text = InvalidConfig::People(3).to_string();
    assert_eq!(text, "people must be an even number from 2 to 10000000, not 3");
}
