//! Somebody wants a night that the roommate holds: before anything was shown or chosen.

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Cents, Demand, EntityId, InvalidId, UserId};

use crate::calendar::{DAY_MILLIS, add_days, add_millis, date_of, day_number};
use crate::config::{DAYS_PER_MONTH, Nights};
use crate::draw::{Draw, Purpose};
use crate::night::{drawn_terms, night_terms};
use crate::world::World;

/// Median lead time in days, the standard deviation of its logarithm, and its greatest value.
const LEAD_DAYS: (f64, f64, f64) = (11.0, 0.95, 120.0);

/// The time before now that a recent intent needs to run its course: nobody is caught while choosing.
const COURSE_MILLIS: f64 = 15.0 * 60_000.0;

/// One person wanting one night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Who wants the night.
    pub requester: UserId,
    /// Who holds it.
    pub roommate: UserId,
    /// The lease that they share.
    pub lease_id: EntityId,
    /// When it is wanted: the moment at which options are shown.
    pub at: Timestamp,
    /// The night wanted.
    pub target_night: Date,
    /// Calendar days from `at` to the night.
    pub lead_days: i64,
    /// The night's base price.
    pub base_price: Cents,
    /// The night's market demand.
    pub demand: Demand,
    /// Which of the requester's intents it is.
    pub(crate) key: Key,
}

/// Which intent it is: its sub-stream and its place in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Index of the person.
    pub(crate) person: usize,
    /// The how-manieth of that person.
    pub(crate) number: u32,
    /// Whether it comes after now.
    pub(crate) further: bool,
}

impl Key {
    /// Opens the place for what the intent is about.
    fn wish(self, seed: u64) -> Draw {
        let purpose = if self.further { Purpose::FurtherWish } else { Purpose::Wish };
        Draw::new(seed, purpose, self.person).at(u64::from(self.number))
    }

    /// Opens the place for how it goes.
    pub(crate) fn course(self, seed: u64) -> Draw {
        let purpose = if self.further { Purpose::FurtherCourse } else { Purpose::Course };
        Draw::new(seed, purpose, self.person).at(u64::from(self.number))
    }

    /// Gives the id of the request that may come of it.
    pub(crate) fn request_id(self) -> Result<EntityId, InvalidId> {
        let series = if self.further { "next" } else { "past" };
        EntityId::parse(&format!("request-{series}-{:06}-{:05}", self.person + 1, self.number + 1))
    }
}

impl Intent {
    /// Gives the index of the requester among [`World::people`].
    pub fn requester_index(&self) -> usize {
        self.key.person
    }

    /// Gives the index of the roommate among [`World::people`].
    pub fn roommate_index(&self) -> usize {
        self.key.person ^ 1
    }
}

/// A stretch of time in which intents come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Its beginning.
    start: Timestamp,
    /// Its length in months.
    months: f64,
    /// Months from the start of the world's window to its beginning.
    offset_months: f64,
    /// Whether it lies after now.
    further: bool,
}

impl Span {
    /// Gives the time of a pair from the beginning of its tenure until now.
    pub(crate) fn past(world: &World, person: usize) -> Self {
        let window = world.config.kind.window_months();
        let months = world.pair(person).tenure_months.min(window);
        let start = add_millis(world.config.now, -months * DAYS_PER_MONTH * DAY_MILLIS);
        Self { start, months, offset_months: window - months, further: false }
    }

    /// Gives the months after now.
    pub(crate) fn further(world: &World, months: f64) -> Self {
        let offset_months = world.config.kind.window_months();
        Self { start: world.config.now, months, offset_months, further: true }
    }
}

impl World {
    /// Lists a person's intents in a stretch of time, oldest first: a Poisson process of the person's rate.
    pub(crate) fn intents_of(&self, person: usize, span: Span) -> Result<Vec<Intent>, InvalidId> {
        let rate = self.traits(person).monthly_rate;
        let mut intents = Vec::new();
        if rate <= 0.0 {
            return Ok(intents);
        }
        let purpose = if span.further { Purpose::FurtherArrivals } else { Purpose::Arrivals };
        let mut arrivals = Draw::new(self.config.seed, purpose, person);
        let mut month = arrivals.exponential() / rate;
        while month < span.months {
            let number = intents.len() as u32;
            let key = Key { person, number, further: span.further };
            let at = add_millis(span.start, month * DAYS_PER_MONTH * DAY_MILLIS);
            intents.push(self.intent(key, at, span.offset_months + month)?);
            month += arrivals.exponential() / rate;
        }
        Ok(intents)
    }

    /// Draws what an intent is about.
    fn intent(&self, key: Key, at: Timestamp, month: f64) -> Result<Intent, InvalidId> {
        let mut d = key.wish(self.config.seed);
        let today = date_of(at);
        let lead = libm::exp(libm::log(LEAD_DAYS.0) + LEAD_DAYS.1 * d.normal()).round();
        let mut lead_days = lead.clamp(0.0, LEAD_DAYS.2) as i64;
        let base_price = self.pair(key.person).base_price;
        let terms = match self.config.nights {
            Nights::Drawn => drawn_terms(&mut d, base_price, month),
            Nights::Calendar => {
                lead_days = nearest_held(today, lead_days, key.person, &mut d);
                night_terms(self.config.seed, key.person / 2, base_price, add_days(today, lead_days))
            }
        };
        let (person, roommate) = (&self.people[key.person], &self.people[key.person ^ 1]);
        Ok(Intent {
            requester: person.id.clone(),
            roommate: roommate.id.clone(),
            lease_id: person.lease_id.clone(),
            at,
            target_night: add_days(today, lead_days),
            lead_days,
            base_price: terms.base_price,
            demand: terms.demand(),
            key,
        })
    }

    /// Lists the intents of the last days before now, in time order: those that the history leaves out.
    ///
    /// # Errors
    /// None for a world that was generated; ids are parsed anew.
    pub fn recent_intents(&self) -> Result<Vec<Intent>, InvalidId> {
        let line = self.history_end();
        let last = add_millis(self.config.now, -COURSE_MILLIS);
        self.merged(|world, person| {
            let mut intents = world.intents_of(person, Span::past(world, person))?;
            intents.retain(|intent| intent.at > line && intent.at <= last);
            Ok(intents)
        })
    }

    /// Lists the intents of some months after now, in time order.
    ///
    /// # Errors
    /// None for a world that was generated; ids are parsed anew.
    pub fn further_intents(&self, months: f64) -> Result<Vec<Intent>, InvalidId> {
        self.merged(|world, person| world.intents_of(person, Span::further(world, months)))
    }

    fn merged(
        &self,
        of_person: impl Fn(&Self, usize) -> Result<Vec<Intent>, InvalidId>,
    ) -> Result<Vec<Intent>, InvalidId> {
        let mut all = Vec::new();
        for person in 0..self.people.len() {
            all.append(&mut of_person(self, person)?);
        }
        all.sort_by(|a, b| a.at.cmp(&b.at).then(a.key.person.cmp(&b.key.person)));
        Ok(all)
    }
}

/// Moves a lead time by a day, either way, where the night would be the requester's own.
fn nearest_held(today: Date, lead_days: i64, person: usize, d: &mut Draw) -> i64 {
    let later = d.chance(0.5);
    let slot = day_number(today).saturating_add(lead_days).rem_euclid(2) as usize;
    match slot != person % 2 {
        true => lead_days,
        false if lead_days == 0 || (later && lead_days < LEAD_DAYS.2 as i64) => lead_days + 1,
        false => lead_days - 1,
    }
}
