//! Users whose archetype is to be recomputed between two nightly runs: those with so many new requests since the last time.
//!
//! Bounded, and each user waits once however often. What is forgotten here (a full queue, a restart) is still marked as
//! stale, so the user's next recommendation or the nightly run computes it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nudge_engine::UserId;
use tokio::sync::Notify;

/// Users whose new requests are counted, and users that may wait.
const COUNTED: usize = 100_000;
const WAITING: usize = 10_000;

/// Counts new requests, and hands over those who have enough of them.
#[derive(Debug)]
pub struct Refresher {
    /// New requests after which a user is recomputed; 0: never.
    after: u32,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<UserId, u32>,
    queue: VecDeque<UserId>,
    queued: HashSet<UserId>,
}

impl Refresher {
    /// Makes one that hands a user over after so many new requests; 0: never.
    pub fn new(after: u32) -> Self {
        Self { after, state: Mutex::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new request of each of these users.
    pub fn count(&self, users: impl IntoIterator<Item = UserId>) {
        if self.after == 0 {
            return;
        }
        let mut state = self.lock();
        let mut woken = false;
        for user in users {
            if state.counts.len() >= COUNTED && !state.counts.contains_key(&user) {
                // Most of them have been computed since, and will not come again soon.
                state.counts.clear();
            }
            let count = state.counts.entry(user.clone()).or_insert(0);
            *count += 1;
            if *count < self.after {
                continue;
            }
            if state.queue.len() >= WAITING {
                metrics::counter!("nudge_refresh_dropped_total").increment(1);
                continue;
            }
            state.counts.remove(&user);
            if state.queued.insert(user.clone()) {
                state.queue.push_back(user);
                woken = true;
            }
        }
        drop(state);
        if woken {
            self.wake.notify_one();
        }
    }

    /// Waits for the next user.
    pub async fn next(&self) -> UserId {
        loop {
            let woken = self.wake.notified();
            let next = {
                let mut state = self.lock();
                let next = state.queue.pop_front();
                if let Some(user) = &next {
                    state.queued.remove(user);
                }
                next
            };
            match next {
                Some(user) => return user,
                None => woken.await,
            }
        }
    }

    /// Gives the number of users that wait.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[tokio::test]
    async fn a_user_waits_once_after_so_many_new_requests() {
        let refresher = Refresher::new(3);
        refresher.count([user("ann"), user("bob"), user("ann")]);
        assert_eq!(refresher.waiting(), 0);
        refresher.count([user("ann")]);
        refresher.count([user("ann"), user("ann"), user("ann")]);
        assert_eq!(refresher.waiting(), 1, "once, however often");
        assert_eq!(refresher.next().await, user("ann"));
        refresher.count([user("bob"), user("bob")]);
        assert_eq!(refresher.next().await, user("bob"));
        assert_eq!(refresher.waiting(), 0);
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_left_to_the_nightly_run() {
        let never = Refresher::new(0);
        never.count([user("ann")]);
        assert_eq!(never.waiting(), 0);
        let refresher = Refresher::new(1);
        refresher.count((0..WAITING + 10).map(|n| user(&format!("user-{n}"))));
        assert_eq!(refresher.waiting(), WAITING);
        assert_eq!(refresher.lock().counts.len(), 10, "those without a place are the next ones");
        let counting = Refresher::new(2);
        counting.count((0..COUNTED + 10).map(|n| user(&format!("user-{n}"))));
        assert_eq!(counting.lock().counts.len(), 10, "the counts begin anew when there is no more room");
    }
}
