//! The PostgreSQL schema: what its migrations make of a database, and what the database then lets whom do. Nothing here
//! goes through the store; `psql`, roles and statements are what an operator, an app or an attacker has.
//!
//! Every test has a database and an owner of its own, who is no superuser.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test may stop it, and plans are printed for whoever wants to see them"
)]

mod admin;
mod audit;
mod catalogue;
mod facts;
mod feed;
mod guide;
mod partitions;
mod plans;
mod platform;
mod rights;
mod support;
