//! Runs of the job as a state machine: random interleavings of runners that start, take over, read, write, pause and die,
//! of leases that end, of cancellations, and of what others write meanwhile, against a small model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nudge_engine::{Archetype, UserId};
use nudge_store::job::*;
use nudge_store::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

const NOW: &str = "2026-03-01T12:00:00Z";
const RUNNERS: usize = 3;
const PEOPLE: usize = 7;
/// Users in a batch, so that the people are several.
const BATCH: u32 = 2;
/// How often a user is tried whose rows cannot be used.
const ATTEMPTS: u32 = 3;
/// Everybody's requests go to this user, who comes last.
const HUB: &str = "zoe";

#[derive(Debug, Clone, Copy)]
enum Step {
    Trigger(usize),
    TakeOver(usize),
    Read(usize),
    Write(usize),
    Retry(usize),
    Renew(usize),
    Pause(usize),
    Finish(usize),
    /// The process is killed: it forgets what it has.
    Die(usize),
    /// Time goes by.
    Expire,
    Cancel,
    Ask(usize),
    OptOut(usize),
    Override(usize),
    Poison(usize),
    Heal(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (runner, person) = (0..RUNNERS, 0..PEOPLE);
    let step = prop_oneof![
        2 => runner.clone().prop_map(Step::Trigger),
        4 => runner.clone().prop_map(Step::TakeOver),
        10 => runner.clone().prop_map(Step::Read),
        10 => runner.clone().prop_map(Step::Write),
        1 => runner.clone().prop_map(Step::Retry),
        1 => runner.clone().prop_map(Step::Renew),
        1 => runner.clone().prop_map(Step::Pause),
        2 => runner.clone().prop_map(Step::Finish),
        1 => runner.prop_map(Step::Die),
        2 => Just(Step::Expire),
        1 => Just(Step::Cancel),
        2 => person.clone().prop_map(Step::Ask),
        1 => person.clone().prop_map(Step::OptOut),
        1 => person.clone().prop_map(Step::Override),
        1 => person.clone().prop_map(Step::Poison),
        1 => person.prop_map(Step::Heal),
    ];
    proptest::collection::vec(step, 20..80)
}

type Items = Vec<(UserId, Worked)>;

/// What a runner has in its memory.
struct Held {
    lease: RunLease,
    cursor: Option<UserId>,
    totals: RunTotals,
    /// A batch that is read, and the users whose facts have changed since.
    batch: Option<(Items, BTreeSet<String>)>,
    /// Whether everybody has been read.
    through: bool,
}

/// The run that is not finished, as it should be.
struct Open {
    id: Uuid,
    expired: bool,
    processed: Vec<String>,
    /// Those that were saved without counting as updated.
    unchanged: u64,
    totals: RunTotals,
    failures: BTreeMap<String, u32>,
}

/// The store, the runners, and the model of both.
struct World {
    f: Fixture,
    runners: Vec<Option<Held>>,
    term: i64,
    open: Option<Open>,
    runs: u64,
    requests: u32,
    stored: BTreeMap<String, Archetype>,
    overridden: BTreeSet<String>,
    opted_out: BTreeSet<String>,
    poisoned: BTreeSet<String>,
}

fn name(person: usize) -> String {
    format!("person-{person}")
}

/// The archetype of the model: any function of the facts will do.
fn archetype_of(requests: usize) -> Archetype {
    [Archetype::BigSpender, Archetype::HighFlexibility, Archetype::AverageUser][requests % 3]
}

impl World {
    async fn new(engine: Engine) -> Self {
        let f = Fixture::new(engine).await;
        let asked = (0..PEOPLE)
            .map(|n| FactRow::DateChangeRequest(request(u32::try_from(n).unwrap(), &name(n), HUB)));
        f.facts(asked).await;
        let term = f.store.job_state().await.unwrap().term;
        Self {
            f,
            runners: (0..RUNNERS).map(|_| None).collect(),
            term,
            open: None,
            runs: 0,
            requests: 100,
            stored: BTreeMap::new(),
            overridden: BTreeSet::new(),
            opted_out: BTreeSet::new(),
            poisoned: BTreeSet::new(),
        }
    }

