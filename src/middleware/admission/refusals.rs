//! How calls are refused.

use super::limit::{Full, Limit};
use super::shared::Shared;
use crate::error::{Reason, Rejected};
use crate::primitives::semaphore::Permits;
use crate::telemetry::Event;

impl<L: Limit> Shared<L> {
    /// Has an adaptive limit notice that a call finds no room, which may be for ever if no other ends.
    #[cold]
    pub(super) fn finds_no_room(&self) {
        let full = Full { now: self.clock.now(), in_flight: self.permits.counts().0 };
        if self.limit.finds_no_room(full, |limit| self.permits.limit_to(limit)) {
            Permits::turn_away_hopeless(self);
            Permits::grant(self);
            self.tell_limit();
        }
    }

    pub(super) fn refuse(&self) -> Rejected {
        if L::LEARNS {
            self.finds_no_room();
        }
        self.reject(Rejected::after(L::FULL, self.telemetry.name(), self.room_after()))
    }

    /// When there is likely to be room, if it is known how long calls take: as many of them as wait go first.
    fn room_after(&self) -> Option<u64> {
        if !self.terms().are_measured() {
            return None;
        }
        let takes = self.settings.read().needed.at(self.clock.now());
        let (_, limit) = self.counts();
        let turns = u64::try_from(self.queued()).unwrap_or(u64::MAX).checked_div(u64::from(limit));
        (takes > 0).then(|| takes.saturating_mul(turns.unwrap_or(0).saturating_add(1)))
    }

    /// The end of a call that waited for so many nanoseconds.
    pub(super) fn give_up(&self, wait: u64) -> Rejected {
        if L::LEARNS {
            self.finds_no_room();
        }
        self.reject(Rejected::timeout(L::TIMEOUT, self.telemetry.name(), wait, false))
    }

    /// The end of a call that had so many nanoseconds left.
    pub(super) fn too_late(&self, remaining: u64) -> Rejected {
        self.reject(Rejected::timeout(Reason::DeadlineExceeded, self.telemetry.name(), remaining, false))
    }

    fn reject(&self, rejected: Rejected) -> Rejected {
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}
