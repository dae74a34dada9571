use std::time::Duration;

use crate::base::clock::nanos;
use crate::error::{Reason, Rejected};

/// What the end of a call says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The service did its job.
    Success,
    /// The service did not do its job.
    Failure,
    /// Nothing: the call was wrong, or was never made.
    Ignored,
}

/// Whether a call may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retryable {
    /// No: the call succeeded, or would fail again.
    Never,
    /// Yes, if executing the request twice does no harm: it may have been executed.
    IfIdempotent,
    /// Yes, whatever the request: it was surely not executed. A request that is not idempotent is repeated once
    /// for this reason, since a server that is wrong about it once is not to be trusted twice.
    Always,
}

/// What the server said about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryHint {
    /// Not before this time has passed: an HTTP `Retry-After`.
    AtLeast(Duration),
    /// After exactly this time: gRPC's pushback.
    Exactly(Duration),
    /// No other attempt.
    Stop,
}

/// The outcome of a call: one answer for every layer.
///
/// | layer | looks at |
/// |---|---|
/// | circuit breaker | `class`, and the wait in `retry_hint` of a failure |
/// | retry, hedge | `retryable`, `retry_hint` |
/// | throttle | `overload` |
/// | adaptive limit | `class`; an `overload` counts as a failure |
/// | fallback | [`is_good`](Self::is_good), `class` |
///
/// So "may be tried again, and is no sign of ill health", as a response 429 is, is one value:
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
    /// What the end says about the service.
    pub class: Class,
    /// Whether the call may be tried again.
    pub retryable: Retryable,
    /// What the server said about another attempt.
    pub retry_hint: Option<RetryHint>,
    /// Whether the service may have had too much to do. A [throttle](crate::throttle) sends less then.
    pub overload: bool,
    /// What the error was when it was asked.
    pub(crate) cause: Cause,
}

/// What an error says of itself, whatever a classifier makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// It is the service's own, or there is none.
    Service,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// A layer gave up because the deadline of the caller had passed. Holds the time the call was given, in nanoseconds, or
    /// [`u64::MAX`] if that is not known.
    PastDeadline(u64),
    /// A layer of this crate kept the call from the service.
    Rejected,
}

impl Outcome {
    /// Creates the outcome of a call that the service did as asked. Not to be tried again.
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

    /// Creates the outcome of a call that failed. It may be tried again if it is idempotent, and may have failed from
    /// overload, as far as is known.
    #[must_use]
    pub const fn failure() -> Self {
        let success = Self::success();
        Self { class: Class::Failure, retryable: Retryable::IfIdempotent, overload: true, ..success }
    }

    /// Creates the outcome of a call whose end says nothing about the service, such as one that was wrong. Not to be
    /// tried again.
    #[must_use]
    pub const fn ignored() -> Self {
        Self { class: Class::Ignored, ..Self::success() }
    }

    /// Creates the outcome of a call that was surely not executed: connection refused, stream refused, server going away.
    /// It is a failure, and any request may be tried again.
    #[must_use]
    pub const fn unprocessed() -> Self {
        Self { retryable: Retryable::Always, ..Self::failure() }
    }

    /// Creates the outcome of a call that a layer of this crate kept from the service. What that layer said about when to come
    /// again is a hint for a retry that tries rejected calls again.
    pub(crate) fn rejected(rejected: &Rejected) -> Self {
        Self {
            retryable: Retryable::Always,
            retry_hint: rejected.retry_after().map(RetryHint::AtLeast),
            cause: Cause::Rejected,
            ..Self::ignored()
        }
    }

    /// Returns the outcome of a call whose error, if there is one, is `rejected`: what that says it is, or else what `classify`
    /// makes of it.
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

    /// Sets what the end says about the service.
    #[must_use]
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Sets whether the call may be tried again.
    #[must_use]
    pub const fn retryable(mut self, retryable: Retryable) -> Self {
        self.retryable = retryable;
        self
    }

    /// Sets what the server said about another attempt.
    #[must_use]
    pub const fn retry_hint(mut self, hint: RetryHint) -> Self {
        self.retry_hint = Some(hint);
        self
    }

    /// Sets whether the service may have had too much to do.
    #[must_use]
    pub const fn overload(mut self, overload: bool) -> Self {
        self.overload = overload;
        self
    }

    /// Returns `true` if there is nothing to mend: the class is not `Failure`, and the call is not to be tried again. An error
    /// that is `Ignored` is good, too: a fallback hands it out as it is.
    #[must_use]
    #[inline]
    pub const fn is_good(&self) -> bool {
        !matches!(self.class, Class::Failure) && matches!(self.retryable, Retryable::Never)
    }

    /// Returns `true` if a layer of this crate kept the call from the service.
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

    /// Returns how many nanoseconds the call was given, if a layer of this crate gave it up because its caller's deadline had
    /// passed; [`u64::MAX`] if that is not known.
    #[inline]
    pub(crate) const fn past_deadline(&self) -> Option<u64> {
        match self.cause {
            Cause::PastDeadline(given) => Some(given),
            _ => None,
        }
    }

    /// Returns `true` if the call is a failure only because its caller's deadline had passed.
    #[inline]
    pub(crate) const fn is_cut_off(&self) -> bool {
        matches!((self.class, self.cause), (Class::Failure, Cause::PastDeadline(_)))
    }

    /// Returns how long the server wants to be left alone, if it said so.
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
