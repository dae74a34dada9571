//! The gradual recovery: which calls pass, and when it has failed.

use crate::primitives::window::Outcome;

/// Whether the call that is number `arrival` passes, `elapsed` into a recovery that takes `ramp`.
pub(super) fn admits(arrival: u64, elapsed: u64, ramp: u64) -> bool {
    spread(arrival) < share_of_ramp(elapsed, ramp)
}

/// A number in 0..1 for each arrival, spread evenly however many there are: multiples of the golden ratio.
fn spread(arrival: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    unit(arrival.wrapping_mul(GOLDEN))
}

/// The 53 upper bits as a number in 0..1.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[allow(clippy::cast_precision_loss, reason = "a share needs no nanoseconds")]
fn share_of_ramp(elapsed: u64, ramp: u64) -> f64 {
    const FIRST: f64 = 0.1;
    FIRST + (1.0 - FIRST) * (elapsed as f64 / ramp.max(1) as f64)
}

/// How much each call of a recovery weighs in a cumulative sum (Page's CUSUM, 1954): a bad one raises it, a good
/// one lowers it by more, down to nothing. It stays low while the share of bad calls is below halfway from the
/// allowed one to all, and reaches the limit within twenty calls of an outage if half of them may be bad.
pub(super) struct Relapse {
    good: u32,
    bad: u32,
}

impl Relapse {
    const ONE: f64 = 1_024.0;
    pub(super) const LIMIT: u32 = 5 * 1_024;

    pub(super) fn new(allowed: f64) -> Self {
        // Where all may be bad, an outage must still weigh something.
        let halfway = f64::midpoint(allowed, 1.0).min(0.9);
        Self { good: to_weight(halfway * Self::ONE), bad: to_weight((1.0 - halfway) * Self::ONE) }
    }

    pub(super) const fn next(&self, sum: u32, outcome: Outcome) -> u32 {
        if outcome.is_good() { sum.saturating_sub(self.good) } else { sum.saturating_add(self.bad) }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1,024")]
fn to_weight(weight: f64) -> u32 {
    weight as u32
}
