//! The decision core of Nudge: a pure library.
//!
//! From a [`Snapshot`] of facts and a [`Policy`] full of numbers, [`decide`] chooses the pre-selected transaction type,
//! prices all three and says why. Nothing here reads a clock, a file, a database or a random source: `now`, the data
//! and the seeds are arguments, reasons and explanations are return values.
//!
//! Where next: [`signals`] turns requests into twelve numbers, [`archetype`] scores them, [`price`] is exact money,
//! [`decision`] holds the rules in order of precedence, [`reason`] is every sentence that a person may read.
//!
//! ```
//! use jiff::civil::date;
//! use nudge_engine::*;
//!
//! let policy = Policy::default();
//! let target = date(2026, 3, 15);
//! let person = |archetype, acceptance_rate| Person {
//!     archetype,
//!     confidence: 0.85,
//!     overridden: false,
//!     signals: Signals { acceptance_rate, avg_transaction_value: 900.0, ..Signals::no_data(&policy) },
//! };
//! let snapshot = Snapshot {
//!     target_date: target,
//!     days_until_check_in: days_between(date(2026, 3, 8), target),
//!     night: Night { base_price: Cents(15_000), demand: Demand::new(12_000, &policy), source: PricingSource::LeaseNight },
//!     audience: Audience::Personal(Box::new(Personal {
//!         requester: person(Archetype::BigSpender, 0.5),
//!         roommate: person(Archetype::BigSpender, 0.7),
//!         history: History { prior_requests: 4, last: None },
//!         offerable_nights: Some(2),
//!     })),
//! };
//! let decision = decide(&snapshot, &policy);
//! assert_eq!(decision.rule, Rule::BigSpenderUrgent);
//! assert_eq!(decision.primary(), TransactionType::Buyout);
//! let buyout = &decision.options[0];
//! assert_eq!((buyout.price, buyout.platform_fee, buyout.total_cost), (Cents(22_500), Cents(300), Cents(22_800)));
//! assert!((buyout.probability - 0.525).abs() < 1e-12);
//! assert_eq!(buyout.reasons[0].code(), "rule_big_spender_urgent");
//! ```

pub mod archetype;
pub mod decision;
pub mod id;
pub mod policy;
pub mod price;
pub mod reason;
pub mod signals;
pub mod urgency;
pub mod vocabulary;

pub use archetype::{Classification, ScoreRow, classify, score_table};
pub use decision::{
    Audience, Decision, History, LastRequest, NeutralCause, Night, Option3, Person, Personal, PricedOption,
    PricingSource, Rule, Snapshot, decide,
};
pub use id::{EntityId, InvalidId, UserId};
pub use policy::{InvalidPolicy, Policy};
pub use price::{Cents, Demand};
pub use reason::{Param, Reason};
pub use signals::{Request, Role, Signals, compute_signals};
pub use urgency::{Urgency, UrgencyLevel, days_between};
pub use vocabulary::{Archetype, RequestStatus, TransactionType, UnknownWord};
