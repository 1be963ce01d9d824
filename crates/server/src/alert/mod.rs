//! Alerts that need nothing else: figures, rules, a state machine, and the ways to tell somebody.
//!
//! - [`figures`] counts requests, [`window`] makes a share of errors and a P95 of two such counts;
//! - [`rule`] says what is watched and from where on it is too much;
//! - [`machine`] decides, without any IO, where an alert stands and whether somebody is to be told;
//! - [`notice`] is what they are told, [`channel`] how.
//!
//! Where next: [`crate::usecases::alerts`] joins these to the store and the clock.

pub mod channel;
pub mod config;
pub mod figures;
pub mod machine;
pub mod notice;
pub mod rule;
pub mod window;

#[cfg(test)]
mod tests;
