//! How long to wait before the next attempt.
//!
//! The wait grows from attempt to attempt, so that a service that is down is left alone, and a part of it is
//! drawn by lot, so that clients which failed together do not come back together. A wait that has reached the
//! [`cap`](Backoff::cap) is still drawn: several known libraries add the jitter first and cut it off afterwards,
//! and their clients come in step just when an outage lasts.
//!
//! Jitter spreads retries in time and does not make them fewer. That is what a [`Budget`](crate::Budget) does.
//!
//! ```
//! use std::time::Duration;
//!
//! use stanchion::{Backoff, Jitter};
//!
//! let drawn = Backoff::exponential(Duration::from_millis(100)).cap(Duration::from_secs(1));
//! let fixed = drawn.jitter(Jitter::None);
//!
//! let waits: Vec<_> = fixed.delays().take(6).map(|wait| wait.as_millis()).collect();
//! assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
//! // By default a wait is anything between zero and that.
//! assert!(drawn.delays().zip(fixed.delays()).take(6).all(|(wait, most)| wait <= most));
//! ```

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use crate::base::clock::{nanos, times};
use crate::config::InvalidConfig;

/// Waits between attempts: wait *n*, counted from zero, is drawn by [`jitter`](Self::jitter) from
/// `min(cap, base * factor^n)`.
///
/// Plain data: every field can be set directly or by the method of the same name. Waits of more than 584 years
/// count as that long.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first wait, before jitter. With zero there is no wait at all. Default: 100 ms, so 50 ms on the average
    /// with full jitter, in which a connection that was cut is replaced.
    pub base: Duration,
    /// Each wait is so many times longer than the one before; finite and at least 1. Default: 2.
    pub factor: f64,
    /// No wait is longer, jitter included; at least `base`. Default: 10 s, because few callers wait for longer,
    /// and one that does finds a service that is back within that time.
    pub cap: Duration,
    /// What part of a wait is drawn by lot. Default: [`Jitter::Full`].
    pub jitter: Jitter,
}

/// What part of a wait is drawn by lot. `n` is the wait without jitter, `min(cap, base * factor^n)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// None: each wait is `n`. For tests, and where a single client calls.
    None,
    /// All of it: from zero to `n`. Spreads many clients best.
    Full,
    /// The second half: from `n / 2` to `n`. For those who must not come back at once.
    Equal,
    /// From `base` to three times the wait before, at most `cap`; `factor` has no part in it. The form that AWS
    /// published cuts what it has drawn to the cap; here the range is cut, for else most of the long waits would
    /// be equal.
    Decorrelated,
    /// From `n` less this share of it to `n` and this share more, at most `cap`; 0 to 1. At the cap only the
    /// lower half of that is left.
    Around(f64),
}

impl Backoff {
    const DEFAULT_CAP: Duration = Duration::from_secs(10);

    /// Always `wait`, without jitter. `cap` is `wait` too, so that jitter can only shorten it.
    #[must_use]
    pub const fn constant(wait: Duration) -> Self {
        Self { base: wait, factor: 1.0, cap: wait, jitter: Jitter::None }
    }

    /// Begins with `base` and doubles up to 10 s, or `base` if that is longer, with [`Jitter::Full`].
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        let is_short = base.as_nanos() < Self::DEFAULT_CAP.as_nanos();
        let cap = if is_short { Self::DEFAULT_CAP } else { base };
        Self { base, factor: 2.0, cap, jitter: Jitter::Full }
    }

    /// Sets by how much each wait is longer than the one before.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Sets what is drawn by lot.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        // Written so that a NaN fails: it is in no range.
        if !(1.0..f64::INFINITY).contains(&self.factor) {
            return Err(InvalidConfig::new("factor", self.factor, "a finite number of at least 1"));
        }
        if self.cap < self.base {
            return Err(InvalidConfig::new("cap", self.cap, "at least `base`"));
        }
        match self.jitter {
            Jitter::Around(share) if !(0.0..=1.0).contains(&share) => {
                Err(InvalidConfig::new("jitter", share, "a share from 0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// The waits, from the first one on. They never end.
    ///
    /// Random numbers come from a generator forked off fastrand's own of this thread, so `fastrand::seed` makes
    /// them repeatable. A field that [`validate`](Self::validate) refuses is taken as the nearest value that it
    /// allows; no value panics.
    #[must_use]
    pub fn delays(&self) -> Delays {
        Delays::new(*self, fastrand::Rng::new())
    }

    /// The waits, drawn by a generator of their own: the same ones for the same seed.
    #[must_use]
    pub fn delays_seeded(&self, seed: u64) -> Delays {
        Delays::new(*self, fastrand::Rng::with_seed(seed))
    }

    /// The wait before jitter in nanoseconds, `attempts` waits after the first.
    fn nominal(&self, attempts: u32) -> u64 {
        let (base, cap) = (nanos(self.base), nanos(self.cap));
        // A NaN becomes 1.
        let grown = self.factor.max(1.0).powf(f64::from(attempts));
        if grown > 1.0 { times(base, grown).min(cap) } else { base.min(cap) }
    }

    /// The shortest and the longest wait in nanoseconds, `attempts` waits after the first, the last of which
    /// was `previous`.
    fn range(&self, attempts: u32, previous: u64) -> (u64, u64) {
        let (nominal, cap) = (self.nominal(attempts), nanos(self.cap));
        match self.jitter {
            Jitter::None => (nominal, nominal),
            Jitter::Full => (0, nominal),
            Jitter::Equal => (nominal.div_ceil(2), nominal),
            Jitter::Decorrelated => {
                let low = nanos(self.base).min(cap);
                (low, previous.saturating_mul(3).min(cap).max(low))
            }
            Jitter::Around(share) => {
                let width = part(nominal, share);
                (nominal.saturating_sub(width), nominal.saturating_add(width).min(cap))
            }
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100))
    }
}

/// A share of `whole`: at least nothing, at most all of it.
fn part(whole: u64, share: f64) -> u64 {
    times(whole, share).min(whole)
}

/// The waits of a [`Backoff`], one after the other, without end. Small, and made without allocating.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    attempts: u32,
    /// In nanoseconds.
    previous: u64,
    random: fastrand::Rng,
}

impl Delays {
    fn new(backoff: Backoff, random: fastrand::Rng) -> Self {
        Self { backoff, attempts: 0, previous: nanos(backoff.base), random }
    }

    /// Goes on by another backoff from where it is.
    pub(crate) const fn follow(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let (shortest, longest) = self.backoff.range(self.attempts, self.previous);
        self.attempts = self.attempts.saturating_add(1);
        self.previous = self.random.u64(shortest..=longest);
        Some(Duration::from_nanos(self.previous))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
