//! Replays the waits that Resilience4j was recorded to make between attempts; the README in `tests/data/resilience4j`
//! explains the files.
//!
//! Resilience4j truncates each wait to milliseconds and grows the next one from that. Waits here are not truncated.
//! So each step is replayed on its own, and whole sequences where the factor is whole and there is nothing to truncate.

#![allow(clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use stanchion::{Backoff, Jitter};

/// What Resilience4j calls an interval function, or what it refuses to make one of.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Interval {
    Fixed { config: Growth, attempts_from_1: Vec<u64> },
    Exponential { config: Growth, attempts_from_1: Vec<u64> },
    ExponentialCapped { config: Growth, attempts_from_1: Vec<u64> },
    ExponentialRandom { config: Growth, lower_bound: Vec<u64>, upper_bound: Vec<u64> },
    Validation { input: String },
}

#[derive(Debug, Deserialize)]
struct Growth {
    #[serde(alias = "interval_ms")]
    initial_ms: u64,
    #[serde(default = "unchanged")]
    multiplier: f64,
    max_ms: Option<u64>,
    randomization_factor: Option<f64>,
}

fn unchanged() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
struct Policy {
    config: Growth,
    executions: Vec<Execution>,
}

#[derive(Debug, Deserialize)]
struct Execution {
    waits_ms: Vec<u64>,
}

/// The longest wait that is told apart from never, 584 years. Resilience4j goes on to 292 million.
const LONGEST: Duration = Duration::from_nanos(u64::MAX);

fn load<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/resilience4j").join(file);
    let text = fs::read_to_string(path).expect("the recordings are checked in");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is one recording")).collect()
}

impl Growth {
    fn cap(&self) -> Duration {
        self.max_ms.map_or(Duration::MAX, Duration::from_millis)
    }

    fn from(&self, wait_ms: u64) -> Backoff {
        Backoff::exponential(Duration::from_millis(wait_ms))
            .factor(self.multiplier)
            .cap(self.cap())
            .jitter(Jitter::None)
    }
}

/// In milliseconds, truncated. After a century a floating-point number is a microsecond off.
fn millis(wait: Duration) -> u128 {
    wait.saturating_add(Duration::from_micros(1)).min(LONGEST).as_millis()
}

fn recorded(wait_ms: u64) -> u128 {
    Duration::from_millis(wait_ms).min(LONGEST).as_millis()
}

fn replay(config: &Growth, waits: &[u64]) {
    if let Some(first) = waits.first() {
        let seen = config.from(config.initial_ms).delays().next().expect("it never ends");
        assert_eq!(millis(seen), recorded(*first), "{config:?}");
    }
    for (wait, next) in waits.iter().zip(waits.iter().skip(1)) {
        let second = config.from(*wait).delays().nth(1).expect("it never ends");
        assert_eq!(millis(second), recorded(*next), "after {wait} ms, {config:?}");
    }
    if config.multiplier.fract() == 0.0 {
        let seen = config.from(config.initial_ms).delays().map(millis).take(waits.len());
        assert!(seen.eq(waits.iter().map(|wait| recorded(*wait))), "{config:?}");
    }
}

/// Draws each wait from the one of Resilience4j before jitter. Once that exceeds the cap they have to differ:
/// Resilience4j cuts what it has drawn, and so waits for exactly the cap in most cases or in all.
fn replay_random(config: &Growth, lower: &[u64], upper: &[u64]) {
    let share = config.randomization_factor.expect("it is random");
    let mut nominal = Duration::from_millis(config.initial_ms);
    for (lower, upper) in lower.iter().zip(upper) {
        let backoff = Backoff::exponential(nominal.min(config.cap())).cap(config.cap());
        let backoff = backoff.jitter(Jitter::Around(share));
        let draws = (0..2_000).map(|seed| backoff.delays_seeded(seed).next().expect("it never ends"));
        let (shortest, longest) = draws.fold((Duration::MAX, Duration::ZERO), |(shortest, longest), wait| {
            (wait.min(shortest), wait.max(longest))
        });
        let (lower, upper) = (Duration::from_millis(*lower), Duration::from_millis(*upper));
        if nominal > config.cap() {
            assert_eq!(upper, config.cap());
            assert!(
                shortest < config.cap() * 9 / 10 && longest <= config.cap(),
                "{shortest:?} to {longest:?}, {config:?}"
            );
        } else {
            // Resilience4j waits for a millisecond at least, and draws in whole ones.
            let (step, tolerance) = (Duration::from_millis(1), (upper - lower) / 50);
            assert!(shortest + step >= lower && longest <= upper, "{shortest:?} to {longest:?}, {config:?}");
            assert!(shortest <= lower + step + tolerance, "{shortest:?} of {lower:?}, {config:?}");
            assert!(longest + step + tolerance >= upper, "{longest:?} of {upper:?}, {config:?}");
        }
        nominal = millis_grown(nominal, config.multiplier);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small"
)]
fn millis_grown(wait: Duration, factor: f64) -> Duration {
    Duration::from_millis((wait.as_millis() as f64 * factor) as u64)
}

#[test]
fn waits_are_those_that_were_recorded() {
    let (mut replayed, mut refused, mut other) = ([0; 4], 0, Vec::new());
    for line in load("retry-intervals.jsonl") {
        match line {
            Interval::Fixed { config, attempts_from_1: waits } => {
                replay(&config, &waits);
                let constant = Backoff::constant(Duration::from_millis(config.initial_ms));
                assert!(constant.delays().map(millis).take(waits.len()).eq(waits.into_iter().map(recorded)));
                replayed[0] += 1;
            }
            // Waits that shrink and a cap below the first wait: surely a mistake, so they are refused here.
            Interval::Exponential { config, .. } | Interval::ExponentialCapped { config, .. }
                if config.multiplier < 1.0 || config.max_ms.is_some_and(|max| max < config.initial_ms) =>
            {
                let error = config.from(config.initial_ms).validate().expect_err("it is refused");
                assert_eq!(error.field(), if config.multiplier < 1.0 { "factor" } else { "cap" });
                refused += 1;
            }
            Interval::Exponential { config, attempts_from_1: waits } => {
                replay(&config, &waits);
                replayed[1] += 1;
            }
            Interval::ExponentialCapped { config, attempts_from_1: waits } => {
                replay(&config, &waits);
                replayed[2] += 1;
            }
            Interval::ExponentialRandom { config, lower_bound, upper_bound } => {
                replay_random(&config, &lower_bound, &upper_bound);
                replayed[3] += 1;
            }
            Interval::Validation { input } => other.push(input),
        }
    }
    assert_eq!(replayed, [4, 24, 20, 6], "fixed, exponential, capped, random");
    assert_eq!(refused, 7);
    // A wait of zero is none and is allowed; attempts are counted and not passed in, so there is no zeroth.
    assert_eq!(other, ["interval_ms=0", "randomization_factor=1.1", "attempt=0"]);
    assert_eq!(Backoff::constant(Duration::ZERO).validate(), Ok(()));
    assert!(Backoff::default().jitter(Jitter::Around(1.1)).validate().is_err());
}

#[test]
fn policies_wait_as_was_recorded() {
    let mut waits = 0;
    for Policy { config, executions } in load("retry.jsonl") {
        for Execution { waits_ms } in executions {
            replay(&config, &waits_ms);
            waits += waits_ms.len();
        }
    }
    assert_eq!(waits, 293);
}
