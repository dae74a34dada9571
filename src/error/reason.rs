use std::fmt;

/// The reason why a layer rejected a call or stopped waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The circuit is open, or it is half-open and every trial slot is taken.
    CircuitOpen,
    /// The circuit is recovering, and this call was not in the share that it admits so far.
    Recovering,
    /// The call as a whole took longer than a [timeout](crate::timeout) allows.
    TotalTimeout,
    /// One attempt at the call took longer than a [timeout](crate::timeout) allows.
    AttemptTimeout,
    /// The body of the response made no progress for longer than a [timeout](crate::timeout)
    /// allows.
    IdleTimeout,
    /// The deadline of the request has passed, or too little time was left before it to start the
    /// call.
    DeadlineExceeded,
    /// The service was not ready in time for another attempt.
    NotReady,
    /// The [throttle](crate::throttle) did not send this call, because the service rejects too
    /// many.
    Throttled,
    /// The call exceeds its [quota](crate::rate_limit).
    RateLimited,
    /// The call has a new key, and the layer already tracks its maximum number of keys for their
    /// [quotas](crate::rate_limit).
    TooManyKeys,
    /// The [bulkhead](crate::bulkhead) is full, and so is its queue.
    BulkheadFull,
    /// The call waited in the queue for longer than its [bulkhead](crate::bulkhead) allows.
    BulkheadTimeout,
    /// The [adaptive limit](crate::adaptive_limit) is reached, and its queue is full.
    LimitReached,
    /// The call waited in the queue for longer than its [adaptive limit](crate::adaptive_limit)
    /// allows.
    LimitTimeout,
}

impl Reason {
    /// All reasons.
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

    /// Returns a stable name for metrics and logs.
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
