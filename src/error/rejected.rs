use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::Reason;
use super::chain::chain;
use crate::base::clock::{Rounded, nanos};

/// A call that a layer of this crate rejected, or gave up waiting for.
///
/// [`reached_service`](Self::reached_service) tells the two apart. A `Rejected` is `Copy`, and is made without allocating.
///
/// Its [`source`](StdError::source) says whether the call was executed. By it, layers recognise a rejection inside a boxed error.
///
/// Layers make them. To make one in a test, in a fake of a service or in a layer of your own:
///
/// ```
/// use std::time::Duration;
/// use stanchion::{Reason, Rejected};
///
/// let rejected = Rejected::new(Reason::CircuitOpen, "payments").with_retry_after(Duration::from_secs(5));
/// assert_eq!(rejected.retry_after(), Some(Duration::from_secs(5)));
/// assert!(!rejected.reached_service());
/// assert_eq!(rejected.to_string(), "rejected by payments: circuit is open, retry after 5s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected(Details);

/// All there is to a rejection, as an error of its own: the top of a boxed error cannot be looked at but by its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Details {
    reason: Reason,
    reached_service: bool,
    layer: &'static str,
    /// How long to wait, or how long was waited, in nanoseconds; or [`UNKNOWN`](Self::UNKNOWN). A `Duration` would make
    /// of its niche the tag of each `Result` around it, and copying that is slow.
    time: u64,
}

impl Details {
    const UNKNOWN: u64 = u64::MAX;
}

impl Rejected {
    const UNKNOWN: u64 = Details::UNKNOWN;

    /// Creates a rejection for `reason` by the layer with the name `layer`.
    ///
    /// It has not [reached the service](Self::reached_service), unless `reason` is one that says it has: a total, attempt or
    /// idle timeout, or [`Reason::NotReady`].
    #[must_use]
    pub const fn new(reason: Reason, layer: &'static str) -> Self {
        let reached_service = matches!(
            reason,
            Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::NotReady
        );
        Self(Details { reason, reached_service, layer, time: Self::UNKNOWN })
    }

    /// Sets [`reached_service`](Self::reached_service).
    #[must_use]
    pub const fn with_reached_service(mut self, reached_service: bool) -> Self {
        self.0.reached_service = reached_service;
        self
    }

    /// Sets [`retry_after`](Self::retry_after). Has no effect for the reasons that have a [`limit`](Self::limit).
    #[must_use]
    pub const fn with_retry_after(self, wait: Duration) -> Self {
        if self.0.reason.is_timeout() { self } else { self.with_time(nanos(wait)) }
    }

    /// Sets [`limit`](Self::limit). Has an effect only for the reasons that have one: the total, attempt and idle timeout,
    /// the deadline, and the waits for a bulkhead and for a limit.
    #[must_use]
    pub const fn with_limit(self, limit: Duration) -> Self {
        if self.0.reason.is_timeout() { self.with_time(nanos(limit)) } else { self }
    }

    const fn with_time(mut self, time: u64) -> Self {
        // The longest time is a time, too.
        self.0.time = if time == Self::UNKNOWN { time - 1 } else { time };
        self
    }

    /// Creates the rejection of a call, after which to wait for `wait` nanoseconds, if that is known.
    #[inline]
    pub(crate) fn after(reason: Reason, layer: &'static str, wait: Option<u64>) -> Self {
        Self(Details { reason, reached_service: false, layer, time: wait.unwrap_or(Self::UNKNOWN) })
    }

    /// Creates the end of a call that was given no more than `limit` nanoseconds.
    pub(crate) const fn timeout(
        reason: Reason,
        layer: &'static str,
        limit: u64,
        reached_service: bool,
    ) -> Self {
        Self(Details { reason, reached_service, layer, time: 0 }).with_time(limit)
    }

    /// Returns why the call was rejected or given up.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Returns the name of the layer that did so.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.0.layer
    }

    /// Returns how long to wait before another call may be let through. `None` if that is not known, as in a circuit
    /// that an operator holds open, and if the reason is a timeout.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.0.reason.is_timeout() { None } else { self.duration() }
    }

    /// Returns how much time the call was given, if that is why it ended: the limit that was set, or for
    /// [`Reason::DeadlineExceeded`] what was left until the deadline when the layer was called.
    #[must_use]
    pub const fn limit(&self) -> Option<Duration> {
        if self.0.reason.is_timeout() { self.duration() } else { None }
    }

    const fn duration(&self) -> Option<Duration> {
        match self.0.time {
            Self::UNKNOWN => None,
            time => Some(Duration::from_nanos(time)),
        }
    }

    /// Returns `true` if the service may have seen the call. If `false`, the call was surely not executed, and repeating
    /// it is safe even if it is not idempotent.
    #[must_use]
    pub const fn reached_service(&self) -> bool {
        self.0.reached_service
    }

    /// Finds the rejection in `error` itself or in its chain of sources.
    ///
    /// ```
    /// use stanchion::Rejected;
    ///
    /// let error = std::io::Error::other("connection reset");
    /// assert!(Rejected::find(&error).is_none());
    /// ```
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        Self::find_in(Some(error))
    }

    /// Finds the rejection of which `source` is the source, or that it is, or that lies further down the chain.
    pub(super) fn find_in(source: Option<&(dyn StdError + 'static)>) -> Option<Self> {
        chain(source).find_map(|error| {
            let rejected = error.downcast_ref().copied();
            rejected.or_else(|| error.downcast_ref().copied().map(Self))
        })
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason())
            .field("layer", &self.layer())
            .field("retry_after", &self.retry_after())
            .field("limit", &self.limit())
            .field("reached_service", &self.reached_service())
            .finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.reached_service() { "given up" } else { "rejected" };
        write!(f, "{verb} by {}: {}", self.layer(), self.reason())?;
        match (self.retry_after(), self.limit()) {
            (Some(wait), _) => write!(f, ", retry after {}", Rounded(wait)),
            (None, Some(limit)) => write!(f, " after {}", Rounded(limit)),
            (None, None) => Ok(()),
        }
    }
}

impl StdError for Rejected {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reached_service {
            "the call may have been executed"
        } else {
            "the call was not executed"
        })
    }
}

impl StdError for Details {}
