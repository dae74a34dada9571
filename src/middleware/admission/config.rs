use std::time::Duration;

use super::partitions::{self, PartitionConfig};
use crate::config::InvalidConfig;
use crate::primitives::latency::MinRemaining;
use crate::primitives::semaphore::{QueueDiscipline, Share};
use crate::protocol::{CallAttributes, Criticality};

/// Whom a layer with a limit lets in, and who waits: a part of its configuration.
///
/// Plain data: every field can be set directly or by the method of the same name of the configuration that it is part of.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdmissionConfig {
    /// How many calls more than the limit may wait for their turn, in a layer that waits; in others zero. Default: 0, since
    /// what waits in a queue that does not get shorter is late for its caller.
    pub max_queued: usize,
    /// How long one of them waits, until the service is called; above zero. Default: 1 s.
    pub max_wait: Duration,
    /// Who of them is the next, and who has waited for too long. Default: the oldest is, and nobody has.
    pub discipline: QueueDiscipline,
    /// How much of the limit is kept for calls that matter more. Default: nothing.
    pub headroom: PriorityShares,
    /// The parts of the limit: see [partitions](super#partitions). Up to 16, with names that differ, which stay what they are
    /// when a running layer is given a new configuration; none in a layer made by `backpressure`, which takes permits ahead of
    /// calls. Default: none, the limit is one for all.
    pub partitions: Vec<PartitionConfig>,
    /// A call with a deadline is refused if less time than this is left, or turned away when it is its turn; what is measured
    /// is the time that calls took within the last 10 s. Default: none is too little.
    ///
    /// What is measured counts for no more than half of what calls usually have left that are let
    /// in: a service that was slow for a while would be left without any, and could not show that
    /// it is not slow any more. Calls that are refused for lack of time do not change what is
    /// usual, however many they are.
    pub min_remaining: MinRemaining,
    /// Whether calls that claim to be [exempt](CallAttributes::exempt) are admitted when the limit is full,
    /// and do not wait. They count as calls under way, and how long they take is neither measured
    /// nor learned from. Not in a layer made by `backpressure`, which takes permits ahead of calls.
    /// Default: `false`.
    ///
    /// If set, services ask the service inside whether it is ready also while the limit is full,
    /// since the next call may be exempt. So rejections may wait for its readiness.
    pub admit_exempt: bool,
}

impl AdmissionConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_queued: 0,
            max_wait: Duration::from_secs(1),
            discipline: QueueDiscipline::OldestFirst,
            headroom: PriorityShares::NONE,
            partitions: Vec::new(),
            min_remaining: MinRemaining::Fixed(Duration::ZERO),
            admit_exempt: false,
        }
    }

    /// Checks all fields, as for a layer that waits; one that does not has no `max_queued`, and one
    /// made by `backpressure` no `partitions` and no `admit_exempt`.
    ///
    /// # Errors
    ///
    /// If a field is outside of its range; the first that is.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.validate_for(Mode::Wait)
    }

    pub(super) fn validate_for(&self, mode: Mode) -> Result<(), InvalidConfig> {
        if self.max_queued > 0 && mode != Mode::Wait {
            const NONE: &str = "0 in a layer that is not made by `waiting`";
            return Err(InvalidConfig::new("max_queued", self.max_queued, NONE));
        }
        if self.max_wait.is_zero() {
            return Err(InvalidConfig::new("max_wait", self.max_wait, "a duration above zero"));
        }
        if self.admit_exempt && mode == Mode::Backpressure {
            const NONE: &str = "`false` in a layer made by `backpressure`";
            return Err(InvalidConfig::new("admit_exempt", self.admit_exempt, NONE));
        }
        self.headroom.validate()?;
        partitions::validate(&self.partitions, mode)?;
        self.min_remaining.validate("min_remaining")
    }

    /// How many places the queue has: of services that wait until they are ready, each has one.
    pub(super) const fn places(&self, mode: Mode) -> usize {
        match mode {
            Mode::Backpressure => usize::MAX,
            Mode::Refuse | Mode::Wait => self.max_queued,
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The setters of a configuration that has an [`AdmissionConfig`] as its field `admission`.
macro_rules! admission_setters {
    () => {
        /// Sets how many calls may wait for their turn.
        #[must_use]
        pub const fn max_queued(mut self, calls: usize) -> Self {
            self.admission.max_queued = calls;
            self
        }

        /// Sets how long they wait.
        #[must_use]
        pub const fn max_wait(mut self, wait: std::time::Duration) -> Self {
            self.admission.max_wait = wait;
            self
        }

        /// Sets who of them is the next, and who has waited for too long.
        #[must_use]
        pub const fn discipline(
            mut self,
            discipline: $crate::middleware::admission::QueueDiscipline,
        ) -> Self {
            self.admission.discipline = discipline;
            self
        }

        /// Sets how much of the limit is kept for calls that matter more.
        #[must_use]
        pub const fn headroom(mut self, headroom: $crate::middleware::admission::PriorityShares) -> Self {
            self.admission.headroom = headroom;
            self
        }

        /// Sets the parts of the limit.
        #[must_use]
        pub fn partitions(
            mut self,
            partitions: impl Into<Vec<$crate::middleware::admission::PartitionConfig>>,
        ) -> Self {
            self.admission.partitions = partitions.into();
            self
        }

        /// Sets how much time must be left until the deadline of a call.
        #[must_use]
        pub const fn min_remaining(mut self, remaining: $crate::middleware::admission::MinRemaining) -> Self {
            self.admission.min_remaining = remaining;
            self
        }

        /// Sets whether calls that claim to be exempt are admitted when the limit is full.
        #[must_use]
        pub const fn admit_exempt(mut self, admit: bool) -> Self {
            self.admission.admit_exempt = admit;
            self
        }
    };
}
pub(crate) use admission_setters;

/// What happens to a call that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Refuse,
    Wait,
    Backpressure,
}

/// How much of a limit calls may use, by how much they matter.
///
/// Critical calls may use all of it. While a level has used up its share, calls of that level and below it are refused or
/// wait, and the rest is there for those above. A level between two of those that are named has a share between theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PriorityShares {
    /// The share for [`Criticality::DEFAULT`]; above 0, at most 1.
    pub default: f64,
    /// The share for [`Criticality::SHEDDABLE`]; above 0, at most that for `DEFAULT`.
    pub sheddable: f64,
}

