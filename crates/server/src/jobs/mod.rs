//! The work that nobody waits for: runs of the recalculation job, their schedule, and archetypes recomputed as requests
//! come in.
//!
//! Where next: [`run`] is one run from batch to batch, [`worker`] decides which run this server works on, [`schedule`] when
//! one is due, [`refresh`] what is recomputed between two of them.

pub mod refresh;
pub mod run;
pub mod schedule;
pub mod worker;
