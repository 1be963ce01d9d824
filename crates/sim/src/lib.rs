//! The synthetic marketplace: seeded and pure.
//!
//! People live in pairs, hold alternating nights, want nights that the roommate holds, choose, ask and answer. What they
//! are like is hidden; [`World`] gives out only what the product could have logged. Behaviour here is assumed, not
//! observed: it compares policies, it does not forecast. Prices and fees are the engine's.
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
    DAYS_PER_MONTH, DEFAULT_EFFECT, DEMO_RATE_FACTOR, DEMO_SEED, InvalidConfig, Nights, RECENT_DAYS,
    WorldConfig, WorldKind,
};
pub use course::{Course, Score, Selection};
pub use intent::Intent;
pub use ledger::Ledger;
pub use night::NightRow;
pub use offer::{Offer, OfferedOption};
pub use request::RequestRow;
pub use world::{LeaseRow, Resident, SimError, World};
