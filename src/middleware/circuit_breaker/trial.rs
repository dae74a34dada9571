//! The trial calls of a half-open circuit.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::Settings;
use super::pass::Pass;
use super::transition::Cause;
use super::verdict::Evidence;
use crate::base::clock::Timestamp;
use crate::base::sync::planted;
use crate::primitives::window::{Counts, Outcome};

/// Trial calls in flight, and how the others ended. Lives under the circuit's lock.
#[derive(Debug, Default)]
pub(super) struct Trial {
    counts: Counts,
    /// Failures since the last trial call that did not fail.
    run: u32,
    /// Slots lent to calls that have not ended.
    leases: Vec<Lease>,
    next: u32,
    /// Calls that count for nothing because they were cut off too soon.
    excused: u32,
}

/// The slot of one trial call. Numbers repeat, but not among the slots that are lent at the same
/// time, and a number that was lost comes back at a later time: so the two together tell each trial
/// call from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// When the slot was lent, or when its call began if that was later.
    pub(super) since: Timestamp,
}

/// The time at which a call begins whose admission is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Now,
    /// Later, or never: its slot is reserved.
    Later,
}

#[derive(Debug)]
struct Lease {
    slot: Slot,
    /// A call that has not begun cannot be late.
    has_begun: bool,
}

impl Lease {
    /// From when on another call may have the slot. Found out when it is needed, since the
    /// configuration may change.
    fn expires(&self, settings: &Settings) -> Timestamp {
        let reserved = || Some(RESERVED_FOR).filter(|_| !self.has_begun);
        let limit = settings.probe_timeout.or_else(reserved);
        limit.map_or(Timestamp::NEVER, |limit| self.slot.since.after(limit))
    }

    /// From when on the call counts as slow, if it does while it is in flight.
    fn overdue_at(&self, settings: &Settings) -> Timestamp {
        let limit = settings.overdue_after().filter(|_| self.has_begun);
        limit.map_or(Timestamp::NEVER, |limit| self.slot.since.after(limit))
    }
}

/// After how long a call that has not begun loses its slot if there is no limit for calls. Its service may be kept ready for a
/// call that never comes, and no other would be made.
const RESERVED_FOR: Duration = Duration::from_secs(10);

/// The shortest time there is: a call that takes just as long as it may is not slow yet.
const TICK: Duration = Duration::from_nanos(1);

/// What the trial calls have shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finding {
    Undecided,
    Healthy,
    Sick(Cause),
}

impl Trial {
    /// Lends a slot at `now`, if one is free or has been lost by now: to a call that begins, or to one that may begin later and
    /// cannot be late until then.
    pub(super) fn admit(&mut self, now: Timestamp, begins: Begins, settings: &Settings) -> Option<Slot> {
        self.reclaim(now, settings);
        (self.used() < u64::from(settings.probes)).then(|| {
            let slot = Slot { number: self.free_number(), since: now };
            if !planted!("slot_not_reserved") {
                let has_begun = begins == Begins::Now || planted!("reserved_as_begun");
                self.leases.push(Lease { slot, has_begun });
            }
            slot
        })
    }

    /// Judges the calls that have ended and those that should have.
    ///
    /// To be asked again after whatever changes the answer: the end of a call, time, and other
    /// settings.
    pub(super) fn judge(&self, now: Timestamp, settings: &Settings) -> Finding {
        if let Some(threshold) = settings.consecutive_failures.map(|limit| limit.min(settings.probes)) {
            if self.run >= threshold {
                return Finding::Sick(Cause::ConsecutiveFailures { threshold });
            }
        }
        let enough = settings.min_probes;
        match self.evidence(now, settings).judge(settings, enough) {
            Some(cause) => Finding::Sick(cause),
            None if self.counts.calls >= enough => Finding::Healthy,
            None => Finding::Undecided,
        }
    }

    /// From when on it is worth asking: [`admit`](Self::admit) may lend a slot, or a call is overdue.
    pub(super) fn next_slot(&self, now: Timestamp, settings: &Settings) -> Timestamp {
        if self.used() < u64::from(settings.probes) {
            Timestamp(0)
        } else {
            let next = |lease: &Lease| {
                let (overdue, expires) = (lease.overdue_at(settings).after(TICK), lease.expires(settings));
                if overdue > now { overdue.min(expires) } else { expires }
            };
            self.leases.iter().map(next).min().unwrap_or(Timestamp::NEVER)
        }
    }

    /// Returns `true` if the slot is not lost.
    pub(super) fn holds(&mut self, slot: Slot, now: Timestamp, settings: &Settings) -> bool {
        self.reclaim(now, settings);
        self.lease(slot).is_some()
    }

    /// Lends the slot from now on, to a call that begins, if it is not lost.
    pub(super) fn renew(&mut self, slot: Slot, now: Timestamp, settings: &Settings) -> bool {
        self.reclaim(now, settings);
        let Some(lease) = self.lease(slot) else { return false };
        *lease = Lease { slot: Slot { since: now, ..slot }, has_begun: true };
        true
    }

    /// Takes the slot back; `false` if the call had lost it by now.
    pub(super) fn give_back(&mut self, slot: Slot, now: Timestamp, settings: &Settings) -> bool {
        self.reclaim(now, settings);
        let before = self.leases.len();
        self.leases.retain(|lease| lease.slot != slot);
        self.leases.len() < before
    }

    /// Returns `true` if one more call may count for nothing because it was cut off too soon: as many as there are trial calls.
    pub(super) fn excuse(&mut self, settings: &Settings) -> bool {
        let is_excused = self.excused < settings.probes;
        self.excused = self.excused.saturating_add(1);
        is_excused
    }

    /// Counts how a trial call ended.
    pub(super) fn record(&mut self, outcome: Outcome) {
        self.counts.add(outcome, 1);
        self.run = if outcome.failed { self.run.saturating_add(1) } else { 0 };
    }

    /// Forgets the calls that have ended; those in flight keep their slots.
    pub(super) fn restart(&mut self) {
        (self.counts, self.run, self.excused) = (Counts::default(), 0, 0);
    }

    /// The calls that have ended, and those that count as slow already.
    pub(super) fn evidence(&self, now: Timestamp, settings: &Settings) -> Evidence {
        let overdue = self.leases.iter().filter(|lease| lease.overdue_at(settings) < now).count();
        Evidence { counts: self.counts, overdue: overdue as u64 }
    }

    fn lease(&mut self, slot: Slot) -> Option<&mut Lease> {
        self.leases.iter_mut().find(|lease| lease.slot == slot)
    }

    /// The next number that no call in flight has. There are more numbers than slots.
    fn free_number(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = number.wrapping_add(1) & Pass::LAST_SLOT;
            if !self.leases.iter().any(|lease| lease.slot.number == number) {
                return number;
            }
        }
    }

    /// Takes back the slots of calls that have had them for too long.
    fn reclaim(&mut self, now: Timestamp, settings: &Settings) {
        self.leases.retain(|lease| lease.expires(settings) > now);
    }

    fn used(&self) -> u64 {
        self.counts.calls.saturating_add(self.leases.len() as u64)
    }

    /// Goes on with slot `number`, for tests that cannot lend a million of them.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, number: u32) {
        self.next = number;
    }
}
