//! Requests by person, so that decisions can be made on what was known at a moment.

use jiff::Timestamp;
use nudge_engine::{History, LastRequest, Policy, Request, RequestStatus, Role};

use crate::request::RequestRow;
use crate::world::World;

/// The requests of all people, by their index among [`World::people`].
#[derive(Debug, Clone)]
pub struct Ledger {
    rows: Vec<RequestRow>,
    by_person: Vec<Vec<(usize, Role)>>,
}

impl Ledger {
    /// Opens a ledger with the world's history.
    pub fn new(world: &World) -> Self {
        let mut ledger = Self { rows: Vec::new(), by_person: vec![Vec::new(); world.people().len()] };
        let mut index = std::collections::BTreeMap::new();
        for (person, resident) in world.people().iter().enumerate() {
            index.insert(resident.id.as_str(), person);
        }
        for row in world.history() {
            if let Some(requester) = index.get(row.requester.as_str()) {
                ledger.add(*requester, row.clone());
            }
        }
        ledger
    }

    /// Adds a request of the person with this index; the receiver is their roommate.
    pub fn add(&mut self, requester: usize, row: RequestRow) {
        let place = self.rows.len();
        for (person, role) in [(requester, Role::Requester), (requester ^ 1, Role::Receiver)] {
            if let Some(rows) = self.by_person.get_mut(person) {
                rows.push((place, role));
            }
        }
        self.rows.push(row);
    }

    /// Lists all requests with their final status, in the order in which they were added.
    pub fn rows(&self) -> &[RequestRow] {
        &self.rows
    }

    /// Lists a person's requests in both roles as they stood at a moment, in no particular order.
    pub fn requests_of(&self, person: usize, at: Timestamp) -> Vec<Request> {
        let places = self.by_person.get(person).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .filter_map(|(place, role)| Some(self.rows.get(*place)?.as_of(at)?.seen_as(*role)))
            .collect()
    }

    /// Sums up a person's past as the engine's rules look at it.
    pub fn history_of(&self, person: usize, at: Timestamp, policy: &Policy) -> History {
        let mut asked = self.requests_of(person, at);
        asked.retain(|request| request.role == Role::Requester);
        asked.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        asked.truncate(policy.history_requests as usize);
        History {
            prior_requests: asked.len() as u32,
            last: asked.first().map(|request| LastRequest {
                transaction_type: request.transaction_type,
                accepted: request.status == RequestStatus::Accepted,
            }),
        }
    }
}
