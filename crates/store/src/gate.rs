//! How many reads on behalf of callers run at a time: few, so that they take nothing from the service, and fewer that
//! count, so that counts leave room for plain reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;
use crate::options::ReadLimits;
use crate::query::ReadError;

/// The places.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    counting: Arc<Semaphore>,
    wait: Duration,
}

/// A place, given back when it is dropped.
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    _counting: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(limits: &ReadLimits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.places.max(1))),
            counting: Arc::new(Semaphore::new(limits.counting.max(1))),
            wait: Duration::from_millis(limits.wait_ms),
        }
    }

    /// Waits for a place; one that counts waits for its turn among those first.
    ///
    /// # Errors
    /// [`ReadError::Busy`] when none became free in time, unavailable when the store is closed.
    pub(crate) async fn enter(&self, counts: bool) -> Result<Place, ReadError> {
        let enter = async {
            let counting = match counts {
                true => Some(Arc::clone(&self.counting).acquire_owned().await?),
                false => None,
            };
            let place = Arc::clone(&self.places).acquire_owned().await?;
            Ok::<_, AcquireError>(Place { _place: place, _counting: counting })
        };
        match tokio::time::timeout(self.wait, enter).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_closed)) => Err(StoreError::Unavailable { detail: "the store is closed".into() }.into()),
            Err(_) => Err(ReadError::Busy),
        }
    }

    /// Refuses whoever comes later.
    pub(crate) fn close(&self) {
        self.places.close();
        self.counting.close();
    }

    /// Says whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }
}
