//! The contract of the store, on its public API only, so that both engines are run through the same.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test or bench may stop it"
)]

mod alert;
mod archetype;
mod audit;
mod browse;
#[path = "../shared/cluster.rs"]
#[expect(dead_code, reason = "the tests of several crates share it")]
mod cluster;
mod commit;
mod decision;
mod durability;
mod fact;
mod job;
mod job_model;
mod mapped;
mod outage;
mod outcome;
mod pooler;
#[path = "../shared/postgres.rs"]
mod postgres;
mod reads;
mod report;
mod request;
mod rights;
mod story;
mod support;
mod tls;
