//! The last answers, one for each key: so many at most, and none that is too old. Given the time.
//!
//! It runs under a lock, so nothing of the user's runs in it: keys are compared and answers cloned by those who look one up,
//! each of whom holds a reference until it is done.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// No slot: where the list ends.
const NONE: usize = usize::MAX;

/// Answers in slots, which are linked in the order in which they were stored, and found by the hash of their key.
///
/// By the hash and not by the key, so that the key is held once and need not be `Clone`. Two keys of the same hash take
/// the slot from one another, and neither gets the other's answer.
#[derive(Debug)]
pub(super) struct Store<Key, Res> {
    places: HashMap<u64, usize>,
    slots: Vec<Slot<Key, Res>>,
    oldest: usize,
    newest: usize,
    most: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Slot<Key, Res> {
    hash: u64,
    held: Arc<(Key, Res)>,
    at: Timestamp,
    /// The slots that were stored before and after it.
    older: usize,
    newer: usize,
}

/// What an answer has taken the place of. To be dropped where no lock is held.
#[derive(Debug)]
#[allow(dead_code, reason = "it is only dropped")]
pub(super) enum Replaced<Key, Res> {
    Nothing,
    Content(Key, Res),
    /// Somebody is still looking at it.
    Held(Arc<(Key, Res)>),
}

impl<Key, Res> Store<Key, Res> {
    /// Holds `most` answers, at least one.
    pub(super) fn new(most: usize, max_age: Duration) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), oldest: NONE, newest: NONE, most, max_age }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The answer for a key of this hash, and its age at `now`.
    pub(super) fn get(&self, hash: u64, now: Timestamp) -> Option<(Arc<(Key, Res)>, Duration)> {
        let slot = self.slots.get(*self.places.get(&hash)?)?;
        let age = now.since(slot.at);
        (age <= self.max_age).then(|| (Arc::clone(&slot.held), age))
    }

    /// Stores an answer. Allocates nothing if it takes the place of one that nobody looks at.
    #[must_use]
    pub(super) fn put(&mut self, hash: u64, key: Key, answer: Res, now: Timestamp) -> Replaced<Key, Res> {
        let place = match self.places.get(&hash) {
            Some(place) => *place,
            None => {
                let place = self.place_of_another(now);
                self.places.insert(hash, place);
                place
            }
        };
        self.unlink(place);
        let older = mem::replace(&mut self.newest, place);
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        let Some(slot) = self.slots.get_mut(place) else {
            self.slots.push(Slot { hash, held: Arc::new((key, answer)), at: now, older, newer: NONE });
            return Replaced::Nothing;
        };
        (slot.hash, slot.at, slot.older, slot.newer) = (hash, now, older, NONE);
        match Arc::get_mut(&mut slot.held) {
            Some(held) => {
                let (key, answer) = mem::replace(held, (key, answer));
                Replaced::Content(key, answer)
            }
            None => Replaced::Held(mem::replace(&mut slot.held, Arc::new((key, answer)))),
        }
    }

    /// Where to put the answer of a key that has none: in place of the oldest, if that is too old or there is no room
    /// beside it.
    fn place_of_another(&mut self, now: Timestamp) -> usize {
        match self.slots.get(self.oldest) {
            Some(oldest) if self.slots.len() >= self.most || now.since(oldest.at) > self.max_age => {
                self.places.remove(&oldest.hash);
                self.oldest
            }
            _ => self.slots.len(),
        }
    }

    /// Takes a slot, if there is one at `place`, out of the order.
    fn unlink(&mut self, place: usize) {
        let Some(&Slot { older, newer, .. }) = self.slots.get(place) else { return };
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    /// Forgets all answers. They are given back, to be dropped where no lock is held.
    #[must_use]
    pub(super) fn clear(&mut self) -> Self {
        mem::replace(self, Self::new(self.most, self.max_age))
    }
}
