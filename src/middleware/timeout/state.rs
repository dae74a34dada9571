//! The decision which limit ends a call: pure functions of durations, without a clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::{Limit, Scope};
use crate::base::clock::{nanos, times};
use crate::error::Reason;

/// The limit that ends a call, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) reason: Reason,
    /// The limit that the rejection reports.
    pub(super) limit: u64,
    /// The part of the limit that is left.
    pub(super) within: u64,
}

impl Bound {
    #[inline]
    pub(super) const fn new(reason: Reason, limit: u64) -> Self {
        Self { reason, limit, within: limit }
    }
}

/// Returns the earlier of two bounds: the layer's `own` limit, of which `used` has passed, and the
/// time `left` until the deadline. Returns `None` without either.
///
/// # Errors
///
/// Returns the deadline if less time than `needed` is left, or the layer's own limit if nothing of
/// it is left.
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
    // With no time left no call is made, even if `needed` is zero.
    let deadline = left.map(|left| Bound::new(Reason::DeadlineExceeded, left));
    if let Some(deadline) = deadline.filter(|deadline| deadline.within == 0 || deadline.within < needed) {
        return Err(deadline);
    }
    if let Some(used_up) = own.filter(|own| own.within == 0) {
        return Err(used_up);
    }
    let Some(deadline) = deadline else { return Ok(own) };
    // If both are equal, the layer's own limit is the more informative reason.
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
    /// Returns the limit for the measured quantile, or `None` if only deadlines limit calls.
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
