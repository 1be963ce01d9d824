//! The synthetic marketplace: seeded and pure.
//!
//! People live in pairs, hold alternating nights, want nights that the roommate holds, choose, ask and answer. What they
//! are like is hidden; [`World`] gives out only what the product could have logged. Behaviour here is assumed, not
//! observed: it compares policies, it does not forecast. Prices and fees are the engine's.
//!
//! Where the specification leaves room, this crate reads it so:
//!
//! - Choice, answer and values take the engine's list prices; the proposed price, to the cent, only stands in the row.
//! - A refusal that costs is a rejection; silence costs nothing. Volume is the list price of what is accepted.
//! - Beliefs are one draw for each intent and type; the analytic values are expectations given that draw.
//! - A request without an answer is pending for seven days, then expired. An answer that comes later than the moment
//!   looked at is not known yet: the request is pending.
//! - A year has twelve months of 30.4 days where nights are drawn, and 365.25 days from 1970 on in the calendar.
//! - In the calendar a lead time that hits the requester's own night moves by a day, to either side.
//! - Everybody looks at the options, and who selects one submits it.
//!
//! Where next: [`config`] says what a world is made from, [`world`] makes it, [`night`] lists its calendar, [`intent`]
//! its wishes, [`offer`] what a wish is shown, [`course`] how it goes, [`behaviour`] why, [`ledger`] keeps requests by
//! person.
//!
//! ```
//! use nudge_engine::{Policy, Role, classify, compute_signals};
//! use nudge_sim::{Ledger, Offer, World, WorldConfig, WorldKind};
//!
//! let now: jiff::Timestamp = "2026-03-01T12:00:00Z".parse()?;
//! let world = World::generate(&WorldConfig::demo(WorldKind::Young, 200, 1, now))?;
//! let policy = Policy::default();
//! let mut ledger = Ledger::new(&world);
//! for intent in world.recent_intents()? {
//!     let known = ledger.requests_of(intent.requester_index(), intent.at);
//!     let archetype = classify(&compute_signals(&known, intent.at, &policy), &policy).archetype;
//!     let prior = ledger.history_of(intent.requester_index(), intent.at, &policy).prior_requests;
//!     let rule = nudge_engine::Rule::select(archetype, prior, intent.lead_days, &policy);
//!     // The product makes a whole decision here and uses `Offer::of(&decision)`.
//!     let offer = Offer::without_default(&intent, &policy).showing(Some(rule.order()[0]));
//!     let course = world.respond(&intent, &offer)?;
//!     if let Some(request) = course.request {
//!         ledger.add(intent.requester_index(), request);
//!     }
//! }
//! assert!(ledger.rows().len() > world.history().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod behaviour;
mod calendar;
pub mod config;
pub mod course;
mod draw;
pub mod intent;
pub mod ledger;
pub mod night;
pub mod offer;
pub mod request;
mod traits;
pub mod world;

pub use behaviour::TrueValues;
pub use config::{
    DAYS_PER_MONTH, DEFAULT_EFFECT, DEMO_RATE_FACTOR, DEMO_SEED, InvalidConfig, MAX_PEOPLE, Nights,
    RECENT_DAYS, WorldConfig, WorldKind,
};
pub use course::{Course, Score, Selection};
pub use intent::Intent;
pub use ledger::Ledger;
pub use night::NightRow;
pub use offer::{Offer, OfferedOption};
pub use request::RequestRow;
pub use world::{LeaseRow, Resident, SimError, World};
