//! What a layer answers when it refuses a call.
//!
//! No layer changes the error type of the service it wraps: it asks that the type can hold a [`Rejected`],
//! `S::Error: From<Rejected>`. `Box<dyn Error + Send + Sync>` and `anyhow::Error` can already, an own enum
//! writes one `From`, and [`Error<E>`] is ready made for everything else. Choose once, below the layers:
//!
//! ```
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(CircuitBreakerConfig::new()))
//!     .map_err(Error::Inner)
//!     .service(service_fn(|n: u32| async move { n.checked_add(1).ok_or(std::fmt::Error) }));
//! # use tower::ServiceExt;
//! assert_eq!(service.oneshot(1).await.unwrap(), 2);
//! # }
//! ```

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::clock::Rounded;
use crate::mark::Cause;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The circuit is open, or half-open with every probe slot taken.
    CircuitOpen,
    /// The circuit is recovering and this call was not in the share that is let through yet.
    Recovering,
    /// The call as a whole took longer than a [timeout](crate::timeout) allows.
    TotalTimeout,
    /// One attempt at the call took longer than a [timeout](crate::timeout) allows.
    AttemptTimeout,
    /// The body of the response brought nothing for longer than a [timeout](crate::timeout) allows.
    IdleTimeout,
    /// The deadline of the request has passed, or was too near to begin.
    DeadlineExceeded,
    /// The service could not be tried again, because it was not ready in time.
    NotReady,
    /// The service accepts so few requests that a [throttle](crate::throttle) did not send this one.
    Throttled,
    /// More calls came than a [quota](crate::rate_limit) allows.
    RateLimited,
    /// As many keys as may be have used of their [quota](crate::rate_limit), and this call has another.
    TooManyKeys,
    /// As many calls are under way as a [bulkhead](crate::bulkhead) allows, and as many wait as may.
    BulkheadFull,
    /// The call waited for longer than a [bulkhead](crate::bulkhead) allows.
    BulkheadTimeout,
    /// As many calls are under way as an [adaptive limit](crate::adaptive_limit) allows by now, and as many wait as may.
    LimitReached,
    /// The call waited for longer than an [adaptive limit](crate::adaptive_limit) allows.
    LimitTimeout,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::CircuitOpen,
        Self::Recovering,
        Self::TotalTimeout,
        Self::AttemptTimeout,
        Self::IdleTimeout,
        Self::DeadlineExceeded,
        Self::NotReady,
        Self::Throttled,
        Self::RateLimited,
        Self::TooManyKeys,
        Self::BulkheadFull,
        Self::BulkheadTimeout,
        Self::LimitReached,
        Self::LimitTimeout,
    ];

    /// Whether time ran out, in whatever way.
    const fn is_timeout(self) -> bool {
        match self {
            Self::TotalTimeout
            | Self::AttemptTimeout
            | Self::IdleTimeout
            | Self::DeadlineExceeded
            | Self::BulkheadTimeout
            | Self::LimitTimeout => true,
            Self::CircuitOpen
            | Self::Recovering
            | Self::NotReady
            | Self::Throttled
            | Self::RateLimited
            | Self::TooManyKeys
            | Self::BulkheadFull
            | Self::LimitReached => false,
        }
    }

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::Recovering => "recovering",
            Self::TotalTimeout => "total_timeout",
            Self::AttemptTimeout => "attempt_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotReady => "not_ready",
            Self::Throttled => "throttled",
            Self::RateLimited => "rate_limited",
            Self::TooManyKeys => "too_many_keys",
            Self::BulkheadFull => "bulkhead_full",
            Self::BulkheadTimeout => "bulkhead_timeout",
            Self::LimitReached => "limit_reached",
            Self::LimitTimeout => "limit_timeout",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitOpen => "circuit is open",
            Self::Recovering => "circuit is recovering",
            Self::TotalTimeout => "total timeout",
            Self::AttemptTimeout => "attempt timeout",
            Self::IdleTimeout => "idle timeout",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::NotReady => "service is not ready to be tried again",
            Self::Throttled => "service accepts too few requests",
            Self::RateLimited => "rate limit reached",
            Self::TooManyKeys => "too many keys",
            Self::BulkheadFull => "bulkhead is full",
            Self::BulkheadTimeout => "no room in the bulkhead",
            Self::LimitReached => "limit is reached",
            Self::LimitTimeout => "no room within the limit",
        })
    }
}

/// A call that a layer of this crate refused, or gave up waiting for.
///
/// [`reached_service`](Self::reached_service) tells one from the other. Small, cloneable and made without
/// allocating.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected {
    reason: Reason,
    reached_service: bool,
    policy: &'static str,
    /// How long to wait, or how long was waited, in nanoseconds; or [`UNKNOWN`](Self::UNKNOWN). A `Duration` would make
    /// of its niche the tag of each `Result` around it, and copying that is slow.
    time: u64,
}

