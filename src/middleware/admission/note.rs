use crate::base::clock::Timestamp;
use crate::primitives::semaphore::Part;

/// What a permit knows of its call, in one word, for permits are moved about: when it began, and what part of the limit it
/// is from.
///
/// ```text
/// [ part | time ]    all ones: nothing
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note(u64);

impl Note {
    /// Enough nanoseconds for eighteen years; what is later is as late as that.
    const TIME_BITS: u32 = 59;
    const NO_TIME: u64 = (1 << Self::TIME_BITS) - 1;
    pub(super) const NOTHING: Self = Self(u64::MAX);

    /// [`Timestamp::NEVER`]: nobody wants to know the time.
    #[inline]
    pub(super) fn new(part: Part, time: Timestamp) -> Self {
        let time = if time == Timestamp::NEVER { Self::NO_TIME } else { time.0.min(Self::NO_TIME - 1) };
        Self(u64::from(part.number()) << Self::TIME_BITS | time)
    }

    pub(super) fn time(self) -> Timestamp {
        let time = self.0 & Self::NO_TIME;
        if time == Self::NO_TIME { Timestamp::NEVER } else { Timestamp(time) }
    }

    pub(super) fn part(self) -> Part {
        let number = u8::try_from(self.0 >> Self::TIME_BITS).unwrap_or(u8::MAX);
        if self == Self::NOTHING { Part::NONE } else { Part::numbered(number) }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::{Note, Part, Timestamp};

    #[test]
    fn part_and_time_are_kept_apart() {
        for part in [Part::NONE, Part::at(0), Part::at(1), Part::at(16), Part::MAX] {
            for time in [Timestamp(0), Timestamp(1), Timestamp(Note::NO_TIME - 1), Timestamp::NEVER] {
                let note = Note::new(part, time);
                assert_eq!((note.part(), note.time()), (part, time));
                assert_ne!(note, Note::NOTHING);
            }
            let late = Note::new(part, Timestamp(u64::MAX - 1));
            assert_eq!((late.part(), late.time()), (part, Timestamp(Note::NO_TIME - 1)));
        }
        assert_eq!((Note::NOTHING.part(), Note::NOTHING.time()), (Part::NONE, Timestamp::NEVER));
    }
}
