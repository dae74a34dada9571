use std::time::Duration;

use crate::base::clock::nanos;
use crate::error::{Reason, Rejected};

/// The health signal of a call: what its result says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The service worked.
    Success,
    /// The service failed.
    Failure,
    /// The call says nothing about the service: the request was invalid, or was never sent.
    Ignored,
}

/// The conditions under which a call may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retryable {
    /// Not retryable: the call succeeded, or it would fail again.
    Never,
    /// Retryable if executing the request twice does no harm, since it may have been executed.
    IfIdempotent,
    /// Retryable for every request, since it was certainly not executed. A request that is not
    /// idempotent is retried only once for this reason: a server that was wrong about this would
    /// otherwise execute it many times.
    Always,
}

/// The server's instruction about retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryHint {
    /// Retry after at least this time, as with HTTP's `Retry-After`.
    AtLeast(Duration),
    /// Retry after exactly this time, as with gRPC's pushback.
    Exactly(Duration),
    /// Do not retry.
    Stop,
}

/// The outcome of a call, as one value for every layer.
///
/// | layer | uses |
/// |---|---|
/// | circuit breaker | `class`, and the wait in `retry_hint` of a failure |
/// | retry, hedge | `retryable`, `retry_hint` |
/// | throttle | `overload` |
/// | adaptive limit | `class`; an `overload` counts as a failure |
/// | fallback | [`is_good`](Self::is_good), `class` |
///
/// A 429 response is therefore one value, "retryable, and no sign of ill health":
///
/// ```
/// use stanchion::classify::{Outcome, Retryable};
///
/// let too_many_requests = Outcome::success().retryable(Retryable::IfIdempotent).overload(true);
/// assert!(!too_many_requests.is_good());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Outcome {
    /// The health signal of the call.
    pub class: Class,
    /// The conditions under which the call may be retried.
    pub retryable: Retryable,
    /// The server's instruction about retries, if it gave one.
    pub retry_hint: Option<RetryHint>,
    /// `true` if the service may be overloaded. A [throttle](crate::throttle) then sends fewer
    /// calls.
    pub overload: bool,
    /// The origin of the error, as stated by the error itself.
    pub(crate) cause: Cause,
}

/// The origin of an error, independent of the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The service itself; also the cause of a success.
    Service,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// A layer gave up because the caller's deadline had passed. Holds the time that the call was
    /// given, in nanoseconds, or [`u64::MAX`] if unknown.
    PastDeadline(u64),
    /// A layer of this crate rejected the call before it reached the service.
    Rejected,
}

impl Outcome {
    /// Creates the outcome of a successful call, which is not retryable.
    #[must_use]
    pub const fn success() -> Self {
        Self {
            class: Class::Success,
            retryable: Retryable::Never,
            retry_hint: None,
            overload: false,
            cause: Cause::Service,
        }
    }

    /// Creates the outcome of a failed call. It is retryable if it is idempotent, and counts as a
    /// sign of overload.
    #[must_use]
    pub const fn failure() -> Self {
        let success = Self::success();
        Self { class: Class::Failure, retryable: Retryable::IfIdempotent, overload: true, ..success }
    }

    /// Creates the outcome of a call that says nothing about the service, such as an invalid
    /// request. It is not retryable.
    #[must_use]
    pub const fn ignored() -> Self {
        Self { class: Class::Ignored, ..Self::success() }
    }

    /// Creates the outcome of a call that was certainly not executed: the connection was refused,
    /// the stream was refused, or the server was shutting down. It is a failure, and any request
    /// may be retried.
    #[must_use]
    pub const fn unprocessed() -> Self {
        Self { retryable: Retryable::Always, ..Self::failure() }
    }

    /// Creates the outcome of a call that a layer of this crate rejected. The layer's `retry_after`
    /// becomes the hint, for retries that repeat rejected calls.
    pub(crate) fn rejected(rejected: &Rejected) -> Self {
        Self {
            retryable: Retryable::Always,
            retry_hint: rejected.retry_after().map(RetryHint::AtLeast),
            cause: Cause::Rejected,
            ..Self::ignored()
        }
    }

    /// Returns the outcome of a call: that of `rejected` if its error is one, or else what
    /// `classify` returns.
    #[inline]
    pub(crate) fn asked(rejected: Option<Rejected>, classify: impl FnOnce() -> Self) -> Self {
        match rejected {
            None => classify(),
            Some(rejected) => Self::of_rejected(&rejected, classify),
        }
    }

    #[cold]
    fn of_rejected(rejected: &Rejected, classify: impl FnOnce() -> Self) -> Self {
        let cause = Cause::of(rejected);
        if cause == Cause::Rejected { Self::rejected(rejected) } else { Self { cause, ..classify() } }
    }

    /// Sets the health signal of the call.
    #[must_use]
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Sets the conditions under which the call may be retried.
    #[must_use]
    pub const fn retryable(mut self, retryable: Retryable) -> Self {
        self.retryable = retryable;
        self
    }

    /// Sets the server's instruction about retries.
    #[must_use]
    pub const fn retry_hint(mut self, hint: RetryHint) -> Self {
        self.retry_hint = Some(hint);
        self
    }

    /// Sets whether the service may be overloaded.
    #[must_use]
    pub const fn overload(mut self, overload: bool) -> Self {
        self.overload = overload;
        self
    }

    /// Returns `true` if the class is not `Failure` and the call is not retryable. An `Ignored`
    /// error is therefore good as well, and a fallback returns it unchanged.
    #[must_use]
    #[inline]
    pub const fn is_good(&self) -> bool {
        !matches!(self.class, Class::Failure) && matches!(self.retryable, Retryable::Never)
    }

    /// Returns `true` if a layer of this crate rejected the call before it reached the service.
    #[must_use]
    #[inline]
    pub const fn is_rejected(&self) -> bool {
        matches!(self.cause, Cause::Rejected)
    }

    /// Returns `true` if a layer of this crate gave up waiting for the service.
    #[must_use]
    #[inline]
    pub const fn is_timeout(&self) -> bool {
        matches!(self.cause, Cause::TimedOut | Cause::PastDeadline(_))
    }

    /// Returns the time in nanoseconds that the call was given, if a layer of this crate gave it up
    /// because the caller's deadline had passed. The time is [`u64::MAX`] if unknown.
    #[inline]
    pub(crate) const fn past_deadline(&self) -> Option<u64> {
        match self.cause {
            Cause::PastDeadline(given) => Some(given),
            _ => None,
        }
    }

    /// Returns `true` if the call is a failure only because the caller's deadline had passed.
    #[inline]
    pub(crate) const fn is_cut_off(&self) -> bool {
        matches!((self.class, self.cause), (Class::Failure, Cause::PastDeadline(_)))
    }

    /// Returns the time that the server asked to wait, if it did.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.retry_hint {
            Some(RetryHint::AtLeast(wait) | RetryHint::Exactly(wait)) => Some(wait),
            Some(RetryHint::Stop) | None => None,
        }
    }
}

impl From<Class> for Outcome {
    #[inline]
    fn from(class: Class) -> Self {
        match class {
            Class::Success => Self::success(),
            Class::Failure => Self::failure(),
            Class::Ignored => Self::ignored(),
        }
    }
}

impl Cause {
    pub(crate) fn of(rejected: &Rejected) -> Self {
        match rejected.reason() {
            _ if !rejected.reached_service() => Self::Rejected,
            Reason::DeadlineExceeded => Self::PastDeadline(rejected.limit().map_or(u64::MAX, nanos)),
            _ => Self::TimedOut,
        }
    }
}