impl Rejected {
    const UNKNOWN: u64 = u64::MAX;

    /// A refusal after which to wait for `wait` nanoseconds, if that is known.
    #[inline]
    pub(crate) fn new(reason: Reason, policy: &'static str, wait: Option<u64>) -> Self {
        Self { reason, reached_service: false, policy, time: wait.unwrap_or(Self::UNKNOWN) }
    }

    /// The end of a call that was given no more than `limit` nanoseconds.
    pub(crate) const fn timeout(
        reason: Reason,
        policy: &'static str,
        limit: u64,
        reached_service: bool,
    ) -> Self {
        // A limit of for ever is one too.
        let time = if limit == Self::UNKNOWN { limit - 1 } else { limit };
        Self { reason, reached_service, policy, time }
    }

    /// The end of a call whose attempt failed, and could not be followed by another.
    pub(crate) const fn not_ready(policy: &'static str) -> Self {
        Self { reason: Reason::NotReady, reached_service: true, policy, time: Self::UNKNOWN }
    }

    /// Why the call was refused or given up.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The name of the layer that did so.
    #[must_use]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// How long to wait before another call may be let through. `None` if that is not known, as in a circuit
    /// an operator holds open, and if the call was not refused but timed out.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.reason.is_timeout() { None } else { self.duration() }
    }

    /// How much time the call was given, if that is why it ended: the limit that was set, or for
    /// [`Reason::DeadlineExceeded`] what was left until the deadline when the layer was called.
    #[must_use]
    pub const fn limit(&self) -> Option<Duration> {
        if self.reason.is_timeout() { self.duration() } else { None }
    }

    const fn duration(&self) -> Option<Duration> {
        match self.time {
            Self::UNKNOWN => None,
            time => Some(Duration::from_nanos(time)),
        }
    }

    /// Whether the service may have seen the call. `false`: it was surely not executed, and repeating it is
    /// safe even if it is not idempotent.
    #[must_use]
    pub const fn reached_service(&self) -> bool {
        self.reached_service
    }

    /// What a layer further out is to make of it.
    pub(crate) const fn cause(&self) -> Cause {
        match self.reason {
            _ if !self.reached_service => Cause::Refused,
            Reason::DeadlineExceeded => Cause::PastDeadline,
            _ => Cause::TimedOut,
        }
    }

    /// The rejection in `error` itself or in its chain of sources.
    ///
    /// ```
    /// use stanchion::Rejected;
    ///
    /// let error = std::io::Error::other("connection reset");
    /// assert!(Rejected::find(&error).is_none());
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            next = error.source();
        }
        None
    }

    /// Turns the rejection into the caller's error, and [marks](crate::mark) the moment.
    #[inline]
    pub(crate) fn deliver<E: From<Self>>(self) -> E {
        self.cause().deliver();
        E::from(self)
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .field("policy", &self.policy)
            .field("retry_after", &self.retry_after())
            .field("limit", &self.limit())
            .field("reached_service", &self.reached_service)
            .finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.reached_service { "given up" } else { "rejected" };
        write!(f, "{verb} by {}: {}", self.policy, self.reason)?;
        match (self.retry_after(), self.limit()) {
            (Some(wait), _) => write!(f, ", retry after {}", Rounded(wait)),
            (None, Some(limit)) => write!(f, " after {}", Rounded(limit)),
            (None, None) => Ok(()),
        }
    }
}

impl StdError for Rejected {}

/// A ready-made error type: a refusal, or the error of the service below.
///
/// It is a [`std::error::Error`] for every printable `E`, also for a boxed error, which is not one itself.
/// A boxed inner error is its [`source`](StdError::source), with everything below it. The compiler cannot tell
/// here whether another `E` is an error, so that one is reached by [`inner`](Self::inner), and
/// [`boxed`](Self::boxed) turns it into an error whose chain of sources is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer refused the call, or gave up waiting for the service.
    Rejected(Rejected),
    /// The service failed.
    Inner(E),
}

impl<E> Error<E> {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Inner(_) => None,
        }
    }

    /// The service's own error, if it is one.
    #[must_use]
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(inner) => Some(inner),
        }
    }

    /// The same error with the inner one boxed, so that [`source`](StdError::source) leads to it.
    #[must_use]
    pub fn boxed(self) -> Error<BoxError>
    where
        E: Into<BoxError>,
    {
        match self {
            Self::Rejected(rejected) => Error::Rejected(rejected),
            Self::Inner(inner) => Error::Inner(inner.into()),
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Inner(inner) => inner.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            // The bound that would name `E`'s source excludes boxed errors, which are the common case; a
            // look at the type at run time serves both.
            Self::Inner(inner) => {
                let inner: &dyn Any = inner;
                inner
                    .downcast_ref::<BoxError>()
                    .map(|boxed| &**boxed as &(dyn StdError + 'static))
                    .or_else(|| inner.downcast_ref::<std::io::Error>().map(|io| io as _))
            }
        }
    }
}