    fn touch(&mut self, person: &str) {
        for held in self.runners.iter_mut().flatten() {
            if let Some((_, touched)) = &mut held.batch {
                touched.insert(person.to_owned());
            }
        }
    }

    /// Whether this lease may write now.
    fn holds(&self, lease: RunLease) -> bool {
        let open = self.open.as_ref();
        lease.term == self.term && open.is_some_and(|open| open.id == lease.run_id && !open.expired)
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Trigger(n) => self.trigger(n).await,
            Step::TakeOver(n) => self.take_over(n).await,
            Step::Read(n) => self.read(n).await,
            Step::Write(n) => self.write(n).await,
            Step::Retry(n) => self.retry(n).await,
            Step::Renew(n) => {
                if let Some(lease) = self.runners[n].as_ref().map(|held| held.lease) {
                    assert_eq!(self.f.store.renew_run(lease).await.unwrap(), self.holds(lease));
                }
            }
            Step::Pause(n) => self.end(n, RunStatus::Interrupted).await,
            Step::Finish(n) => {
                if self.runners[n].as_ref().is_some_and(|held| held.through && held.batch.is_none()) {
                    self.end(n, RunStatus::Completed).await;
                }
            }
            Step::Die(n) => self.runners[n] = None,
            Step::Expire => self.expire().await,
            Step::Cancel => {
                let Some(open) = self.open.take() else { return };
                self.term += 1;
                let cancelled = self.f.store.cancel_run(open.id, admin(), at(NOW)).await.unwrap();
                assert_eq!(cancelled, RunCancelled::Cancelled);
                self.told(&open, RunStatus::Cancelled).await;
            }
            Step::Ask(n) => {
                self.requests += 1;
                let row = request(self.requests, &name(n), HUB);
                self.f.facts([FactRow::DateChangeRequest(row)]).await;
                self.touch(&name(n));
                self.touch(HUB);
            }
            Step::OptOut(n) => {
                self.f.facts([profile(&name(n), None, Some(true))]).await;
                self.opted_out.insert(name(n));
            }
            Step::Override(n) => self.override_(n).await,
            Step::Poison(n) => self.poison(n, "no time, but 27 characters.", "infinity").await,
            Step::Heal(n) => {
                self.poison(n, "2026-02-20T00:00:00.000000Z", "2026-02-20T00:00:00Z").await;
                self.poisoned.remove(&name(n));
                self.poisoned.retain(|person| person != HUB);
                if !self.poisoned.is_empty() {
                    self.poisoned.insert(HUB.to_owned());
                }
            }
        }
    }

    async fn trigger(&mut self, n: usize) {
        let new = NewRun {
            id: id(self.runs + 1),
            holder: format!("runner-{n}"),
            cause: RunCause::Asked,
            config: json!({}),
            trigger: "test".to_owned(),
            actor: None,
            now: at(NOW),
        };
        let run_id = new.id;
        let started = self.f.store.start_run(new).await.unwrap();
        if let Some(open) = &self.open {
            assert_eq!(started, RunStarted::Running(open.id));
            return;
        }
        self.runs += 1;
        self.term += 1;
        let lease = RunLease { run_id, term: self.term };
        assert_eq!(started, RunStarted::Started(lease));
        self.open = Some(Open {
            id: run_id,
            expired: false,
            processed: Vec::new(),
            unchanged: 0,
            totals: RunTotals::default(),
            failures: BTreeMap::new(),
        });
        self.runners[n] =
            Some(Held { lease, cursor: None, totals: RunTotals::default(), batch: None, through: false });
    }

