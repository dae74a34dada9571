//! The trial calls of a half-open circuit.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::Settings;
use super::pass::Pass;
use super::transition::Cause;
use super::verdict::Evidence;
use crate::clock::Timestamp;
use crate::window::{Counts, Outcome};

/// Trial calls in flight, and how the others ended. Lives under the circuit's lock.
#[derive(Debug, Default)]
pub(super) struct Trial {
    counts: Counts,
    /// Failures since the last trial call that was none.
    run: u32,
    /// Slots lent to calls that have not ended.
    leases: Vec<Lease>,
    next: u32,
}

#[derive(Debug)]
struct Lease {
    probe: u32,
    started: Timestamp,
    expires: Timestamp,
}

impl Lease {
    fn new(probe: u32, now: Timestamp, settings: &Settings) -> Self {
        let expires = settings.probe_timeout.map_or(Timestamp::NEVER, |limit| now.after(limit));
        Self { probe, started: now, expires }
    }

    /// From when on the call counts as slow, if it does while it is in flight.
    fn overdue_at(&self, settings: &Settings) -> Timestamp {
        settings.overdue_after().map_or(Timestamp::NEVER, |limit| self.started.after(limit))
    }
}

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
    /// Lends a slot at `now`, if one is free or has been lost by now.
    pub(super) fn admit(&mut self, now: Timestamp, settings: &Settings) -> Option<u32> {
        self.reclaim(now);
        (self.used() < u64::from(settings.probes)).then(|| {
            let probe = self.next;
            self.next = probe.wrapping_add(1) & Pass::LAST_SLOT;
            if !cfg!(stanchion_planted_bug = "slot_not_reserved") {
                self.leases.push(Lease::new(probe, now, settings));
            }
            probe
        })
    }

    /// Whether the calls that have ended and those that should have are reason to open.
    pub(super) fn judge_overdue(&self, now: Timestamp, settings: &Settings) -> Option<Cause> {
        let overdue = self.leases.iter().filter(|lease| lease.overdue_at(settings) < now).count() as u64;
        let evidence = Evidence { counts: self.counts, overdue };
        evidence.judge(settings, settings.min_probes).filter(|_| overdue > 0)
    }

    /// From when on it is worth asking: [`admit`](Self::admit) may lend a slot, or a call is overdue.
    pub(super) fn next_slot(&self, now: Timestamp, settings: &Settings) -> Timestamp {
        if self.used() < u64::from(settings.probes) {
            Timestamp(0)
        } else {
            let next = |lease: &Lease| {
                let overdue = lease.overdue_at(settings).after(TICK);
                if overdue > now { overdue.min(lease.expires) } else { lease.expires }
            };
            self.leases.iter().map(next).min().unwrap_or(Timestamp::NEVER)
        }
    }

    /// Whether the slot is not lost.
    pub(super) fn holds(&mut self, probe: u32, now: Timestamp) -> bool {
        self.reclaim(now);
        self.leases.iter().any(|lease| lease.probe == probe)
    }

    /// The call with this slot has not begun, and cannot be late.
    pub(super) fn hold(&mut self, probe: u32) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.probe == probe) {
            lease.started = Timestamp::NEVER;
        }
    }

    /// Lends the slot from now on, if it is not lost.
    pub(super) fn renew(&mut self, probe: u32, now: Timestamp, settings: &Settings) -> bool {
        self.reclaim(now);
        let lease = self.leases.iter_mut().find(|lease| lease.probe == probe);
        let Some(lease) = lease else { return false };
        *lease = Lease::new(probe, now, settings);
        true
    }

    /// Takes the slot back; `false` if the probe had lost it by now.
    pub(super) fn give_back(&mut self, probe: u32, now: Timestamp) -> bool {
        self.reclaim(now);
        let before = self.leases.len();
        self.leases.retain(|lease| lease.probe != probe);
        self.leases.len() < before
    }

    /// Counts how a trial call ended, and judges.
    pub(super) fn record(&mut self, outcome: Outcome, settings: &Settings) -> Finding {
        self.counts.add(outcome, 1);
        self.run = if outcome.failed { self.run.saturating_add(1) } else { 0 };
        if let Some(threshold) = settings.consecutive_failures.map(|limit| limit.min(settings.probes)) {
            if self.run >= threshold {
                return Finding::Sick(Cause::ConsecutiveFailures { threshold });
            }
        }
        let min_calls = settings.min_probes;
        if self.counts.calls < min_calls {
            return Finding::Undecided;
        }
        self.evidence().judge(settings, min_calls).map_or(Finding::Healthy, Finding::Sick)
    }

    pub(super) fn evidence(&self) -> Evidence {
        Evidence { counts: self.counts, overdue: 0 }
    }

    /// Takes back the slots of calls that have had them for too long.
    fn reclaim(&mut self, now: Timestamp) {
        self.leases.retain(|lease| lease.expires > now);
    }

    fn used(&self) -> u64 {
        self.counts.calls.saturating_add(self.leases.len() as u64)
    }
}
