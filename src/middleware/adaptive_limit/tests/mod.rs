//! Adaptive limits by example, against what other libraries get wrong, and against a simulated server.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod boundaries;
mod hostile;
mod laws;
mod lessons;
mod measuring;
mod overload;
mod server;
mod simulation;
mod usual;
mod vectors;

use std::time::Duration;

use super::algorithm::{Aimd, Algorithm, Gradient, Gradient2, Vegas};
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::base::clock::Timestamp;
use crate::classify::Class;
use crate::middleware::admission::Ended;

const MS: Duration = Duration::from_millis(1);

fn all() -> [Box<dyn Algorithm>; 4] {
    [Box::new(Gradient::new()), Box::new(Aimd::new()), Box::new(Vegas::new()), Box::new(Gradient2::new())]
}

/// A meter and its clock.
#[derive(Debug)]
struct Metered {
    meter: Meter,
    limit: u32,
    now: Timestamp,
    /// All that it has ever been.
    lowest: u32,
    highest: u32,
}

impl Metered {
    fn new(initial_limit: u32, algorithm: impl Algorithm) -> Self {
        Self::boxed(initial_limit, Box::new(algorithm))
    }

    fn boxed(initial_limit: u32, algorithm: Box<dyn Algorithm>) -> Self {
        fastrand::seed(7);
        let config = AdaptiveLimitConfig::new().initial_limit(initial_limit);
        let meter = Meter::new(&config, algorithm, Timestamp(0));
        Self { meter, limit: initial_limit, now: Timestamp(0), lowest: u32::MAX, highest: 0 }
    }

    /// A call that ends now and began `took` ago.
    fn ends(&mut self, took: Duration, in_flight: u32, class: Option<Class>) {
        let began = Timestamp(self.now.0.saturating_sub(crate::base::clock::nanos(took)));
        let ended = Ended { began, now: self.now, in_flight, class };
        if let Some(limit) = self.meter.ended(&ended) {
            self.limit = limit;
        }
        self.lowest = self.lowest.min(self.limit);
        self.highest = self.highest.max(self.limit);
    }

    /// Rounds of as many calls as the limit admits, but no more than `in_flight`. Each takes `took`.
    fn rounds(&mut self, rounds: u32, in_flight: u32, took: Duration, class: Option<Class>) {
        for _ in 0..rounds {
            self.now = self.now.after(took);
            let in_flight = in_flight.min(self.limit);
            for left in (1..=in_flight).rev() {
                self.ends(took, left, class);
            }
        }
    }

    fn succeed(&mut self, rounds: u32, in_flight: u32, took: Duration) {
        self.rounds(rounds, in_flight, took, Some(Class::Success));
    }
}
