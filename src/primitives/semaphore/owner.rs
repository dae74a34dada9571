//! What has permits to give in the tests and models.

use std::cell::Cell;
use std::sync::Arc;

use super::{Acquire, Ask, Owner, Part, Permit, Permits, QueueDiscipline, Share};
use crate::base::clock::Timestamp;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static NEEDED: Cell<u64> = const { Cell::new(0) };
    static SHARES: Cell<fn(u8) -> Share> = const { Cell::new(|_| Share::WHOLE) };
}

/// Sets the time, in nanoseconds, for the owners that this thread asks.
pub(super) fn set_now(now: u64) {
    NOW.set(now);
}

#[allow(dead_code, reason = "models know no time")]
pub(super) fn set_needed(needed: u64) {
    NEEDED.set(needed);
}

/// Sets how much of the limit those of a class may use.
pub(super) fn set_shares(shares: fn(u8) -> Share) {
    SHARES.set(shares);
}

impl Owner for Permits {
    fn permits(&self) -> &Permits {
        self
    }

    fn now(&self) -> Timestamp {
        Timestamp(NOW.get())
    }

    fn needed(&self, _: Timestamp) -> u64 {
        NEEDED.get()
    }

    fn share(&self, class: u8) -> Share {
        SHARES.get()(class)
    }

    fn look_at(&self, _: Timestamp) {}
}

/// What is asked by somebody of whom nothing is known.
pub(super) const ASK: Ask =
    Ask { class: 50, part: Part::NONE, tenant: 0, deadline: Timestamp::NEVER, until: Timestamp::NEVER };

/// At time zero, with nothing needed and nothing kept.
pub(super) fn permits(limit: u32, max_queued: usize) -> Arc<Permits> {
    set_now(0);
    set_needed(0);
    set_shares(|_| Share::WHOLE);
    Arc::new(Permits::new(limit, max_queued, QueueDiscipline::OldestFirst))
}

impl Permits {
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit<Self>> {
        self.try_acquire_for(ASK.class)
    }

    pub(super) fn try_acquire_for(self: &Arc<Self>, class: u8) -> Option<Permit<Self>> {
        Permit::try_acquire(self, self.share(class))
    }

    pub(super) fn acquire(self: &Arc<Self>) -> Option<Acquire<Self>> {
        self.acquire_for(ASK)
    }

    pub(super) fn acquire_for(self: &Arc<Self>, ask: Ask) -> Option<Acquire<Self>> {
        Acquire::enter(self, &ask, self.now())
    }
}
