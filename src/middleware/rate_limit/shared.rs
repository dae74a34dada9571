//! What all services, clones, handles and calls of one layer share.

use std::hash::Hash;
use std::time::Duration;

use super::config::{RateLimitConfig, Settings};
use super::keys::Change;
use super::quotas::{Ask, Local, Quotas};
use super::state::{Refusal, Turn};
use crate::base::clock::Clock;
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::config::InvalidConfig;
use crate::deadline::Deadline;
use crate::error::{Reason, Rejected};
use crate::telemetry::{Action, Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    quotas: Local,
    max_wait: AtomicU64,
    config: Mutex<RateLimitConfig>,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

impl Shared {
    pub(super) fn new(
        config: RateLimitConfig,
        settings: &Settings,
        is_keyed: bool,
        telemetry: Telemetry,
    ) -> Self {
        let (quotas, max_wait) = (Local::new(settings, is_keyed), AtomicU64::new(settings.max_wait));
        Self { quotas, max_wait, config: Mutex::new(config), clock: Clock::start(), telemetry }
    }

    /// What a call asks now.
    #[inline]
    pub(super) fn ask(&self, key: &impl Hash, cost: u32) -> Ask {
        Ask { key: self.quotas.hash(key), cost, now: self.clock.now().0 }
    }

    /// Takes a turn that comes in no more than `most` nanoseconds.
    #[inline]
    pub(super) fn take(&self, ask: Ask, most: u64) -> Result<Turn, Refusal> {
        let (turn, change) = self.quotas.take(ask, most);
        if let Some(change) = change.by() {
            self.tell(change);
        }
        turn
    }

    /// Takes a turn that comes later, after `wait` nanoseconds if nobody is faster, and before the deadline.
    pub(super) fn take_later(
        &self,
        ask: Ask,
        wait: u64,
        deadline: impl FnOnce() -> Option<Deadline>,
    ) -> Result<Turn, Refusal> {
        let max_wait = self.max_wait.load(Ordering::Relaxed);
        if wait > max_wait {
            return Err(Refusal::Wait(wait));
        }
        let Some(deadline) = deadline() else { return self.take(ask, max_wait) };
        let left = self.clock.at(deadline.instant()).0.saturating_sub(ask.now);
        match self.take(ask, max_wait.min(left.saturating_sub(1))) {
            Err(Refusal::Wait(wait)) if wait <= max_wait => Err(Refusal::TooLate(left)),
            turn => turn,
        }
    }

    pub(super) fn give_back(&self, key: u64, turn: &Turn) {
        self.quotas.give_back(key, turn);
    }

    #[cold]
    fn tell(&self, change: i64) {
        if self.telemetry.is_observed() {
            self.telemetry.emit(&Event::Keys { change });
        }
    }

    /// A call waits for its turn.
    pub(super) fn waits(&self, turn: &Turn) {
        self.telemetry.act(Action::Waited, 0, Duration::from_nanos(turn.wait));
    }

    /// A call is refused.
    #[inline]
    pub(super) fn refused(&self, refusal: Refusal) -> Refused {
        let refused = Refused { refusal, name: self.telemetry.name() };
        if self.telemetry.is_observed() {
            self.tell_refused(refused);
        }
        refused
    }

    #[cold]
    fn tell_refused(&self, refused: Refused) {
        self.telemetry.emit(&Event::Rejected(&refused.into()));
    }

    pub(super) fn config(&self) -> RateLimitConfig {
        lock(&self.config).clone()
    }

    pub(super) fn reconfigure(&self, config: RateLimitConfig) -> Result<(), InvalidConfig> {
        let settings = Settings::new(&config)?;
        // Held to the end, so that of two changes one is made after the other as a whole.
        let mut current = lock(&self.config);
        self.quotas.reconfigure(&settings, self.clock.now().0);
        self.max_wait.store(settings.max_wait, Ordering::Relaxed);
        *current = config;
        Ok(())
    }

    /// The largest cost that `key` may pay now.
    pub(super) fn available(&self, key: &impl Hash) -> u32 {
        self.quotas.available(self.quotas.hash(key), self.clock.now().0)
    }

    pub(super) fn keys(&self) -> usize {
        self.quotas.keys()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(change) = Change::between(self.keys(), 0).by() {
            self.tell(change);
        }
    }
}

/// A refusal on its way to the caller, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    refusal: Refusal,
    name: &'static str,
}

impl From<Refused> for Rejected {
    #[inline]
    fn from(Refused { refusal, name }: Refused) -> Self {
        match refusal {
            Refusal::Wait(wait) => Self::after(Reason::RateLimited, name, Some(wait)),
            Refusal::Never => Self::after(Reason::RateLimited, name, None),
            Refusal::NoRoom(wait) => Self::after(Reason::TooManyKeys, name, Some(wait)),
            Refusal::TooLate(left) => Self::timeout(Reason::DeadlineExceeded, name, left, false),
        }
    }
}
