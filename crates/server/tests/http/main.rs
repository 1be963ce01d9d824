//! The HTTP API as its clients see it: a real server on a free port with a clock that stands still, requests over real
//! sockets, and the rows that they leave behind. Written from the specification.
//!
//! With `NUDGE_TEST_ENGINE=postgres` the rows are in PostgreSQL, and every answer has to be the same.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of a test may stop it")]

mod alerts;
mod archetype;
mod auth;
mod bad_input;
mod cache;
mod canary;
mod common;
mod dashboard;
mod ingest;
mod job;
mod limits;
mod ops;
mod outcomes;
#[path = "../../../store/tests/shared/postgres.rs"]
#[expect(dead_code, reason = "the tests of several crates share it")]
mod postgres;
mod recommendations;
mod recorder;
mod report;
mod request_log;
mod rest;
mod support;
mod telemetry;
