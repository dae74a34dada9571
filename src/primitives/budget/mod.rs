//! How many extra calls retries and hedges may make: a share of the calls there are anyway.
//!
//! Retries help against single failures and harm in an outage: with three of them each call becomes four, just
//! when the service has least to give, and the overload lasts when its cause is long gone. Waiting between the
//! attempts, with or without jitter, moves that load and does not lessen it. A budget bounds it.
//!
//! ```
//! use stanchion::{Budget, BudgetConfig};
//!
//! let budget = Budget::new(BudgetConfig::new().ratio(0.1).per_second(0.0).cap(10.0));
//!
//! // An outage: each of 1,000 calls fails and asks for a retry.
//! let retries = (0..1_000).filter(|_| {
//!     budget.deposit();
//!     budget.withdraw()
//! });
//! assert_eq!(retries.count(), 109, "the ten that were saved up, and one for every ten calls");
//! ```
//!
//! # What it bounds
//!
//! A bucket holds up to `cap` tokens, and begins full. Each call [deposits](Budget::deposit) `ratio` of a token,
//! once, however many attempts it makes; `per_second` tokens come with time. Each retry and each hedge takes
//! a token, unless another cost is set, and is not made if there is none. At a rate of `rate` calls per second there are in any `T`
//! seconds, for each call, at most
//!
//! ```text
//! 1 + ratio + (cap + per_second * T) / (rate * T)
//! ```
//!
//! attempts. `ratio` is what a long outage costs. `cap` is a burst, for the few calls that fail together when a
//! server restarts. `per_second` lets a client retry that makes hardly any calls.
//!
//! The share that retries add must leave room: `load * (1 + ratio)` has to stay below what the service can do, or
//! it does not get up again. Layers that retry multiply, so three of them one above the other make of a call
//! not `1 + ratio` but its third power.
//!
//! # One budget for all that add calls
//!
//! A budget is cheap to clone, and clones share the tokens. Give the same one to the retries and the hedges
//! that call the same service: two budgets are two times as many extra calls. Each layer pays in for its own calls,
//! so of two of them, one inside of the other, each adds a `ratio` to the bound. Services that fail for
//! different reasons need budgets of their own, or one in an outage uses up the tokens of the other.
//!
//! # Why no window
//!
//! Finagle's `RetryBudget`, from which the idea of a share comes, counts deposits in a sliding window. What a window
//! allows is there at once, and in an outage is spent at once: the retries come in a burst for each window. The
//! bucket here is smooth: what is deposited can be spent, does not expire, and no more than `cap` of it is ever
//! saved up. gRPC's retry throttling and AWS's retry quota are buckets as well, filled by calls that succeed;
//! this one is filled by all calls, so the share does not depend on how many of them fail. From AWS comes
//! that a retry after a [timeout](Cost::Timeout) costs twice as much.
//!
//! A token is 10^9 units of an integer, so ratios are exact: of 10,000 calls, 0.3 allows 3,000 retries.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

mod bucket;
mod config;

use std::fmt;
use std::sync::Arc;

use crate::base::clock::Clock;
use crate::config::{InvalidConfig, valid};
use bucket::Bucket;
use config::Settings;

pub use config::BudgetConfig;

/// A [share of the calls](self) that may be made once more. Clones share the tokens.
///
/// ```
/// use stanchion::Budget;
///
/// let budget = Budget::default();
/// let for_hedges = budget.clone();
/// assert!(for_hedges.withdraw());
/// assert!(budget.balance() < 10.0);
/// ```
#[derive(Clone)]
pub struct Budget {
    /// `None` if it is unlimited.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    clock: Clock,
    config: BudgetConfig,
}

/// What an extra call is for, which decides its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cost {
    /// A retry or a hedge: [`BudgetConfig::retry_cost`].
    Retry,
    /// A retry of an attempt that timed out: [`BudgetConfig::timeout_cost`].
    Timeout,
}

impl Budget {
    /// A full budget.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: BudgetConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// A full budget.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: BudgetConfig) -> Result<Self, InvalidConfig> {
        let bucket = Bucket::new(Settings::new(&config)?);
        Ok(Self { shared: Some(Arc::new(Shared { bucket, clock: Clock::start(), config })) })
    }

    /// A budget that is never used up. For tests, and where something else bounds the extra calls.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { shared: None }
    }

    /// Returns the configuration; `None` if it is unlimited.
    #[must_use]
    pub fn config(&self) -> Option<BudgetConfig> {
        self.shared.as_ref().map(|shared| shared.config.clone())
    }

    /// Counts a call: its first attempt, and no other one. Reads no clock, and writes nothing while the budget
    /// is full.
    #[inline]
    pub fn deposit(&self) {
        if let Some(shared) = &self.shared {
            shared.bucket.deposit();
        }
    }

    /// Takes the tokens for a retry or a hedge: whether it may be made. If not, none were taken.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.withdraw_for(Cost::Retry)
    }

    /// Takes the tokens for an extra call that costs so much: whether it may be made. If not, none were
    /// taken.
    #[must_use]
    pub fn withdraw_for(&self, cost: Cost) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.bucket.withdraw(cost, shared.clock.now()))
    }

    /// Whether there are the tokens for it now. Takes none.
    pub(crate) fn can_pay(&self, cost: Cost) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.bucket.can_pay(cost, shared.clock.now()))
    }

    /// How many tokens there are, 0 to `cap`. Infinitely many if it is unlimited.
    #[must_use]
    pub fn balance(&self) -> f64 {
        self.shared.as_ref().map_or(f64::INFINITY, |shared| shared.bucket.balance(shared.clock.now()))
    }

    /// How full it is, 0 to 1. A budget that stays near zero is one that refuses retries.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.shared.as_ref().map_or(1.0, |shared| shared.bucket.share(shared.clock.now()))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BudgetConfig::new())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("balance", &self.balance()).finish_non_exhaustive()
    }
}

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, stanchion_shuttle))]
mod schedules;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
