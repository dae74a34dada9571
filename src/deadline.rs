//! The moment by which an answer is worth something.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::{instant, instant_after};

/// The moment by which the caller wants an answer; later ones are of no use.
///
/// It is absolute, so it means the same to every layer that a request passes. Put it into the request's extensions,
/// or let a [`Timeout`](crate::timeout) do so: each layer further in then gives up no later. It is a moment of this
/// process' clock, tokio's, and says nothing to another one: on the wire goes the time that remains.
///
/// ```
/// use std::time::Duration;
/// use stanchion::Deadline;
///
/// let deadline = Deadline::after(Duration::from_secs(2));
/// assert!(deadline.remaining() <= Duration::from_secs(2));
/// assert_eq!(deadline.earlier(Deadline::after(Duration::from_secs(9))), deadline);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline at `instant`.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The deadline `duration` from now; thirty years from now if that is sooner.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self(instant_after(instant(), duration))
    }

    /// The moment.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// The time that is left; zero if it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.remaining_at(instant())
    }

    /// The time that is left at `now`.
    pub(crate) fn remaining_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }
}