impl PriorityShares {
    /// All may use all of the limit.
    pub const NONE: Self = Self { default: 1.0, sheddable: 1.0 };

    /// 0.8 of the limit for calls of which nothing was said, and 0.5 for those that can be shed: with these, critical calls
    /// are still served when ten times as much comes as the service bears.
    pub const RECOMMENDED: Self = Self { default: 0.8, sheddable: 0.5 };

    /// Sets the share for [`Criticality::DEFAULT`].
    #[must_use]
    pub const fn default(mut self, share: f64) -> Self {
        self.default = share;
        self
    }

    /// Sets the share for [`Criticality::SHEDDABLE`].
    #[must_use]
    pub const fn sheddable(mut self, share: f64) -> Self {
        self.sheddable = share;
        self
    }

    fn validate(self) -> Result<(), InvalidConfig> {
        // Written so that a NaN fails: it is in no range.
        if !(self.default > 0.0 && self.default <= 1.0) {
            return Err(InvalidConfig::new(
                "headroom.default",
                self.default,
                "a number above 0 and at most 1",
            ));
        }
        if !(self.sheddable > 0.0 && self.sheddable <= self.default) {
            const ALLOWED: &str = "a number above 0 and at most `headroom.default`";
            return Err(InvalidConfig::new("headroom.sheddable", self.sheddable, ALLOWED));
        }
        Ok(())
    }
}

/// What every call goes by, in one word: zero if there is nothing to it.
///
/// ```text
/// [ exempt calls are admitted | the limit has partitions | somebody is told of calls | they are measured | parts of the limit kept from default calls | from sheddable ones ]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms(pub(super) u64);

impl Terms {
    const BITS: u32 = 16;
    const PARTS: u64 = 1 << Self::BITS;
    const MEASURED: u64 = 1 << (2 * Self::BITS);
    const TOLD: u64 = Self::MEASURED << 1;
    const PARTED: u64 = Self::TOLD << 1;
    const EXEMPTING: u64 = Self::PARTED << 1;
    const KEPT: u64 = Self::MEASURED - 1;

    /// `headroom` is valid.
    pub(super) fn new(headroom: PriorityShares, measured: bool, told: bool) -> Self {
        // Rounded up, since the share of a limit is too: 0.8 of 10 would be 9 otherwise, and 0.9 of them all.
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "between 0 and 65,536")]
        let kept = |share: f64| (((1.0 - share) * Self::PARTS as f64).ceil() as u64).min(Self::PARTS - 1);
        let measured = if measured { Self::MEASURED } else { 0 };
        let told = if told { Self::TOLD } else { 0 };
        Self(told | measured | kept(headroom.default) << Self::BITS | kept(headroom.sheddable))
    }

    pub(super) const fn parted(self, parted: bool) -> Self {
        if parted { Self(self.0 | Self::PARTED) } else { self }
    }

    pub(super) const fn exempting(self, exempting: bool) -> Self {
        if exempting { Self(self.0 | Self::EXEMPTING) } else { self }
    }

    /// Whether each call may use the whole limit, and no more.
    #[inline]
    pub(super) const fn are_same_for_all(self) -> bool {
        self.0 & (Self::KEPT | Self::PARTED | Self::EXEMPTING) == 0
    }

    /// Whether any call may be exempt from the limit.
    #[inline]
    pub(super) const fn are_exempting(self) -> bool {
        self.0 & Self::EXEMPTING != 0
    }

    /// Whether this call is.
    #[inline]
    pub(super) const fn exempt(self, attributes: &CallAttributes) -> bool {
        attributes.exempt && self.are_exempting()
    }

    #[inline]
    pub(super) const fn are_parted(self) -> bool {
        self.0 & Self::PARTED != 0
    }

    /// Whether a permit has to know when its call began, or what part of the limit it is from.
    #[inline]
    pub(super) const fn are_noted(self) -> bool {
        self.0 & (Self::MEASURED | Self::PARTED) != 0
    }

    #[inline]
    pub(super) const fn are_measured(self) -> bool {
        self.0 & Self::MEASURED != 0
    }

    #[inline]
    pub(super) const fn are_told(self) -> bool {
        self.0 & Self::TOLD != 0
    }

    /// How much of the limit a call may use.
    #[inline]
    pub(super) fn share(self, criticality: Criticality) -> Share {
        if self.0 & Self::KEPT == 0 { Share::WHOLE } else { self.part(criticality) }
    }

    fn part(self, criticality: Criticality) -> Share {
        const MIDDLE: u64 = Criticality::DEFAULT.get() as u64;
        let (default, sheddable) = ((self.0 >> Self::BITS) & (Self::PARTS - 1), self.0 & (Self::PARTS - 1));
        let level = u64::from(criticality.get());
        // On the straight line between the two levels that are named.
        let kept = match level.checked_sub(MIDDLE) {
            Some(above) => default * (MIDDLE - above.min(MIDDLE)),
            None => sheddable * (MIDDLE - level) + default * level,
        }
        .div_ceil(MIDDLE);
        Share::parts(u32::try_from(Self::PARTS - kept).unwrap_or(u32::MAX))
    }
}
