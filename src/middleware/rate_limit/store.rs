//! One quota for each key: so many keys at most. Pure: it is given the time.
//!
//! A key whose arrival has come is as good as one that was never seen, so forgetting it changes nothing; those are the only
//! ones that are forgotten. The heap finds them: it has each key once, with an arrival that the key had at some time, or a
//! moment before that. What a call moves on is corrected in the heap when it comes up, and each such step was paid for by a
//! call. An arrival moves back when turns are given back, and the heap does not hear of it; so nothing is noted that is further
//! away than a burst, and a key whose calls wait for longer is looked at again once in a burst. While there is room a key stays
//! for as long again as a burst takes to come back, so that one that is called often is not made anew each time.
//!
//! No call takes more than a few steps, whatever the others have left to do: when there is no room, one that needs some looks at
//! 32 keys at most, and one of a known key at two. So a new key may be refused although one is idle, just after many that
//! seemed to be have turned out not to be; each such call brings the answer nearer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::state::{Rate, Refusal, Turn, Used};

/// What is known of the keys, by their hashes.
#[derive(Debug)]
pub(super) struct Store {
    rate: Rate,
    most: usize,
    used: HashMap<u64, Used, BuildHasherDefault<Hashed>>,
    idle_first: BinaryHeap<Reverse<(u64, u64)>>,
}

/// A hash is its own hash.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// How many keys a call looks at when it needs room for another.
const MOST_STEPS: usize = 32;
/// What a call is told that has looked at so many and found none: there may be room as soon as others have looked.
const SOON: u64 = 1_000_000;

/// What a step of the search for idle keys came upon.
enum Step {
    Forgot,
    Corrected,
    /// No key is idle before then.
    NoneBefore(u64),
}

impl Rate {
    /// What is noted of an arrival: no more than a burst ahead, in case it moves back.
    fn noted(self, arrival: u64, now: u64) -> u64 {
        arrival.min(now.saturating_add(self.burst))
    }
}

impl Store {
    pub(super) fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, used: HashMap::default(), idle_first: BinaryHeap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    #[cfg(all(test, not(stanchion_loom)))]
    pub(super) fn capacity(&self) -> usize {
        self.used.capacity().max(self.idle_first.capacity())
    }

    /// How many keys the heap knows too early an arrival of.
    #[cfg(all(test, not(stanchion_loom)))]
    pub(super) fn stale(&self) -> usize {
        let is_stale =
            |(noted, key): (u64, u64)| self.used.get(&key).is_some_and(|used| used.arrival > noted);
        self.idle_first.iter().filter(|Reverse(first)| is_stale(*first)).count()
    }

    #[inline]
    pub(super) fn take(&mut self, key: u64, cost: u32, now: u64, most: u64) -> Result<Turn, Refusal> {
        // What has long been idle goes, little by little, so that no call waits for much of it. Not what is only just idle:
        // it may be back soon.
        let long_ago = now.saturating_sub(self.rate.burst);
        self.forget(long_ago);
        let Some(used) = self.used.get_mut(&key) else {
            let turn = self.rate.ask(Used::default(), cost, now, most)?;
            self.forget(long_ago);
            self.make_room(now)?;
            self.insert(key, turn.with);
            return Ok(turn);
        };
        let turn = self.rate.ask(*used, cost, now, most)?;
        used.arrival = turn.with;
        if self.used.len() >= self.most {
            self.correct(now);
        }
        Ok(turn)
    }

    #[cold]
    fn insert(&mut self, key: u64, arrival: u64) {
        self.used.insert(key, Used { arrival, opens: 0 });
        self.idle_first.push(Reverse((arrival, key)));
    }

    #[cold]
    fn make_room(&mut self, now: u64) -> Result<(), Refusal> {
        for _ in 0..MOST_STEPS {
            if self.used.len() < self.most {
                return Ok(());
            }
            if let Step::NoneBefore(arrival) = self.step(now) {
                return Err(Refusal::NoRoom(arrival.saturating_sub(now)));
            }
        }
        match self.idle_first.peek() {
            _ if self.used.len() < self.most => Ok(()),
            Some(Reverse((noted, _))) if *noted > now => Err(Refusal::NoRoom(noted.saturating_sub(now))),
            _ => Err(Refusal::NoRoom(SOON)),
        }
    }

    /// Corrects what is noted of keys that seem to be idle and are not. Where there is no room, each call of a known key does so
    /// for more than it moves on itself, so that a new one need not look at all of them.
    #[cold]
    fn correct(&mut self, now: u64) {
        for _ in 0..2 {
            let Some(mut first) = self.idle_first.peek_mut() else { return };
            let Reverse((noted, key)) = *first;
            match self.used.get(&key) {
                Some(used) if noted <= now && used.arrival > noted => {
                    *first = Reverse((self.rate.noted(used.arrival, now), key));
                }
                _ => return,
            }
        }
    }

    /// Looks for a key that has been idle since `then`.
    #[inline]
    fn forget(&mut self, then: u64) {
        if self.idle_first.peek().is_some_and(|Reverse((noted, _))| *noted <= then) {
            self.step(then);
        }
    }

    /// Looks at the key that seems to be idle first.
    #[cold]
    fn step(&mut self, then: u64) -> Step {
        let Some(mut first) = self.idle_first.peek_mut() else { return Step::NoneBefore(Rate::LAST) };
        let Reverse((noted, key)) = *first;
        let arrival = self.used.get(&key).map_or(0, |used| used.arrival);
        let correct = self.rate.noted(arrival, then);
        if correct > noted {
            *first = Reverse((correct, key));
            return Step::Corrected;
        }
        if noted > then {
            return Step::NoneBefore(noted);
        }
        PeekMut::pop(first);
        self.used.remove(&key);
        self.shrink();
        Step::Forgot
    }

    /// Gives memory back of which three quarters are unused.
    fn shrink(&mut self) {
        const SMALL: usize = 1024;
        let wanted = self.used.len().saturating_mul(2);
        if self.used.capacity() > SMALL.max(wanted.saturating_mul(2)) {
            self.used.shrink_to(wanted);
            self.idle_first.shrink_to(wanted);
        }
    }

    /// Takes a turn back that was not used, if it is the last one that was taken of the key.
    pub(super) fn give_back(&mut self, key: u64, turn: &Turn) {
        if let Some(used) = self.used.get_mut(&key).filter(|used| used.arrival == turn.with) {
            used.arrival = turn.without.max(used.opens);
        }
    }

    pub(super) fn reconfigure(&mut self, rate: Rate, most: usize, now: u64) {
        self.most = most;
        if rate == self.rate {
            return;
        }
        for used in self.used.values_mut() {
            *used = rate.take_over(self.rate, *used, now);
        }
        let noted = |(key, used): (&u64, &Used)| Reverse((rate.noted(used.arrival, now), *key));
        self.idle_first = self.used.iter().map(noted).collect();
        self.rate = rate;
    }

    pub(super) fn available(&self, key: u64, now: u64) -> u32 {
        self.rate.available(self.used.get(&key).copied().unwrap_or_default(), now)
    }
}
