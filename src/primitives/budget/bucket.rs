//! The tokens. Pure: it is given the time.
//!
//! ```text
//! tokens   in units, 0 to cap                       changed by compare-and-swap only
//! paid     the time up to which `per_second` is paid, in nanoseconds; only ever moved on
//! ```
//!
//! Whoever moves `paid` on owns the tokens of the time in between, and no one else adds them. What has come in by
//! a moment is rounded, and not what comes in between two moments, so that nothing is lost in however small steps
//! `paid` is moved. A deposit adds no tokens of time: between two withdrawals the order in which
//! both are added and cut to the cap makes no difference.
//!
//! Each word stands for itself, so all accesses are relaxed.

use super::Cost;
use super::config::Settings;
use crate::base::clock::Timestamp;
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) tokens: AtomicU64,
    paid: AtomicU64,
    settings: Settings,
}

impl Bucket {
    /// A full bucket, at the origin of time.
    pub(super) fn new(settings: Settings) -> Self {
        Self { tokens: AtomicU64::new(settings.cap), paid: AtomicU64::new(0), settings }
    }

    #[inline]
    pub(super) fn deposit(&self) {
        let Settings { deposit, cap, .. } = self.settings;
        let mut seen = self.tokens.load(Ordering::Relaxed);
        while seen < cap {
            let added = seen.saturating_add(deposit).min(cap);
            match self.change(seen, added) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn withdraw(&self, cost: Cost, now: Timestamp) -> bool {
        let cost = self.price(cost);
        let earned = self.collect(now);
        let mut seen = self.tokens.load(Ordering::Relaxed);
        loop {
            let available = self.with(seen, earned);
            let left = available.checked_sub(cost);
            if left.is_none() && available == seen {
                return false;
            }
            match self.change(seen, left.unwrap_or(available)) {
                Ok(_) => return left.is_some(),
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn can_pay(&self, cost: Cost, now: Timestamp) -> bool {
        self.units(now) >= self.price(cost)
    }

    const fn price(&self, cost: Cost) -> u64 {
        match cost {
            Cost::Retry => self.settings.retry_cost,
            Cost::Timeout => self.settings.timeout_cost,
        }
    }

    /// In tokens.
    pub(super) fn balance(&self, now: Timestamp) -> f64 {
        tokens(self.units(now))
    }

    pub(super) fn share(&self, now: Timestamp) -> f64 {
        tokens(self.units(now)) / tokens(self.settings.cap)
    }

    pub(super) fn units(&self, now: Timestamp) -> u64 {
        let tokens = self.tokens.load(Ordering::Relaxed);
        self.with(tokens, self.earned(Timestamp(self.paid.load(Ordering::Relaxed)), now))
    }

    fn with(&self, tokens: u64, earned: u64) -> u64 {
        tokens.saturating_add(earned).min(self.settings.cap)
    }

    /// Takes the tokens that came with time, for the caller to add.
    fn collect(&self, now: Timestamp) -> u64 {
        let paid = if planted!("refill_paid_twice") {
            let paid = self.paid.load(Ordering::Relaxed);
            self.paid.store(now.0, Ordering::Relaxed);
            paid
        } else {
            self.paid.fetch_max(now.0, Ordering::Relaxed)
        };
        self.earned(Timestamp(paid), now)
    }

    /// What comes in between two moments; nothing if the clock goes backward.
    fn earned(&self, from: Timestamp, to: Timestamp) -> u64 {
        let earned = self.earned_by(to).saturating_sub(self.earned_by(from));
        u64::try_from(earned).unwrap_or(u64::MAX)
    }

    fn earned_by(&self, at: Timestamp) -> u128 {
        const SECOND: u128 = 1_000_000_000;
        let units = u128::from(at.0).saturating_mul(u128::from(self.settings.per_second));
        units / SECOND
    }

    /// Sets the tokens to `to` if they are still `from`.
    #[inline]
    fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        if planted!("tokens_overwritten") {
            self.tokens.store(to, Ordering::Relaxed);
            return Ok(from);
        }
        self.tokens.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }
}

#[allow(clippy::cast_precision_loss, reason = "to be looked at")]
fn tokens(units: u64) -> f64 {
    units as f64 / Settings::TOKEN as f64
}
