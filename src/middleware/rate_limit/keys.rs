use std::hash::{BuildHasher, Hash, RandomState};

use super::config::Settings;
use super::quotas::{Ask, Quotas};
use super::state::{Refusal, Turn};
use super::store::Store;
use crate::base::sync::{Mutex, MutexGuard, lock};

/// A quota for each key, in parts with a lock for each.
///
/// Keys are known by their hash, which nobody outside can foresee: two keys of the same hash, one pair in a million times a
/// million keys, share a quota.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Box<[Part]>,
    hasher: RandomState,
}

/// On cache lines of its own, so that nobody waits for who has another part.
#[derive(Debug)]
#[repr(align(128))]
struct Part(Mutex<Store>);

impl Keys {
    pub(super) fn new(settings: &Settings) -> Self {
        // So many keys to a part that chance fills all parts to about the same degree.
        const KEYS_IN_A_PART: usize = 256;
        // And so few that what a call may have to do for a whole part, to make its table larger, takes some microseconds.
        const MOST_PARTS: usize = 1024;
        let parts = (settings.max_keys / KEYS_IN_A_PART).clamp(1, MOST_PARTS);
        let part = |number| Store::new(settings.rate, share(settings.max_keys, parts, number));
        let part = |number| Part(Mutex::new(part(number)));
        Self { parts: (0..parts).map(part).collect(), hasher: RandomState::new() }
    }

    #[cfg(all(test, not(stanchion_loom)))]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn part(&self, hash: u64) -> Option<MutexGuard<'_, Store>> {
        // Of bits that the tables make no use of.
        let place = (hash >> 32 & 0xffff).saturating_mul(self.parts.len() as u64) >> 16;
        self.parts.get(usize::try_from(place).ok()?).map(|Part(store)| lock(store))
    }
}

impl Quotas for Keys {
    fn take(&self, ask: Ask, most: u64) -> (Result<Turn, Refusal>, Change) {
        let Some(mut part) = self.part(ask.key) else { return (Err(Refusal::Never), Change::NONE) };
        let before = part.len();
        let turn = part.take(ask.key, ask.cost, ask.now, most);
        (turn, Change::between(before, part.len()))
    }

    fn give_back(&self, hash: u64, turn: &Turn) {
        if let Some(mut part) = self.part(hash) {
            part.give_back(hash, turn);
        }
    }

    fn reconfigure(&self, settings: &Settings, now: u64) {
        for (number, Part(part)) in self.parts.iter().enumerate() {
            let most = share(settings.max_keys, self.parts.len(), number);
            lock(part).reconfigure(settings.rate, most, now);
        }
    }

    fn available(&self, hash: u64, now: u64) -> u32 {
        self.part(hash).map_or(0, |part| part.available(hash, now))
    }

    fn keys(&self) -> usize {
        self.parts.iter().map(|Part(part)| lock(part).len()).sum()
    }
}

/// How many keys more are held than before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change(i64);

impl Change {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn between(before: usize, after: usize) -> Self {
        let count = |keys| i64::try_from(keys).unwrap_or(i64::MAX);
        Self(count(after).saturating_sub(count(before)))
    }

    /// If they are more, or fewer.
    #[inline]
    pub(super) fn by(self) -> Option<i64> {
        (self.0 != 0).then_some(self.0)
    }
}

/// The part's share of the keys, at least one.
const fn share(keys: usize, parts: usize, number: usize) -> usize {
    match (keys.checked_div(parts), keys.checked_rem(parts)) {
        (Some(each), Some(rest)) if each > 0 => each.saturating_add((number < rest) as usize),
        _ => 1,
    }
}
