//! What a caller gets from a circuit, and what it gives back.

use crate::clock::Timestamp;
use crate::in_flight::Entry;

/// Leave to make a call, with what its end will be measured by.
///
/// It is moved a few times on the way into a future and out again, so it is kept flat and small.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) generation: u64,
    /// When the call began; [`Timestamp::NEVER`] if nobody wants to know.
    pub(super) started: Timestamp,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody looks at how it ends.
    Unrecorded,
    /// It goes into the window.
    Recorded,
    /// It goes into the window, and was counted among the calls in flight.
    InFlight(Entry),
    /// It is a trial call, with this slot.
    Probe(u32),
    /// It has ended.
    Ended,
}

impl Pass {
    #[inline]
    pub(super) const fn new(generation: u64, kind: Kind) -> Self {
        Self { generation, started: Timestamp::NEVER, kind }
    }

    pub(super) const fn probe(generation: u64, slot: u32, started: Timestamp) -> Self {
        Self { generation, started, kind: Kind::Probe(slot) }
    }

    /// Whether a success of this call can be [settled](super::state::Circuit::settle_plainly) without measuring it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.kind == Kind::Recorded && self.started == Timestamp::NEVER
    }

    /// The pass for its last use; what stays behind has ended.
    #[inline]
    pub(super) const fn end(&mut self) -> Option<Self> {
        match self.kind {
            Kind::Ended => None,
            kind => {
                self.kind = Kind::Ended;
                Some(Self { generation: self.generation, started: self.started, kind })
            }
        }
    }
}

/// A call that is not let through; with the nanoseconds after which asking again makes sense, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Open { wait: u64 },
    Recovering,
}

impl Refusal {
    /// In place of a wait: until somebody changes the circuit.
    pub(super) const ENDLESS: u64 = u64::MAX;

    #[inline]
    pub(super) fn until(gate: Timestamp, now: Timestamp) -> Self {
        let wait = if gate == Timestamp::NEVER { Self::ENDLESS } else { gate.0.saturating_sub(now.0) };
        Self::Open { wait }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
    Ignored,
    Cancelled,
}
