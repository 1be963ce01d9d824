//! The contract of the store, on its public API only, so that another backend can be run through the same.

#![expect(clippy::unwrap_used, reason = "a helper of a test or bench may stop it")]

mod archetype;
mod decision;
mod support;
