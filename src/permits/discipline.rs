use std::time::Duration;

use super::queue::Shed;
use crate::clock::{Timestamp, nanos};

/// Who of those who wait is the next, and who has waited for too long.
///
/// It is followed among calls of the same criticality and tenant; which of these comes first is another question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discipline {
    /// The oldest first; each waits as long as it may. The default: fair, and all are late when more come than can be served.
    #[default]
    OldestFirst,
    /// The oldest first, until somebody has been waiting all the time for an `interval`; then the newest first, and who has
    /// waited for longer than `target` is turned away. Until then who has waited for longer than an `interval` is. As told in
    /// Facebook's "Fail at Scale" (2015). Those who are served are served in time whatever comes.
    AdaptiveLifo {
        /// How long calls may wait while more come than can be served. Usual: 5 ms.
        target: Duration,
        /// For how long there may be a queue before that is taken for certain. Usual: 100 ms.
        interval: Duration,
    },
    /// The oldest first; if within an `interval` even the shortest wait was longer than `target`, who has waited for
    /// longer than twice that is turned away, but the first of each interval. As `Codel` in Facebook's folly, after CoDel
    /// (Nichols and Jacobson 2012), which does so for packets.
    ControlledDelay {
        /// How long calls may wait. Usual: 5 ms.
        target: Duration,
        /// For how long they may wait longer. Usual: 100 ms.
        interval: Duration,
    },
}

impl Discipline {
    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);

    /// [`AdaptiveLifo`](Self::AdaptiveLifo) with the usual times.
    #[must_use]
    pub const fn adaptive_lifo() -> Self {
        Self::AdaptiveLifo { target: Self::TARGET, interval: Self::INTERVAL }
    }

    /// [`ControlledDelay`](Self::ControlledDelay) with the usual times.
    #[must_use]
    pub const fn controlled_delay() -> Self {
        Self::ControlledDelay { target: Self::TARGET, interval: Self::INTERVAL }
    }
}

/// What a discipline knows of one lane. A lane that is empty is forgotten, and with it this.
#[derive(Debug)]
pub(super) struct Memory {
    /// Since when somebody has been waiting all the time.
    busy_since: Timestamp,
    /// Of the interval that ends then: the shortest wait, and whether it has begun anew with the next one who is served.
    interval_end: Timestamp,
    shortest: u64,
    begins_anew: bool,
    /// Whether the shortest wait of the interval before was too long.
    is_overloaded: bool,
}

/// Which end of a lane is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

impl Memory {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { busy_since: now, interval_end: now, shortest: 0, begins_anew: false, is_overloaded: false }
    }

    /// Who is served next.
    pub(super) fn next(&self, discipline: Discipline, now: Timestamp) -> End {
        match discipline {
            Discipline::AdaptiveLifo { interval, .. } if self.is_busy_for(interval, now) => End::Newest,
            _ => End::Oldest,
        }
    }

    fn is_busy_for(&self, interval: Duration, now: Timestamp) -> bool {
        now.since(self.busy_since) > interval
    }

    /// Whether the oldest, who has waited since then, is turned away when another could be served. Asked once for each who
    /// is either.
    pub(super) fn gives_up(
        &mut self,
        discipline: Discipline,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Shed> {
        let waited = now.since(since);
        match discipline {
            Discipline::OldestFirst => None,
            Discipline::AdaptiveLifo { target, interval } => {
                let patience = if self.is_busy_for(interval, now) { target } else { interval };
                (waited > patience).then_some(Shed::Overdue(nanos(patience)))
            }
            Discipline::ControlledDelay { target, interval } => {
                let patience = target.saturating_mul(2);
                self.is_late(waited, target, interval, now).then_some(Shed::Overdue(nanos(patience)))
            }
        }
    }

    fn is_late(&mut self, waited: Duration, target: Duration, interval: Duration, now: Timestamp) -> bool {
        let nanoseconds = nanos(waited);
        if now > self.interval_end && !self.begins_anew {
            self.begins_anew = true;
            self.interval_end = now.after(interval);
            self.is_overloaded = self.shortest > nanos(target);
        }
        if self.begins_anew {
            self.begins_anew = false;
            self.shortest = nanoseconds;
            return false;
        }
        self.shortest = self.shortest.min(nanoseconds);
        self.is_overloaded && waited > target.saturating_mul(2)
    }
}
