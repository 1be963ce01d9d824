//! A bounded queue between those who must not wait and those who may.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A queue that refuses what it has no room for, so that whoever puts something in never waits.
///
/// The lock is held for as long as it takes to move what is put in or taken out, which is why takers say how much they
/// take at once. Nobody is woken: who takes things out looks in at a fixed pace, since to wake a task for every request
/// costs more than everything else here.
#[derive(Debug)]
pub struct Buffer<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> Buffer<T> {
    /// Makes a queue for at most `capacity` things. It takes memory as it fills.
    pub fn new(capacity: usize) -> Self {
        Self { items: Mutex::default(), capacity }
    }

    /// Puts something in, or says that there is no room.
    #[must_use]
    pub fn offer(&self, item: T) -> bool {
        let mut items = self.lock();
        let room = items.len() < self.capacity;
        if room {
            items.push_back(item);
        }
        room
    }

    /// Moves at most `most` of the oldest things into a list, and says how many they were.
    pub fn take(&self, most: usize, into: &mut Vec<T>) -> usize {
        let mut items = self.lock();
        let count = items.len().min(most);
        into.extend(items.drain(..count));
        count
    }

    /// Counts what is in it.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Says whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        // A push or a drain that panicked has left a queue.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_refused_and_the_oldest_comes_out_first() {
        let buffer = Buffer::new(3);
        let taken = [1, 2, 3, 4].map(|n| buffer.offer(n));
        assert_eq!(taken, [true, true, true, false]);
        let mut out = Vec::new();
        assert_eq!(buffer.take(2, &mut out), 2);
        assert!(buffer.offer(5));
        assert_eq!(buffer.len(), 2);
        assert_eq!(buffer.take(9, &mut out), 2);
        assert_eq!(out, [1, 2, 3, 5]);
        assert!(buffer.is_empty());
        assert_eq!(buffer.take(9, &mut out), 0);
    }
}