    async fn take_over(&mut self, n: usize) {
        let taken = self.f.store.take_over_run(&format!("runner-{n}")).await.unwrap();
        let Some(open) = self.open.as_mut().filter(|open| open.expired) else {
            assert_eq!(taken, None, "there is nothing to go on with");
            return;
        };
        let taken = taken.expect("a run whose lease is over");
        self.term += 1;
        open.expired = false;
        open.totals.resumed += 1;
        assert_eq!(taken.lease, RunLease { run_id: open.id, term: self.term });
        assert_eq!(taken.cursor.as_ref().map(UserId::as_str), open.processed.last().map(String::as_str));
        let (lease, cursor, totals) = (taken.lease, taken.cursor, taken.totals);
        self.runners[n] = Some(Held { lease, cursor, totals, batch: None, through: false });
    }

    async fn work(&self, users: &[UserId]) -> Items {
        let facts = self.f.store.run_facts(users.to_vec(), 50, at(NOW)).await;
        let facts = match facts {
            Err(StoreError::Inconsistent { .. }) => panic!("a batch is told apart by user"),
            facts => facts.unwrap(),
        };
        let work = |facts: Result<PersonState, String>| match facts {
            Err(reason) => Worked::Failed(reason),
            Ok(facts) if facts.opted_out => Worked::OptedOut,
            Ok(facts) if facts.overridden => Worked::Overridden,
            Ok(facts) => {
                Worked::Computed(Box::new(computed(archetype_of(facts.requests.len()))), facts.version)
            }
        };
        users.iter().cloned().zip(facts.into_iter().map(work)).collect()
    }

    async fn read(&mut self, n: usize) {
        let Some(held) = &self.runners[n] else { return };
        if held.batch.is_some() || held.through {
            return;
        }
        let page =
            self.f.store.run_people(RunSelection::Everybody, held.cursor.clone(), BATCH).await.unwrap();
        let items = self.work(&page.users).await;
        for (user, worked) in &items {
            let poisoned = self.poisoned.contains(user.as_str());
            assert_eq!(matches!(worked, Worked::Failed(_)), poisoned, "{user}: {worked:?}");
        }
        let held = self.runners[n].as_mut().unwrap();
        held.through = page.upto.is_none();
        if !items.is_empty() {
            held.batch = Some((items, BTreeSet::new()));
        }
    }

    async fn write(&mut self, n: usize) {
        let Some(held) = &mut self.runners[n] else { return };
        let Some((items, touched)) = held.batch.take() else { return };
        let (lease, totals) = (held.lease, held.totals.clone());
        let upto = items.last().map(|(user, _)| user.clone());
        let batch = Arc::new(RunBatch { items: items.clone(), upto, again: false, totals });
        match self.f.store.save_run_batch(lease, batch).await.unwrap() {
            BatchSaved::LeaseLost => {
                assert!(!self.holds(lease), "the lease was held");
                self.runners[n] = None;
            }
            BatchSaved::Saved { items: done, totals } => {
                assert!(self.holds(lease), "a zombie has written");
                let left = items[done..].to_vec();
                for (user, worked) in &items[..done] {
                    self.expect(user, worked, touched.contains(user.as_str()), false);
                    self.open.as_mut().unwrap().processed.push(user.to_string());
                }
                let held = self.runners[n].as_mut().unwrap();
                held.cursor = Some(items[done - 1].0.clone());
                held.totals = totals;
                // An engine may store a part only; the rest is still to be written.
                held.batch = (!left.is_empty()).then_some((left, touched));
            }
        }
    }

    async fn retry(&mut self, n: usize) {
        let Some(held) = &self.runners[n] else { return };
        if !held.through || held.batch.is_some() {
            return;
        }
        let (lease, totals) = (held.lease, held.totals.clone());
        let failed = self.f.store.run_failures(lease.run_id, ATTEMPTS, 100).await.unwrap();
        let users: Vec<UserId> = failed.into_iter().map(|failure| failure.user_id).collect();
        if users.is_empty() {
            return;
        }
        let items = self.work(&users).await;
        let batch = Arc::new(RunBatch { items: items.clone(), upto: None, again: true, totals });
        match self.f.store.save_run_batch(lease, batch).await.unwrap() {
            BatchSaved::LeaseLost => {
                assert!(!self.holds(lease), "the lease was held");
                self.runners[n] = None;
            }
            BatchSaved::Saved { items: done, totals } => {
                assert!(self.holds(lease), "a zombie has written");
                for (user, worked) in &items[..done] {
                    self.expect(user, worked, false, true);
                }
                self.runners[n].as_mut().unwrap().totals = totals;
            }
        }
    }

