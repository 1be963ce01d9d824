//! How many reads on behalf of callers run at a time: few, so that they take nothing from the service; fewer that count, so that
//! counts leave room for plain reads; and of one caller not so many that the others have none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;
use crate::options::ReadLimits;
use crate::query::ReadError;
use crate::rights::Caller;

/// Callers whose places are remembered before those without any are looked for.
const REMEMBERED: usize = 1_024;

/// The places.
pub(crate) struct Gate {
    limits: ReadLimits,
    places: Arc<Semaphore>,
    counting: Arc<Semaphore>,
    by_caller: Mutex<HashMap<Caller, Arc<Semaphore>>>,
}

/// A place, given back when it is dropped.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _counting: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(limits: ReadLimits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.places.max(1))),
            counting: Arc::new(Semaphore::new(limits.counting.max(1))),
            by_caller: Mutex::default(),
            limits,
        }
    }

    /// Waits for a place: first for the caller's turn, then for that of those that count, last for the place itself.
    ///
    /// # Errors
    /// [`ReadError::Busy`] when none became free in time, unavailable when the store is closed.
    pub(crate) async fn enter(&self, caller: &Caller, counts: bool) -> Result<Place, ReadError> {
        let own = self.own(caller);
        let enter = async {
            let own = own.acquire_owned().await?;
            let counting = match counts {
                true => Some(Arc::clone(&self.counting).acquire_owned().await?),
                false => None,
            };
            let place = Arc::clone(&self.places).acquire_owned().await?;
            Ok::<_, AcquireError>(Place { _own: own, _counting: counting, _place: place })
        };
        let wait = Duration::from_millis(self.limits.wait_ms);
        match tokio::time::timeout(wait, enter).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_closed)) => Err(StoreError::Unavailable { detail: "the store is closed".into() }.into()),
            Err(_) => Err(ReadError::Busy),
        }
    }

    /// Gives the places that one caller may have.
    fn own(&self, caller: &Caller) -> Arc<Semaphore> {
        let most = match caller {
            // Many people's requests may come with the one key.
            Caller::Service => self.limits.places.saturating_sub(1),
            Caller::Anonymous | Caller::User(_) => self.limits.places / 2,
        };
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        if by_caller.len() >= REMEMBERED {
            // Whoever has a place or waits for one holds on to it.
            by_caller.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = by_caller.entry(caller.clone()).or_insert_with(|| Arc::new(Semaphore::new(most.max(1))));
        Arc::clone(own)
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

#[cfg(test)]
mod tests {
    use nudge_engine::UserId;

    use super::*;

    fn gate(places: usize) -> Gate {
        Gate::new(ReadLimits { places, counting: places / 2, wait_ms: 20, ..ReadLimits::default() })
    }

    fn user(n: usize) -> Caller {
        Caller::User(UserId::parse(&format!("user-{n}")).unwrap())
    }

    #[tokio::test]
    async fn one_caller_leaves_places_to_the_others_and_counts_to_plain_reads() {
        let gate = gate(4);
        let (ann, bob) = (user(1), user(2));
        let held = [gate.enter(&ann, false).await.unwrap(), gate.enter(&ann, true).await.unwrap()];
        assert!(matches!(gate.enter(&ann, false).await, Err(ReadError::Busy)));
        let counting = gate.enter(&bob, true).await.unwrap();
        assert!(matches!(gate.enter(&Caller::Service, true).await, Err(ReadError::Busy)));
        let service = gate.enter(&Caller::Service, false).await.unwrap();
        assert!(matches!(gate.enter(&Caller::Service, false).await, Err(ReadError::Busy)), "all are taken");
        drop((held, counting, service));
        let service = [false; 3].map(|counts| gate.enter(&Caller::Service, counts));
        for place in service {
            std::mem::forget(place.await.unwrap());
        }
        assert!(matches!(gate.enter(&Caller::Service, false).await, Err(ReadError::Busy)));
        drop(gate.enter(&bob, false).await.unwrap());
    }

    #[tokio::test]
    async fn callers_that_have_left_are_forgotten() {
        let gate = gate(4);
        let held = gate.enter(&user(0), false).await.unwrap();
        for n in 1..3 * REMEMBERED {
            drop(gate.enter(&user(n), false).await.unwrap());
        }
        let by_caller = gate.by_caller.lock().unwrap();
        assert!(by_caller.len() <= REMEMBERED && by_caller.contains_key(&user(0)), "{}", by_caller.len());
        drop(held);
    }
}
