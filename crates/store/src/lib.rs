//! Keeps what the service knows: facts of the app, archetypes, decisions and what came of them, the audit log.
//!
//! [`Store`] is the contract, over one of two engines. This crate is the only place that knows SQL.
//!
//! - SQLite, the embedded default, a file in WAL mode: reads run inline on the caller, in one read transaction,
//!   microseconds.
//! - Durable writes go through one writer thread, which commits what has queued up in one transaction and answers
//!   each caller only after the commit.
//!
//! Where next: [`record`] holds what goes in and out, [`fact`] the app's facts and how they are parsed, [`outcome`]
//! what the events of a decision add up to, [`rights`] who may see which rows, `sqlite` the embedded engine.

pub mod admin;
pub mod alert;
pub mod audit;
pub mod browse;
pub mod catalog;
pub mod error;
pub mod fact;
mod format;
mod gate;
pub mod job;
pub mod options;
pub mod outcome;
mod postgres;
pub mod query;
pub mod record;
pub mod report;
pub mod request;
pub mod rights;
mod sqlite;
mod store;

pub use alert::{AlertRow, AlertSave, AlertSilence, AlertState, AlertTransition, RecentRuns};
pub use browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionListed, DecisionPage,
    DecisionSearch,
};
pub use error::StoreError;
pub use fact::{
    DateChangeRequestRow, FactChange, FactKey, FactRow, FactTable, FactsApplied, FieldError, LeaseMemberRow,
    LeaseNightRow, LeaseRow, ProfileRow,
};
pub use options::{PoolStats, PostgresOptions, ReadLimits, Retention, StoreOptions, WriterStats};
pub use outcome::Outcome;
pub use postgres::Role;
pub use postgres::dsn::{Dsn, DsnError};
pub use query::{ReadAnswer, ReadError, ReadQuery};
pub use record::{
    Actor, Announced, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, AuditReport, Changed,
    ComputedArchetype, DatedNight, DecisionRow, EventKind, FactsVersion, ManualOverride, NightFacts,
    NightQuery, NightRow, OutcomeError, OutcomeEvent, OutcomeReporter, OutcomesRecorded, PersonFacts,
    Profile, ProfileRole, RunRow, StoredArchetype, StoredDecision, StoredEvent, WithRequests,
};
pub use report::{Audience, CellKey, Counts, Folded, JobFigures, RequestFigures, Tally};
pub use request::{DrainCreated, LogDrain, RequestRow};
pub use rights::{Caller, Grade, RightsError, Scope, Verb};
pub use store::Store;