    /// Counts what should become of a user that is written now.
    fn expect(&mut self, user: &UserId, worked: &Worked, touched: bool, again: bool) {
        let person = user.to_string();
        let open = self.open.as_mut().unwrap();
        let totals = &mut open.totals;
        totals.processed += u64::from(!again);
        if matches!(worked, Worked::Failed(_)) {
            totals.failed += u64::from(!again);
            *open.failures.entry(person).or_default() += 1;
            return;
        }
        if again {
            totals.failed -= 1;
            open.failures.remove(&person);
        }
        match worked {
            Worked::Overridden => totals.override_skipped += 1,
            Worked::OptedOut => totals.opted_out += 1,
            Worked::Computed(..) if self.opted_out.contains(&person) => totals.opted_out += 1,
            Worked::Computed(..) if self.overridden.contains(&person) => totals.override_skipped += 1,
            Worked::Computed(..) if touched => totals.superseded += 1,
            Worked::Computed(computed, _) => {
                if self.stored.insert(person, computed.archetype) == Some(computed.archetype) {
                    open.unchanged += 1;
                } else {
                    totals.updated += 1;
                }
            }
            Worked::Failed(_) => {}
        }
    }

    async fn end(&mut self, n: usize, status: RunStatus) {
        let Some(held) = self.runners[n].take() else { return };
        let end = RunEnd { status, error: None, result: None, computed_floor: None, now: at(NOW) };
        let held_on = self.holds(held.lease);
        assert_eq!(self.f.store.end_run(held.lease, end).await.unwrap(), held_on);
        if !held_on {
            return;
        }
        self.term += 1;
        if status == RunStatus::Interrupted {
            self.open.as_mut().unwrap().expired = true;
            return;
        }
        let open = self.open.take().unwrap();
        self.told(&open, status).await;
        let everybody: BTreeSet<String> = (0..PEOPLE).map(name).chain([HUB.to_owned()]).collect();
        assert_eq!(open.processed.iter().cloned().collect::<BTreeSet<_>>(), everybody, "at least once");
    }

    async fn expire(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.expired = true;
        let sqlite = "UPDATE nudge_job_leases SET expires_at = '2020-01-01T00:00:00.000000Z'";
        let postgres = "UPDATE nudge.job_leases SET expires_at = '2020-01-01T00:00:00Z'";
        self.f.sql(sqlite, postgres).await.unwrap();
    }

    async fn override_(&mut self, n: usize) {
        let change = ArchetypeChange::Override {
            archetype: Archetype::BigSpender,
            reason: "because".to_owned(),
            expires_at: None,
            computed: computed(Archetype::AverageUser),
        };
        let changed = self.f.store.change_archetype(user(&name(n)), change, admin(), at(NOW)).await.unwrap();
        if !matches!(changed, ArchetypeChanged::OptedOut) {
            self.overridden.insert(name(n));
            self.touch(&name(n));
        }
    }

    /// Gives a person's first request another time.
    async fn poison(&mut self, n: usize, sqlite: &str, postgres: &str) {
        let set = |time: &str| {
            format!("UPDATE date_change_requests SET created_at = '{time}' WHERE id = 'request-{n:04}'")
        };
        self.f.sql(&set(sqlite), &set(postgres)).await.unwrap();
        self.poisoned.extend([name(n), HUB.to_owned()]);
    }

