//! A world: people in pairs, their leases, and a history in which no default was shown.

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{EntityId, InvalidId, Policy, UserId};

use crate::calendar::{DAY_MILLIS, add_millis};
use crate::config::{DAYS_PER_MONTH, InvalidConfig, WorldConfig};
use crate::intent::Span;
use crate::request::RequestRow;
use crate::traits::{Pair, Traits};

/// Why no world was made.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SimError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// An id that the generator made is not one: a fault of the generator.
    #[error("generated id: {0}")]
    Id(#[from] InvalidId),
}

/// One person, as the app knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// The person's id.
    pub id: UserId,
    /// The lease shared with the roommate.
    pub lease_id: EntityId,
    /// The roommate.
    pub roommate: UserId,
}

/// One lease with its two members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The lease's id.
    pub id: EntityId,
    /// A name for people.
    pub name: String,
    /// When the pair moved in.
    pub created_at: Timestamp,
    /// The roommates; the first holds the nights with an even day number, the second the others.
    pub members: [UserId; 2],
}

/// A synthetic marketplace. What people are like stays inside; what the product could have logged is given out.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) config: WorldConfig,
    pub(crate) people: Vec<Resident>,
    pub(crate) leases: Vec<LeaseRow>,
    pub(crate) pairs: Vec<Pair>,
    traits: Vec<Traits>,
    history: Vec<RequestRow>,
}

impl World {
    /// Makes the world of a configuration, priced by `rules-v1`.
    ///
    /// # Errors
    /// [`SimError::Config`] if the configuration cannot be used.
    pub fn generate(config: &WorldConfig) -> Result<Self, SimError> {
        config.validate()?;
        let pairs: Vec<Pair> = (0..config.people / 2).map(|pair| Pair::draw(config, pair)).collect();
        let mut world = Self {
            config: *config,
            people: Vec::with_capacity(config.people),
            leases: Vec::with_capacity(pairs.len()),
            traits: (0..config.people).map(|person| Traits::draw(config, person)).collect(),
            pairs,
            history: Vec::new(),
        };
        for lease in 0..world.pairs.len() {
            world.move_in(lease)?;
        }
        world.history = world.past()?;
        Ok(world)
    }

    /// Gives what the world was made from.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// Lists the people; roommates stand side by side.
    pub fn people(&self) -> &[Resident] {
        &self.people
    }

    /// Lists the leases, in the order of their members among the people.
    pub fn leases(&self) -> &[LeaseRow] {
        &self.leases
    }

    /// Lists the requests until [`World::history_end`], oldest first, with their final status: [`RequestRow::as_of`]
    /// gives what was known at a moment.
    pub fn history(&self) -> &[RequestRow] {
        &self.history
    }

    /// Lists the requests of the history as they stand at the world's now, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = RequestRow> + '_ {
        self.history.iter().filter_map(|row| row.as_of(self.config.now))
    }

    /// Gives the moment until which the history goes: now, less the recent days.
    pub fn history_end(&self) -> Timestamp {
        let recent = SignedDuration::from_hours(24 * self.config.recent_days);
        self.config.now.saturating_sub(recent).unwrap_or(self.config.now)
    }

    pub(crate) fn traits(&self, person: usize) -> &Traits {
        &self.traits[person]
    }

    pub(crate) fn pair(&self, person: usize) -> &Pair {
        &self.pairs[person / 2]
    }

    fn move_in(&mut self, lease: usize) -> Result<(), InvalidId> {
        let user = |person: usize| UserId::parse(&format!("user-{:06}", person + 1));
        let members = [user(2 * lease)?, user(2 * lease + 1)?];
        let id = EntityId::parse(&format!("lease-{:06}", lease + 1))?;
        for slot in 0..2 {
            self.people.push(Resident {
                id: members[slot].clone(),
                lease_id: id.clone(),
                roommate: members[1 - slot].clone(),
            });
        }
        let tenure = self.pairs[lease].tenure_months * DAYS_PER_MONTH * DAY_MILLIS;
        self.leases.push(LeaseRow {
            id,
            name: format!("Home {}", lease + 1),
            created_at: add_millis(self.config.now, -tenure),
            members,
        });
        Ok(())
    }

    /// Runs the intents of the history.
    fn past(&self) -> Result<Vec<RequestRow>, InvalidId> {
        let (policy, end) = (Policy::default(), self.history_end());
        let mut rows = Vec::new();
        for person in 0..self.people.len() {
            for intent in self.intents_of(person, Span::past(self, person))? {
                if intent.at <= end {
                    rows.extend(self.respond_unaided(&intent, &policy)?);
                }
            }
        }
        rows.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(rows)
    }
}
