use std::fmt;
use std::future::Pending;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Reply};
use super::config::StaleConfig;
use super::failure::Failure;
use super::store::Store;
use crate::base::clock::Clock;
use crate::base::sync::{Mutex, lock};

/// The stored responses, in several parts with a lock each.
pub(super) struct Answers<Key, Res> {
    parts: Box<[Mutex<Store<Key, Res>>]>,
    hasher: RandomState,
    clock: Clock,
    pub(super) config: StaleConfig,
}

impl<Key, Res> Answers<Key, Res> {
    pub(super) fn new(config: StaleConfig) -> Self {
        // Enough keys per part for random hashes to fill all parts about equally.
        const KEYS_IN_A_PART: usize = 256;
        const MAX_PARTS: usize = 16;
        let keys = config.max_keys as usize;
        let parts = (keys / KEYS_IN_A_PART).clamp(1, MAX_PARTS);
        let part = |number| {
            let rest = usize::from(number < keys % parts);
            Mutex::new(Store::new((keys / parts).saturating_add(rest), config.max_age))
        };
        Self {
            parts: (0..parts).map(part).collect(),
            hasher: RandomState::new(),
            clock: Clock::start(),
            config,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            let forgotten = lock(part).clear();
            drop(forgotten);
        }
    }

    fn part(&self, hash: u64) -> Option<&Mutex<Store<Key, Res>>> {
        let parts = self.parts.len() as u64;
        let place = hash.checked_rem(parts).and_then(|place| usize::try_from(place).ok())?;
        self.parts.get(place)
    }
}

impl<Key: Hash + Eq, Res: Clone> Answers<Key, Res> {
    pub(super) fn put(&self, key: Key, answer: &Res) {
        let hash = self.hasher.hash_one(&key);
        let Some(part) = self.part(hash) else { return };
        // No user code runs under the lock: the response is cloned before, and the replaced entry
        // is dropped after.
        let answer = answer.clone();
        let now = self.clock.now();
        let replaced = lock(part).put(hash, key, answer, now);
        drop(replaced);
    }

    pub(super) fn get(&self, key: &Key) -> Option<(Res, Duration)> {
        let hash = self.hasher.hash_one(key);
        let now = self.clock.now();
        let (held, age) = lock(self.part(hash)?).get(hash, now)?;
        let (stored, answer) = &*held;
        (stored == key).then(|| (answer.clone(), age))
    }
}

/// A fallback that responds with the last good response to a request with the same key. Made by
/// [`FallbackLayer::stale`](super::FallbackLayer::stale).
pub struct Stale<Key, Res, M = fn(&mut Res, Duration)> {
    pub(super) answers: Arc<Answers<Key, Res>>,
    pub(super) mark: M,
}

impl<Key, Res> Stale<Key, Res> {
    pub(super) fn new(config: StaleConfig) -> Self {
        Self { answers: Arc::new(Answers::new(config)), mark: |_, _| {} }
    }
}

impl<Key, Res, E, M> Answer<Option<Key>, Res, E> for Stale<Key, Res, M>
where
    Key: Hash + Eq,
    Res: Clone,
    M: Fn(&mut Res, Duration),
{
    type Future = Pending<Option<Res>>;

    #[inline]
    fn good(&self, key: Option<Key>, answer: &Res) {
        if let Some(key) = key {
            self.answers.put(key, answer);
        }
    }

    fn answer(&self, key: Option<Key>, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        match key.and_then(|key| self.answers.get(&key)) {
            Some((mut answer, age)) => {
                (self.mark)(&mut answer, age);
                Reply::Stale(answer, age)
            }
            None => Reply::Declined(failure),
        }
    }
}

impl<Key, Res> fmt::Debug for Answers<Key, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("config", &self.config).field("len", &self.len()).finish()
    }
}

impl<Key, Res, M> fmt::Debug for Stale<Key, Res, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stale").field(&self.answers).finish()
    }
}
