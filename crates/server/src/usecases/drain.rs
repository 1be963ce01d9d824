//! Sets up, lists and deletes log drains.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nudge_store::{Actor, DrainCreated, LogDrain, Store, StoreError};
use serde_json::json;

use crate::clock::new_id;
use crate::drain::{Spec, SpecError};
use crate::outbound::Outbound;
use crate::outbound::address::Refused;

/// Most drains: each costs a little of every request that it might want.
const MOST: usize = 20;
/// Most headers of a drain.
const MOST_HEADERS: usize = 20;
/// Longest value of a header.
const HEADER_BYTES: usize = 4_096;
/// Longest name.
const NAME_BYTES: usize = 64;

/// Why a drain is not set up.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The name.
    #[error(
        "the name must have 1 to {NAME_BYTES} letters, digits, dots, dashes or underscores, and begin with a letter or digit"
    )]
    Name,
    /// Something of it cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The destination is an address that may not be sent to.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too many or too long headers.
    #[error("a drain has at most {MOST_HEADERS} headers of {HEADER_BYTES} bytes each")]
    Headers,
    /// The name is taken.
    #[error("there is a drain of this name already; delete it first, or choose another name")]
    Taken,
    /// There are enough.
    #[error("there are {MOST} drains already; delete one first")]
    TooMany,
    /// There is no such drain.
    #[error("there is no drain of this name; `nudge logs drain list` shows them")]
    Unknown,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A drain to be set up.
#[derive(Clone)]
pub struct NewDrain {
    /// Its name.
    pub name: String,
    /// The URL.
    pub destination: String,
    /// Which events it gets; empty for all.
    pub filters: String,
    /// Headers of every batch.
    pub headers: BTreeMap<String, String>,
    /// What batches are signed with.
    pub secret: Option<String>,
}

/// Without what may be a secret.
impl std::fmt::Debug for NewDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDrain").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sets up a drain and gives it as it is sent to. Running servers take it up within seconds.
///
/// # Errors
/// [`DrainError`] says what would be right. Nothing is changed then.
pub async fn create(
    store: &Store,
    outbound: &Outbound,
    new: NewDrain,
    actor: Actor,
    now: Timestamp,
) -> Result<Spec, DrainError> {
    if !name_is_one(&new.name) {
        return Err(DrainError::Name);
    }
    if new.headers.len() > MOST_HEADERS || new.headers.values().any(|value| value.len() > HEADER_BYTES) {
        return Err(DrainError::Headers);
    }
    let drain = LogDrain {
        id: new_id(now),
        name: new.name,
        destination: new.destination.trim().to_owned(),
        filters: new.filters,
        headers: new.headers,
        secret: new.secret,
        created_at: now,
    };
    let spec = Spec::parse(&drain)?;
    outbound.check(&spec.destination)?;
    // Two at the same moment may make one more, which harms nobody.
    if store.log_drains().await?.len() >= MOST {
        return Err(DrainError::TooMany);
    }
    // The form that every server reads the same.
    let drain = LogDrain { filters: spec.filters.to_string(), ..drain };
    let metadata = json!({
        "name": drain.name,
        "destination": spec.destination.to_string(),
        "filters": drain.filters,
        "headers": drain.headers.keys().collect::<Vec<_>>(),
        "signed": drain.secret.is_some(),
    });
    match store.create_log_drain(drain, actor, metadata).await? {
        DrainCreated::Created => Ok(spec),
        DrainCreated::NameTaken => Err(DrainError::Taken),
    }
}

/// Deletes a drain. Running servers send what they have for it, and stop within seconds.
///
/// # Errors
/// [`DrainError::Unknown`] when there is none of this name.
pub async fn delete(store: &Store, name: &str, actor: Actor, now: Timestamp) -> Result<(), DrainError> {
    match store.delete_log_drain(name.to_owned(), actor, now).await? {
        true => Ok(()),
        false => Err(DrainError::Unknown),
    }
}

/// Finds a drain by its name.
///
/// # Errors
/// [`DrainError::Unknown`] when there is none, [`DrainError::Spec`] when it cannot be sent to.
pub async fn find(store: &Store, name: &str) -> Result<Spec, DrainError> {
    let drains = store.log_drains().await?;
    let drain = drains.iter().find(|drain| drain.name == name).ok_or(DrainError::Unknown)?;
    Ok(Spec::parse(drain)?)
}

fn name_is_one(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= NAME_BYTES
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_metric_a_shell_and_a_log_take() {
        for name in ["pattern1-logs", "a", "A.b_c-9", &"a".repeat(64)] {
            assert!(name_is_one(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a\n", "ä", "a/b", "\"", &"a".repeat(65)] {
            assert!(!name_is_one(name), "{name}");
        }
    }
}
