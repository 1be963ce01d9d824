//! Nudge's server: HTTP API, command line, and the use cases that join the engine to the store.
//!
//! Where next: [`api`] has one file a route, [`usecases`] what they do, [`recorder`] how a decision gets to disk,
//! [`cli`] one file a command, [`config`] every setting.

pub mod alert;
pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod jobs;
pub mod outbound;
pub mod recorder;
pub mod request_log;
pub mod rest;
pub mod server;
pub mod telemetry;
pub mod usecases;
pub mod web;
pub mod wire;
