//! What a caller gets from a circuit, and what it gives back.

use std::num::NonZeroU64;

use super::trial::Slot;
use crate::base::clock::Timestamp;
use crate::primitives::in_flight::Entry;

/// Leave to make a call, with what its end will be measured by.
///
/// ```text
/// ticket   [generation 40 | data of the kind 20 | answered 1 | kind 3]
/// ```
///
/// Two words, because those travel in registers. What is larger is copied through memory, in wider pieces than it
/// was written in, and each such copy stalls for as long as recording the call takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    ticket: NonZeroU64,
    /// When the call began, or its slot was lent; [`Timestamp::NEVER`] if nobody wants to know.
    pub(super) started: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody looks at how it ends.
    Unrecorded,
    /// It goes into the window.
    Recorded,
    /// It goes into the window, and was counted among the calls in flight.
    InFlight(Entry),
    /// It is a trial call, with the slot of this number.
    Probe(u32),
    /// It is a trial call that has not begun, with the slot of this number.
    Reserved(u32),
}

const _: () = assert!(Entry::BITS <= Kind::DATA_BITS, "an entry must fit");

impl Kind {
    const NUMBER_BITS: u32 = 3;
    const NUMBER: u64 = (1 << Self::NUMBER_BITS) - 1;
    /// The headers of a good response are there.
    const ANSWERED: u64 = 1 << Self::NUMBER_BITS;
    const DATA_SHIFT: u32 = Self::NUMBER_BITS + 1;
    const RECORDED: u64 = 2;
    const RESERVED: u64 = 5;
    const DATA_BITS: u32 = 20;
    const BITS: u32 = Self::DATA_SHIFT + Self::DATA_BITS;
    const MOST_DATA: u32 = (1 << Self::DATA_BITS) - 1;

    #[inline]
    const fn pack(self) -> u64 {
        // No number is zero, so no ticket is.
        let (number, data) = match self {
            Self::Unrecorded => (1, 0),
            Self::Recorded => (Self::RECORDED, 0),
            Self::InFlight(entry) => (3, entry.pack()),
            Self::Probe(slot) => (4, slot & Self::MOST_DATA),
            Self::Reserved(slot) => (Self::RESERVED, slot & Self::MOST_DATA),
        };
        (data as u64) << Self::DATA_SHIFT | number
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "taking the fields out of the word")]
    const fn unpack(word: u64) -> Self {
        let data = (word >> Self::DATA_SHIFT) as u32 & Self::MOST_DATA;
        match word & Self::NUMBER {
            Self::RECORDED => Self::Recorded,
            3 => Self::InFlight(Entry::unpack(data)),
            4 => Self::Probe(data),
            Self::RESERVED => Self::Reserved(data),
            _ => Self::Unrecorded,
        }
    }
}

impl Pass {
    /// Generations begin again after this one.
    pub(super) const LAST_GENERATION: u64 = u64::MAX >> Kind::BITS;
    /// The numbers of slots begin again after this one.
    pub(super) const LAST_SLOT: u32 = Kind::MOST_DATA;

    #[inline]
    pub(super) fn new(generation: u64, kind: Kind) -> Self {
        Self::timed(generation, kind, Timestamp::NEVER)
    }

    #[inline]
    pub(super) fn timed(generation: u64, kind: Kind, started: Timestamp) -> Self {
        let kind = NonZeroU64::new(kind.pack()).unwrap_or(NonZeroU64::MIN);
        Self { ticket: kind | generation << Kind::BITS, started }
    }

    #[inline]
    pub(super) const fn generation(self) -> u64 {
        self.ticket.get() >> Kind::BITS
    }

    #[inline]
    pub(super) const fn kind(self) -> Kind {
        Kind::unpack(self.ticket.get())
    }

    /// Whether a success of this call can be [settled](super::state::Circuit::settle_plainly) without measuring it.
    #[inline]
    pub(super) fn is_plain(self) -> bool {
        self.ticket.get() & Kind::NUMBER == Kind::RECORDED && self.started == Timestamp::NEVER
    }

    /// The slot of a trial call.
    pub(super) const fn slot(self) -> Option<Slot> {
        match self.kind() {
            Kind::Probe(number) | Kind::Reserved(number) => Some(Slot { number, since: self.started }),
            Kind::Unrecorded | Kind::Recorded | Kind::InFlight(_) => None,
        }
    }

    /// Returns `true` if the call was timed, and how long it took to its headers has not been looked at yet.
    #[inline]
    pub(super) fn may_be_sample(self) -> bool {
        self.started != Timestamp::NEVER && self.ticket.get() & Kind::ANSWERED == 0
    }

    /// The same, of a call whose headers are there.
    #[inline]
    pub(super) fn answered(self) -> Self {
        Self { ticket: self.ticket | Kind::ANSWERED, ..self }
    }

    /// Returns `true` if there is a call: not with a slot that is only
    /// [reserved](super::state::Circuit::reserve).
    pub(super) const fn has_begun(self) -> bool {
        self.ticket.get() & Kind::NUMBER != Kind::RESERVED
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
