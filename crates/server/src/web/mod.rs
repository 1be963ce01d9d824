//! Pages for people.

pub mod dashboard;
pub mod start;
