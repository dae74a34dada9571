use std::time::Duration;

use super::queue::Shed;
use crate::base::clock::{Timestamp, nanos};

/// Who of those who wait is the next, and who has waited for too long.
///
/// The order is that of the calls of one criticality, partition and tenant; tenants take turns.
/// Overload is detected for a tenant, and also for all tenants of a criticality and partition
/// together: if lanes wait too long for their turn, each of them is treated as overloaded, however
/// few calls it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueDiscipline {
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

impl QueueDiscipline {
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

/// The state of a discipline for one lane, dropped when the lane is empty.
#[derive(Debug)]
pub(super) struct Memory {
    /// Since when the lane has not been empty.
    busy_since: Timestamp,
    waits: Waits,
}

/// The state of a discipline for all lanes of one class and part, dropped when all of them are
/// empty.
///
/// Overload shows here and not in the lanes if there are as many tenants as waiting calls: each
/// lane holds one call, so no lane exists for long. What shows is how long a lane waits for its
/// turn. A single tenant that sends too much does not lengthen that by more than one call for each
/// turn, so it does not have the calls of others dropped.
#[derive(Debug)]
pub(super) struct Rotation {
    /// The number of lanes.
    pub(super) lanes: usize,
    turns: Waits,
}

/// The shortest wait within each interval, as in folly's `Codel`.
#[derive(Debug)]
struct Waits {
    interval_end: Timestamp,
    shortest: u64,
    /// Whether the next wait is the first of an interval.
    begins_anew: bool,
    /// Whether the shortest wait of the interval before was too long.
    are_too_long: bool,
}

/// Which end of a lane is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

impl Waits {
    const fn new(now: Timestamp) -> Self {
        Self { interval_end: now, shortest: 0, begins_anew: false, are_too_long: false }
    }

    /// Takes note of a wait. Returns `true` if it is the first of its interval.
    fn record(&mut self, waited: Duration, target: Duration, interval: Duration, now: Timestamp) -> bool {
        let waited = nanos(waited);
        if now > self.interval_end && !self.begins_anew {
            self.begins_anew = true;
            self.interval_end = now.after(interval);
            self.are_too_long = self.shortest > nanos(target);
        }
        if self.begins_anew {
            self.begins_anew = false;
            self.shortest = waited;
            return true;
        }
        self.shortest = self.shortest.min(waited);
        false
    }
}

impl Rotation {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { lanes: 0, turns: Waits::new(now) }
    }

    /// Takes note that a lane is served, after it has waited for its turn since `since`.
    pub(super) fn serves(&mut self, discipline: QueueDiscipline, since: Timestamp, now: Timestamp) {
        let (target, interval) = match discipline {
            QueueDiscipline::OldestFirst => return,
            // Those who are served while it drops have waited for nearly a target: with all of it,
            // dropping would look like the end of the overload.
            QueueDiscipline::AdaptiveLifo { target, interval } => {
                (target.checked_div(2).unwrap_or(target), interval)
            }
            // Of those it drops after two targets.
            QueueDiscipline::ControlledDelay { target, interval } => (target, interval),
        };
        self.turns.record(now.since(since), target, interval, now);
    }

    /// Returns `true` if lanes have waited too long for their turn: more tenants have calls here
    /// than can be served in time.
    pub(super) const fn is_overloaded(&self) -> bool {
        self.turns.are_too_long
    }
}

impl Memory {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { busy_since: now, waits: Waits::new(now) }
    }

    /// Returns the end of the lane that is served next. `all_late`: the
    /// [rotation](Rotation::is_overloaded) is overloaded.
    pub(super) fn next(&self, discipline: QueueDiscipline, all_late: bool, now: Timestamp) -> End {
        match discipline {
            QueueDiscipline::AdaptiveLifo { interval, .. } if all_late || self.is_busy_for(interval, now) => {
                End::Newest
            }
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
        discipline: QueueDiscipline,
        all_late: bool,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Shed> {
        let waited = now.since(since);
        let (patience, gives_up) = match discipline {
            QueueDiscipline::OldestFirst => return None,
            QueueDiscipline::AdaptiveLifo { target, interval } => {
                let is_late = all_late || self.is_busy_for(interval, now);
                (if is_late { target } else { interval }, true)
            }
            QueueDiscipline::ControlledDelay { target, interval } => {
                let is_first = self.waits.record(waited, target, interval, now);
                let is_late = all_late || self.waits.are_too_long && !is_first;
                (target.saturating_mul(2), is_late)
            }
        };
        (gives_up && waited > patience).then_some(Shed::Overdue(nanos(patience)))
    }
}
