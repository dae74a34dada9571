use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::Reason;
use super::chain::chain;
use crate::base::clock::{Rounded, nanos};

/// A call that a layer of this crate rejected or gave up on.
///
/// [`reached_service`](Self::reached_service) tells the two apart. A `Rejected` is `Copy`, and
/// creating one does not allocate.
///
/// Its [`source`](StdError::source) says whether the call was executed. That source is also how
/// layers recognise a rejection inside a boxed error.
///
/// Rejections are normally created by layers. Create one yourself in a test, in a fake service, or
/// in your own layer:
///
/// ```
/// use std::time::Duration;
/// use stanchion::{Reason, Rejected};
///
/// let rejected = Rejected::new(Reason::CircuitOpen, "payments")
///     .with_retry_after(Duration::from_secs(5));
/// assert_eq!(rejected.retry_after(), Some(Duration::from_secs(5)));
/// assert!(!rejected.reached_service());
/// assert_eq!(rejected.to_string(), "rejected by payments: circuit is open, retry after 5s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected(Details);

/// The fields of a rejection, as an error of its own: a boxed error can be downcast only from its
/// source on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Details {
    reason: Reason,
    reached_service: bool,
    layer: &'static str,
    /// The time to wait, or the limit that expired, in nanoseconds; [`UNKNOWN`](Self::UNKNOWN) if
    /// there is none. With a `Duration`, the tag of every `Result` around a rejection would move
    /// into its niche, and copying such results is slow.
    time: u64,
}

impl Details {
    const UNKNOWN: u64 = u64::MAX;
}

impl Rejected {
    const UNKNOWN: u64 = Details::UNKNOWN;

    /// Creates a rejection for `reason` by the layer with the name `layer`.
    ///
    /// The rejection counts as not having [reached the service](Self::reached_service), unless
    /// `reason` implies that it has: a total, attempt or idle timeout, or [`Reason::NotReady`].
    #[must_use]
    pub const fn new(reason: Reason, layer: &'static str) -> Self {
        let reached_service = matches!(
            reason,
            Reason::TotalTimeout | Reason::AttemptTimeout | Reason::IdleTimeout | Reason::NotReady
        );
        Self(Details { reason, reached_service, layer, time: Self::UNKNOWN })
    }

    /// Sets whether the call [reached the service](Self::reached_service).
    #[must_use]
    pub const fn with_reached_service(mut self, reached_service: bool) -> Self {
        self.0.reached_service = reached_service;
        self
    }

    /// Sets [`retry_after`](Self::retry_after). Has no effect on reasons that have a
    /// [`limit`](Self::limit).
    #[must_use]
    pub const fn with_retry_after(self, wait: Duration) -> Self {
        if self.0.reason.is_timeout() { self } else { self.with_time(nanos(wait)) }
    }

    /// Sets [`limit`](Self::limit). Has an effect only on the reasons that have one: total, attempt
    /// and idle timeouts, deadlines, and timeouts in the queue of a bulkhead or of an adaptive
    /// limit.
    #[must_use]
    pub const fn with_limit(self, limit: Duration) -> Self {
        if self.0.reason.is_timeout() { self.with_time(nanos(limit)) } else { self }
    }

    const fn with_time(mut self, time: u64) -> Self {
        // The longest time must not read as `UNKNOWN`.
        self.0.time = if time == Self::UNKNOWN { time - 1 } else { time };
        self
    }

    /// Creates a rejection with a retry after `wait` nanoseconds, or without one for `None`.
    #[inline]
    pub(crate) fn after(reason: Reason, layer: &'static str, wait: Option<u64>) -> Self {
        Self(Details { reason, reached_service: false, layer, time: wait.unwrap_or(Self::UNKNOWN) })
    }

    /// Creates the error of a call that was given at most `limit` nanoseconds.
    pub(crate) const fn timeout(
        reason: Reason,
        layer: &'static str,
        limit: u64,
        reached_service: bool,
    ) -> Self {
        Self(Details { reason, reached_service, layer, time: 0 }).with_time(limit)
    }

    /// Returns the reason why the call was rejected or given up.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Returns the name of the layer that rejected the call or gave it up.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.0.layer
    }

    /// Returns the time to wait before the layer may admit another call. Returns `None` if that
    /// time is unknown, as for a circuit that an operator holds open, or if the reason is a
    /// timeout.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.0.reason.is_timeout() { None } else { self.duration() }
    }

    /// Returns the time that the call was given, if it ended because that time was over. For
    /// timeouts this is the configured limit. For [`Reason::DeadlineExceeded`] it is the time that
    /// was left until the deadline when the layer was called.
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

    /// Returns `true` if the service may have seen the call. If `false`, the call was certainly not
    /// executed, and repeating it is safe even if it is not idempotent.
    #[must_use]
    pub const fn reached_service(&self) -> bool {
        self.0.reached_service
    }

    /// Finds the rejection in `error` or in its chain of sources.
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

    /// Finds the rejection in the chain that starts at `source`. The first link may also be the
    /// [`Details`] of a rejection whose own error could not be downcast.
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
