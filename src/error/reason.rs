use std::fmt;

/// The reason why a layer rejected a call or gave it up.
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
    /// The layer already tracks as many keys as it may for their [quota](crate::rate_limit), and this call has a new one.
    TooManyKeys,
    /// The [bulkhead](crate::bulkhead) is full, and so is its queue.
    BulkheadFull,
    /// The call waited for longer than a [bulkhead](crate::bulkhead) allows.
    BulkheadTimeout,
    /// The [adaptive limit](crate::adaptive_limit) is reached, and its queue is full.
    LimitReached,
    /// The call waited for longer than an [adaptive limit](crate::adaptive_limit) allows.
    LimitTimeout,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
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

    /// Returns `true` if this reason is a timeout of any kind.
    pub(crate) const fn is_timeout(self) -> bool {
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
