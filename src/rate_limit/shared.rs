//! What all services, clones, handles and calls of one layer share.

use std::hash::Hash;
use std::time::Duration;

use super::config::{RateLimitConfig, Settings};
use super::keys::{Change, Keys};
use super::state::{Refusal, Turn};
use super::word::Word;
use crate::clock::{Clock, Timestamp};
use crate::config::InvalidConfig;
use crate::error::{Reason, Rejected};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::telemetry::{Action, Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    quotas: Quotas,
    max_wait: AtomicU64,
    config: Mutex<RateLimitConfig>,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

/// What was used of the quotas.
#[derive(Debug)]
enum Quotas {
    One(Box<Word>),
    ByKey(Keys),
}

/// A turn that was taken: where from, and when it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    turn: Turn,
    hash: u64,
    pub(super) at: Timestamp,
}

impl Taken {
    /// Whether the call has to wait.
    #[inline]
    pub(super) const fn is_later(&self) -> bool {
        self.turn.wait > 0
    }
}

impl Shared {
    pub(super) fn new(
        config: RateLimitConfig,
        settings: &Settings,
        is_keyed: bool,
        telemetry: Telemetry,
    ) -> Self {
        let quotas = if is_keyed {
            Quotas::ByKey(Keys::new(settings))
        } else {
            Quotas::One(Box::new(Word::new(settings.rate)))
        };
        let max_wait = AtomicU64::new(settings.max_wait);
        Self { quotas, max_wait, config: Mutex::new(config), clock: Clock::start(), telemetry }
    }

    /// How long a call may wait, in nanoseconds.
    pub(super) fn max_wait(&self) -> u64 {
        self.max_wait.load(Ordering::Relaxed)
    }

    /// Takes a turn that comes in no more than `most` nanoseconds; the reason and the time to wait if there is none.
    #[inline]
    pub(super) fn take(&self, key: &impl Hash, cost: u32, most: u64) -> Result<Taken, Refusal> {
        let now = self.clock.now();
        let (turn, hash) = match &self.quotas {
            Quotas::One(word) => (word.take(cost, now.0, most)?, 0),
            Quotas::ByKey(keys) => {
                let hash = keys.hash(key);
                let (turn, change) = keys.take(hash, cost, now.0, most);
                self.tell(change);
                (turn?, hash)
            }
        };
        Ok(Taken { turn, hash, at: Timestamp(now.0.saturating_add(turn.wait)) })
    }

    /// Takes back a turn that was not used.
    pub(super) fn give_back(&self, taken: &Taken) {
        match &self.quotas {
            Quotas::One(word) => word.give_back(&taken.turn),
            Quotas::ByKey(keys) => keys.give_back(taken.hash, &taken.turn),
        }
    }

    fn tell(&self, change: Change) {
        if let Some(change) = change.by().filter(|_| self.telemetry.is_observed()) {
            self.telemetry.emit(&Event::Keys { change });
        }
    }

    /// A call waits for its turn.
    #[cold]
    pub(super) fn waits(&self, taken: &Taken) {
        self.telemetry.act(Action::Waited, 0, Duration::from_nanos(taken.turn.wait));
    }

    #[cold]
    pub(super) fn rejected(&self, refusal: Refusal) -> Rejected {
        let name = self.telemetry.name();
        let rejected = match refusal {
            Refusal::Wait(wait) => Rejected::new(Reason::RateLimited, name, Some(wait)),
            Refusal::Never => Rejected::new(Reason::RateLimited, name, None),
            Refusal::NoRoom(wait) => Rejected::new(Reason::TooManyKeys, name, Some(wait)),
        };
        if self.telemetry.is_observed() {
            self.telemetry.emit(&Event::Rejected(&rejected));
        }
        rejected
    }

    pub(super) fn config(&self) -> RateLimitConfig {
        lock(&self.config).clone()
    }

    pub(super) fn reconfigure(&self, config: RateLimitConfig) -> Result<(), InvalidConfig> {
        let settings = Settings::new(&config)?;
        // Held to the end, so that of two changes one is made after the other as a whole.
        let mut current = lock(&self.config);
        let now = self.clock.now().0;
        match &self.quotas {
            Quotas::One(word) => word.reconfigure(settings.rate, now),
            Quotas::ByKey(keys) => keys.reconfigure(&settings, now),
        }
        self.max_wait.store(settings.max_wait, Ordering::Relaxed);
        *current = config;
        Ok(())
    }

    /// The largest cost that `key` may pay now.
    pub(super) fn available(&self, key: &impl Hash) -> u32 {
        let now = self.clock.now().0;
        match &self.quotas {
            Quotas::One(word) => word.available(now),
            Quotas::ByKey(keys) => keys.available(keys.hash(key), now),
        }
    }

    pub(super) fn keys(&self) -> usize {
        match &self.quotas {
            Quotas::One(_) => 0,
            Quotas::ByKey(keys) => keys.len(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let keys = i64::try_from(self.keys()).unwrap_or(i64::MAX);
        if keys > 0 && self.telemetry.is_observed() {
            self.telemetry.emit(&Event::Keys { change: keys.saturating_neg() });
        }
    }
}