    /// Compares a run's row with the model.
    async fn told(&self, open: &Open, status: RunStatus) {
        let run = self.f.store.run(open.id).await.unwrap().unwrap();
        assert_eq!(run.status, status);
        let totals: RunTotals = serde_json::from_value(run.metadata["totals"].clone()).unwrap();
        assert_eq!(RunTotals { moves: Vec::new(), ..totals.clone() }, open.totals);
        let count = |n: u64| i64::try_from(n).unwrap();
        assert_eq!(
            (run.processed, run.updated, run.failed),
            (count(totals.processed), count(totals.updated), count(totals.failed))
        );
        let parts = totals.updated + open.unchanged + totals.failed + totals.override_skipped;
        assert_eq!(totals.processed, parts + totals.opted_out + totals.superseded, "the counts add up");
        assert_eq!(run.cursor.as_deref(), open.processed.last().map(String::as_str));
        let unique: BTreeSet<&String> = open.processed.iter().collect();
        assert_eq!(unique.len(), open.processed.len(), "nobody twice: {:?}", open.processed);
    }

    /// What always holds.
    async fn check(&self) {
        let state = self.f.store.job_state().await.unwrap();
        assert_eq!(state.term, self.term, "one live term");
        assert_eq!(state.run_id, self.open.as_ref().map(|open| open.id));
        if let Some(open) = &self.open {
            assert_eq!(state.expired, open.expired);
            let status = if open.expired { RunStatus::Interrupted } else { RunStatus::Running };
            self.told(open, status).await;
            let failures = self.f.store.run_failures(open.id, u32::MAX, 100).await.unwrap();
            let failures: BTreeMap<String, u32> = failures
                .into_iter()
                .map(|failure| (failure.user_id.to_string(), u32::try_from(failure.attempts).unwrap()))
                .collect();
            assert_eq!(failures, open.failures);
        }
    }

    /// Lets one runner do all that is left, and compares every row with a fresh computation.
    async fn settle(&mut self) {
        for n in 0..PEOPLE {
            self.step(Step::Heal(n)).await;
        }
        // A run that begins now sees everything as it is.
        for last in [false, true] {
            if last || self.open.is_some() {
                self.step(if last { Step::Trigger(0) } else { Step::Expire }).await;
                self.step(Step::TakeOver(0)).await;
                while self.runners[0].as_ref().is_some_and(|held| !held.through || held.batch.is_some()) {
                    self.step(Step::Read(0)).await;
                    self.step(Step::Write(0)).await;
                }
                for _ in 1..ATTEMPTS {
                    self.step(Step::Retry(0)).await;
                }
                self.step(Step::Finish(0)).await;
                assert!(self.open.is_none());
            }
        }
        for person in (0..PEOPLE).map(name).chain([HUB.to_owned()]) {
            let known = self.f.person(&person).await;
            let fresh = archetype_of(known.requests.unwrap().len());
            match (self.opted_out.contains(&person), self.overridden.contains(&person)) {
                (true, _) => {}
                (_, true) => {
                    let kept = known.archetype.unwrap();
                    assert_eq!(kept.archetype, Archetype::BigSpender, "{person}");
                    assert_eq!(kept.manual.unwrap().reason, "because", "{person}");
                }
                _ => {
                    assert_eq!(known.archetype.unwrap().archetype, fresh, "{person}");
                    assert_eq!(known.version.stale_revision, None, "{person}");
                }
            }
        }
    }
}

fn interleavings(engine: Engine, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&steps(), |steps| {
        let ran = runtime.block_on(runtime.spawn(async move {
            let mut world = World::new(engine).await;
            for step in steps {
                world.step(step).await;
                world.check().await;
            }
            world.settle().await;
        }));
        ran.map_err(|panic| TestCaseError::fail(panic.to_string()))
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_interleaving_of_runners_breaks_a_run_in_a_file() {
    interleavings(Engine::Sqlite, 40);
}

#[test]
fn no_interleaving_of_runners_breaks_a_run_on_a_server() {
    interleavings(Engine::Postgres, 8);
}
