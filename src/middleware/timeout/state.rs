//! Which limit ends a call: decided from durations, without a clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::{Limit, Scope};
use crate::base::clock::{nanos, times};
use crate::error::Reason;

/// The limit that ends a call if nothing else does, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) reason: Reason,
    /// As it is called in the rejection.
    pub(super) limit: u64,
    /// What of it is left.
    pub(super) within: u64,
}

impl Bound {
    #[inline]
    pub(super) const fn new(reason: Reason, limit: u64) -> Self {
        Self { reason, limit, within: limit }
    }
}

/// The earlier of the layer's `own` limit, of which `used` has passed, and what is `left` until the deadline; no bound
/// without either.
///
/// # Errors
///
/// The deadline, if it leaves less time than `needed`; the layer's own limit, if nothing is left of it.
#[inline]
pub(super) fn bind(
    scope: Scope,
    own: Option<u64>,
    used: u64,
    left: Option<u64>,
    needed: u64,
) -> Result<Option<Bound>, Bound> {
    let own =
        own.map(|limit| Bound { within: limit.saturating_sub(used), ..Bound::new(scope.reason(), limit) });
    // With nothing left there is no call, however little is needed.
    let deadline = left.map(|left| Bound::new(Reason::DeadlineExceeded, left));
    if let Some(deadline) = deadline.filter(|deadline| deadline.within == 0 || deadline.within < needed) {
        return Err(deadline);
    }
    if let Some(used_up) = own.filter(|own| own.within == 0) {
        return Err(used_up);
    }
    let Some(deadline) = deadline else { return Ok(own) };
    // Of two equal ones the layer's own says more.
    Ok(own.filter(|own| own.within <= deadline.within).or(Some(deadline)))
}

impl Scope {
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Total => Reason::TotalTimeout,
            Self::Attempt => Reason::AttemptTimeout,
        }
    }
}

impl Limit {
    /// The limit, given what the measured quantile is; `None` if there is none but the deadline.
    pub(super) fn given(self, measured: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Deadline => None,
            Self::Fixed(limit) => Some(limit),
            Self::Adaptive { factor, min, max, .. } => {
                Some(measured.map_or(max, |latency| {
                    Duration::from_nanos(times(nanos(latency), factor)).clamp(min, max)
                }))
            }
        }
    }
}
