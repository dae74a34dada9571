//! Random numbers that are the same wherever the simulations run.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "durations of a simulation are far from the ends of either scale"
)]

use std::time::Duration;

use super::MILLISECOND;

/// The seed of a run: what the environment says in `STANCHION_SEED`, or 1.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STANCHION_SEED").ok();
    given.map_or(1, |given| given.parse().expect("STANCHION_SEED is a number"))
}

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one use, which do not depend on how many numbers the others draw.
    pub(crate) fn of(name: &str) -> Self {
        let mut random = Self(seed());
        for byte in name.bytes() {
            random.0 = random.number() ^ u64::from(byte);
        }
        random
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without either of them.
    pub(crate) fn share(&mut self) -> f64 {
        ((self.number() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        times(mean, -self.share().ln())
    }

    /// By Box and Muller.
    pub(crate) fn lognormal(&mut self, median: Duration, sigma: f64) -> Duration {
        let normal = (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos();
        times(median, (sigma * normal).exp())
    }
}

/// How long a request takes once a worker has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Latency {
    Fixed(Duration),
    Exponential {
        mean: Duration,
    },
    Lognormal {
        median: Duration,
        sigma: f64,
    },
    /// 5 ms and exponential 5 ms more, but for a fiftieth of the requests another 200 ms.
    Stragglers,
}

impl Latency {
    pub(super) fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential { mean } => random.exponential(mean),
            Self::Lognormal { median, sigma } => random.lognormal(median, sigma),
            Self::Stragglers => {
                let straggles = if random.chance(0.02) { 200 } else { 0 };
                (5 + straggles) * MILLISECOND + random.exponential(5 * MILLISECOND)
            }
        }
    }
}

/// `Duration::mul_f64` panics, and is not ours to use.
pub(crate) fn times(duration: Duration, factor: f64) -> Duration {
    Duration::from_nanos((duration.as_nanos() as f64 * factor) as u64)
}
