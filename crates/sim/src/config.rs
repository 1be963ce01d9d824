//! What a world is made from.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::calendar;

/// Days in a month, wherever a rate is one a month.
pub const DAYS_PER_MONTH: f64 = 30.4;

/// How default effects are sized: Cohen's d of Jachimowicz et al. 2019 (58 studies, .68 [.53, .83]).
pub const DEFAULT_EFFECT: f64 = 0.68;

/// The last days of a demo's history, in which defaults were shown.
pub const RECENT_DAYS: i64 = 28;

/// The seed of the demo.
pub const DEMO_SEED: u64 = 42;

/// The request rate of the demo relative to world Y.
///
/// It puts all three archetypes inside the guide's bands (15–20 / 20–25 / 55–65 %): at 20,000 people they come to
/// 18.2 / 22.4 / 59.5 % (mean of ten seeds), and with [`DEMO_SEED`] and 2,000 people they stayed inside by at least
/// 1.6 points on each of 100 dates over three years. At a factor of 1 the flexible fall below their band, at 1.4 they
/// rise above it.
pub const DEMO_RATE_FACTOR: f64 = 1.18;

/// The most people that a world can have.
pub const MAX_PEOPLE: usize = 10_000_000;

/// How long the marketplace has been running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldKind {
    /// World Y: few requests, pairs that have lived together for four months on average.
    Young,
    /// World M: three to four times the requests, every pair together for 18 months.
    Mature,
}

impl WorldKind {
    /// Gives the letter that the specification and the command line use.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Young => "Y",
            Self::Mature => "M",
        }
    }

    /// Gives the months of history.
    pub(crate) const fn window_months(self) -> f64 {
        match self {
            Self::Young => 24.0,
            Self::Mature => 18.0,
        }
    }

    /// Gives the mean requests a month: premium, flexible, average.
    pub(crate) const fn monthly_rates(self) -> [f64; 3] {
        match self {
            Self::Young => [0.40, 0.17, 0.23],
            Self::Mature => [1.4, 0.6, 0.8],
        }
    }

    /// Gives the shape of the gamma distribution of the requests a month.
    pub(crate) const fn rate_shape(self) -> f64 {
        match self {
            Self::Young => 1.0,
            Self::Mature => 2.0,
        }
    }
}

/// Where nights get their weekends and their prices from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nights {
    /// Each request draws its night anew, a weekend with probability .42: the worlds of the specification's targets.
    Drawn,
    /// The calendar's nights, Friday to Sunday being the weekend; requests ask for nights that [`crate::World::nights`]
    /// lists, with the price and demand listed, and that the roommate holds.
    Calendar,
}

/// What a world is made from: the same configuration gives the same world on every machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorldConfig {
    /// How long the marketplace has been running.
    pub kind: WorldKind,
    /// Number of people: even, at least 2, at most [`MAX_PEOPLE`].
    pub people: usize,
    /// The seed.
    pub seed: u64,
    /// Multiplies everybody's rate of requests; 1 is the specification's.
    pub rate_factor: f64,
    /// The size D of the default effect; 0 switches it off.
    pub default_effect: f64,
    /// Where nights come from.
    pub nights: Nights,
    /// Days before `now` that are not history but left to [`crate::World::recent_intents`].
    pub recent_days: i64,
    /// The end of the history.
    pub now: Timestamp,
}

/// Why a configuration makes no world.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidConfig {
    /// People come in pairs.
    #[error("people must be an even number from 2 to {MAX_PEOPLE}, not {0}")]
    People(usize),
    /// A rate is finite and not negative.
    #[error("the rate factor must be a number from 0 to 100, not {0}")]
    RateFactor(f64),
    /// An effect is finite and not negative.
    #[error("the default effect must be a number from 0 to 10, not {0}")]
    DefaultEffect(f64),
    /// The recent days are part of the history.
    #[error("the recent days must be from 0 to 365, not {0}")]
    RecentDays(i64),
    /// Dates around now must exist.
    #[error("now must lie in the years 1900 to 9000, not {0}")]
    Now(Timestamp),
}

impl WorldConfig {
    /// Gives a world of the specification's targets: drawn nights, the whole window without defaults.
    pub const fn new(kind: WorldKind, people: usize, seed: u64, now: Timestamp) -> Self {
        Self {
            kind,
            people,
            seed,
            rate_factor: 1.0,
            default_effect: DEFAULT_EFFECT,
            nights: Nights::Drawn,
            recent_days: 0,
            now,
        }
    }

    /// Gives the world of `nudge demo`: Y with the calendar's nights, [`DEMO_RATE_FACTOR`], and the last
    /// [`RECENT_DAYS`] left to the engine.
    pub const fn demo(kind: WorldKind, people: usize, seed: u64, now: Timestamp) -> Self {
        Self {
            rate_factor: match kind {
                WorldKind::Young => DEMO_RATE_FACTOR,
                WorldKind::Mature => 1.0,
            },
            nights: Nights::Calendar,
            recent_days: RECENT_DAYS,
            ..Self::new(kind, people, seed, now)
        }
    }

    /// Gives the date of `now` in UTC.
    pub fn today(&self) -> Date {
        calendar::date_of(self.now)
    }

    /// Checks that a world can be made.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first value that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.people < 2 || self.people > MAX_PEOPLE || !self.people.is_multiple_of(2) {
            return Err(InvalidConfig::People(self.people));
        }
        if !(0.0..=100.0).contains(&self.rate_factor) {
            return Err(InvalidConfig::RateFactor(self.rate_factor));
        }
        if !(0.0..=10.0).contains(&self.default_effect) {
            return Err(InvalidConfig::DefaultEffect(self.default_effect));
        }
        if !(0..=365).contains(&self.recent_days) {
            return Err(InvalidConfig::RecentDays(self.recent_days));
        }
        if !(1900..=9000).contains(&self.today().year()) {
            return Err(InvalidConfig::Now(self.now));
        }
        Ok(())
    }
}
