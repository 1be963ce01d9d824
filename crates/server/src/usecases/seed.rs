//! Fills a fresh database with a simulated marketplace. What people do in the last weeks goes through the real engine
//! and is recorded with its outcomes exactly as live requests are, marked `context.source: "simulated"`.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nudge_engine::{
    Audience, EntityId, Night, Person, Personal, Policy, PricingSource, Snapshot, classify, compute_signals,
    days_between, decide,
};
use nudge_sim::{Course, Intent, Ledger, NightRow, Offer, RequestRow, World};
use nudge_store::{
    DateChangeRequestRow, EventKind, FactChange, FactRow, LeaseMemberRow, LeaseNightRow, LeaseRow,
    OutcomeEvent, OutcomeReporter, ProfileRow, Store,
};
use uuid::Uuid;

use super::recommend::{Decided, Question};
use super::record::{Asker, record_of};
use crate::clock::{day_of, new_id};
use crate::config::Config;

/// Most outcomes in one transaction.
const OUTCOMES: usize = 500;

/// Fills the database: people, leases, nights of a range of dates, requests, decisions with their outcomes.
///
/// # Errors
/// When the database cannot be written.
pub async fn fill(
    store: &Store,
    world: &World,
    nights: (Date, Date),
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<()> {
    let mut facts = residents(world);
    facts.extend(
        world
            .nights(nights.0, nights.1)
            .map(|night| FactChange::Upsert(FactRow::LeaseNight(night_row(night)))),
    );
    store.apply_facts(facts, now).await?;

    let live = Live { world, policy: &config.policy, zone: &config.zone, now };
    let past = live.run(store).await?;
    let requests: Vec<FactChange> = past
        .ledger
        .rows()
        .iter()
        .filter_map(|row| row.as_of(now))
        .map(|row| FactChange::Upsert(FactRow::DateChangeRequest(request_row(row, &past.recommended))))
        .collect();
    store.apply_facts(requests, now).await?;
    for events in past.events.chunks(OUTCOMES) {
        store.record_outcomes(OutcomeReporter::Service, events.to_vec(), now).await?;
    }
    Ok(())
}

fn residents(world: &World) -> Vec<FactChange> {
    let mut facts = Vec::with_capacity(world.people().len() * 4);
    for person in world.people() {
        let profile =
            ProfileRow { id: person.id.clone(), role: None, personalization_opt_out: None, created_at: None };
        facts.push(FactChange::Upsert(FactRow::Profile(profile)));
    }
    for lease in world.leases() {
        let row = LeaseRow {
            id: lease.id.clone(),
            name: Some(lease.name.clone()),
            created_at: Some(lease.created_at),
        };
        facts.push(FactChange::Upsert(FactRow::Lease(row)));
        for member in &lease.members {
            let row = LeaseMemberRow { lease_id: lease.id.clone(), user_id: member.clone() };
            facts.push(FactChange::Upsert(FactRow::LeaseMember(row)));
        }
    }
    facts
}

/// Makes the stored row of a simulated night.
pub fn night_row(night: NightRow) -> LeaseNightRow {
    LeaseNightRow {
        lease_id: night.lease_id,
        night: night.night,
        held_by: Some(night.held_by),
        base_price_cents: night.base_price.0,
        demand_ten_thousandths: Some(night.demand_ten_thousandths),
    }
}

fn request_row(row: RequestRow, recommended: &HashMap<EntityId, Uuid>) -> DateChangeRequestRow {
    DateChangeRequestRow {
        recommendation_id: recommended.get(&row.id).copied(),
        id: row.id,
        lease_id: Some(row.lease_id),
        requester_id: row.requester,
        receiver_id: row.receiver,
        transaction_type: row.transaction_type,
        target_night: row.target_night,
        offered_night: row.offered_night,
        proposed_price_cents: row.proposed_price.map(|p| p.0),
        base_price_cents: Some(row.base_price.0),
        status: row.status,
        created_at: row.created_at,
        responded_at: row.responded_at,
    }
}

/// What the last weeks left behind.
struct Past {
    ledger: Ledger,
    /// Which decision a request came from.
    recommended: HashMap<EntityId, Uuid>,
    /// What the requests' rows do not tell: viewed, selected, nps.
    events: Vec<OutcomeEvent>,
}

/// The last weeks with defaults shown.
struct Live<'a> {
    world: &'a World,
    policy: &'a Policy,
    zone: &'a TimeZone,
    now: Timestamp,
}

