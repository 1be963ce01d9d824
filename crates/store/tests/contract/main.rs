//! The contract of the store, on its public API only, so that another backend can be run through the same.

#![expect(clippy::unwrap_used, reason = "a helper of a test or bench may stop it")]

mod archetype;
mod audit;
mod decision;
mod durability;
mod fact;
mod outcome;
mod reads;
mod rights;
mod support;
