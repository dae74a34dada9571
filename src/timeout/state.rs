//! Which limit ends a call: decided from durations, without a clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::{Limit, Scope};
use crate::clock::nanos;
use crate::error::Reason;

/// The limit that ends a call if nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) reason: Reason,
    /// As it is called in the rejection.
    pub(super) limit: Duration,
    /// What of it is left.
    pub(super) within: Duration,
}

/// The earlier of the layer's `own` limit, of which `used` has passed, and what is `left` until the deadline; no bound
/// without either.
///
/// # Errors
///
/// The deadline, if it leaves less time than `needed`.
pub(super) fn bind(
    scope: Scope,
    own: Option<Duration>,
    used: Duration,
    left: Option<Duration>,
    needed: Duration,
) -> Result<Option<Bound>, Bound> {
    let deadline = left.map(|left| Bound { reason: Reason::DeadlineExceeded, limit: left, within: left });
    if let Some(deadline) = deadline {
        // With nothing left there is no call, however little is needed.
        if deadline.within.is_zero() || deadline.within < needed {
            return Err(deadline);
        }
    }
    let own = own.map(|limit| Bound { reason: scope.reason(), limit, within: limit.saturating_sub(used) });
    Ok(match (own, deadline) {
        // Of two equal ones the layer's own says more.
        (Some(own), Some(deadline)) if own.within > deadline.within => Some(deadline),
        (own, deadline) => own.or(deadline),
    })
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
                Some(measured.map_or(max, |latency| times(latency, factor).clamp(min, max)))
            }
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "not negative, and the cast saturates"
)]
fn times(latency: Duration, factor: f64) -> Duration {
    Duration::from_nanos((nanos(latency) as f64 * factor) as u64)
}