impl Live<'_> {
    async fn run(&self, store: &Store) -> anyhow::Result<Past> {
        let mut past =
            Past { ledger: Ledger::new(self.world), recommended: HashMap::new(), events: Vec::new() };
        let mut commits = tokio::task::JoinSet::new();
        for intent in self.world.recent_intents()? {
            let question = Question {
                user: intent.requester.clone(),
                roommate: intent.roommate.clone(),
                target_date: intent.target_night,
            };
            let decided = self.decide(&intent, &past.ledger);
            let id = new_id(intent.at);
            let asker = Asker { source: Some("simulated".to_owned()), ..Asker::default() };
            let (row, _) =
                record_of(id, Some(&question), &question, &decided, asker, &self.policy.name, intent.at)?;
            let store = store.clone();
            commits.spawn(async move { store.record_decision(row).await });
            let course = self.world.respond(&intent, &Offer::of(&decided.decision))?;
            self.note(id, &course, &mut past.events);
            if let Some(request) = course.request {
                past.recommended.insert(request.id.clone(), id);
                past.ledger.add(intent.requester_index(), request);
            }
        }
        while let Some(committed) = commits.join_next().await {
            committed??;
        }
        Ok(past)
    }

    fn decide(&self, intent: &Intent, ledger: &Ledger) -> Decided {
        let person = |index: usize| {
            let signals = compute_signals(&ledger.requests_of(index, intent.at), intent.at, self.policy);
            let classification = classify(&signals, self.policy);
            Person {
                archetype: classification.archetype,
                confidence: classification.confidence,
                overridden: false,
                signals,
            }
        };
        let today = day_of(intent.at, self.zone);
        let requester = intent.requester_index();
        let snapshot = Snapshot {
            target_date: intent.target_night,
            days_until_check_in: days_between(today, intent.target_night),
            night: Night {
                base_price: intent.base_price,
                demand: intent.demand,
                source: PricingSource::LeaseNight,
            },
            audience: Audience::Personal(Box::new(Personal {
                requester: person(requester),
                roommate: person(intent.roommate_index()),
                history: ledger.history_of(requester, intent.at, self.policy),
                offerable_nights: Some(self.offerable(intent, today)),
            })),
        };
        let decision = decide(&snapshot, self.policy);
        Decided { snapshot, decision, lease: Some(intent.lease_id.clone()), degraded: false }
    }

    /// Counts the requester's own nights after today within the window around the target, as the store does.
    fn offerable(&self, intent: &Intent, today: Date) -> u32 {
        let span = jiff::Span::new().days(self.policy.swap_window_days);
        let (from, to) = (intent.target_night.saturating_sub(span), intent.target_night.saturating_add(span));
        let from = from.max(today.tomorrow().unwrap_or(today));
        let own = self.world.lease_nights(intent.requester_index() / 2, from, to);
        own.filter(|night| night.held_by == intent.requester && night.night != intent.target_night)
            .fold(0, |count, _| count + 1)
    }

    fn note(&self, id: Uuid, course: &Course, events: &mut Vec<OutcomeEvent>) {
        let event = |kind, at: Timestamp| OutcomeEvent {
            recommendation_id: id,
            kind,
            transaction_type: None,
            time_to_decision_seconds: None,
            nps_score: None,
            occurred_at: Some(at),
        };
        events.push(event(EventKind::Viewed, course.viewed_at));
        if let Some(selection) = &course.selected {
            events.push(OutcomeEvent {
                transaction_type: Some(selection.transaction_type),
                time_to_decision_seconds: Some(selection.time_to_decision_seconds),
                ..event(EventKind::Selected, selection.at)
            });
        }
        if let Some(score) = course.score.as_ref().filter(|score| score.at <= self.now) {
            events.push(OutcomeEvent { nps_score: Some(score.score), ..event(EventKind::Nps, score.at) });
        }
    }
}
