//! Where the facts come from: our own tables, or the app's through a view.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::convert::{get, statements};
use super::lanes::Lanes;
use crate::error::StoreError;
use crate::fact::FactTable;

statements! {
    SELECT_STATES [] = "SELECT name, state FROM nudge.fact_states";
}

/// How long it is believed: an operator may give the service a view while it runs.
const BELIEVED: Duration = Duration::from_secs(30);

/// Which facts are in our own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sources {
    own: [bool; FactTable::ALL.len()],
}

impl Sources {
    /// Says whether the facts are in our own table, so that they can be written.
    pub(super) fn is_own(self, table: FactTable) -> bool {
        self.own.get(table as usize).copied().unwrap_or(false)
    }
}

/// What is known of the sources.
#[derive(Default)]
pub(super) struct KnownSources(RwLock<Option<(Instant, Sources)>>);

impl KnownSources {
    /// Gives the sources, read again when that was a while ago.
    pub(super) async fn get(&self, lanes: &Lanes) -> Result<Sources, StoreError> {
        let known = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, sources)) = known
            && read.elapsed() < BELIEVED
        {
            return Ok(sources);
        }
        let mut sources = Sources::default();
        for row in lanes.query("fact_states", &SELECT_STATES, &[]).await? {
            let (name, state): (String, String) =
                (get(&row, 0, "fact_states")?, get(&row, 1, "fact_states")?);
            if let Ok(table) = name.parse::<FactTable>()
                && let Some(own) = sources.own.get_mut(table as usize)
            {
                *own = state == "own";
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), sources));
        Ok(sources)
    }
}
