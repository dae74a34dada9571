//! Replays the waits that Resilience4j was recorded to make between attempts; the README in `tests/data/resilience4j`
//! explains the files.
//!
//! Resilience4j truncates each wait to milliseconds and grows the next one from that. Waits here are not truncated.
//! So each step is replayed on its own, and whole sequences where the factor is whole and there is nothing to truncate.

#![allow(clippy::disallowed_methods, clippy::panic, reason = "a test looks at the clock, and may fail")]

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use stanchion::classify::Class;
use stanchion::protocol::{AnyRequest, Classified};
use stanchion::retry::Standard;
use stanchion::telemetry::{Action, CallOutcome, Event, LayerId};
use stanchion::{Backoff, Budget, Error, Jitter, RetryConfig, RetryLayer};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

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
    config: Settings,
    executions: Vec<Execution>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    max_attempts: u32,
    retry_on_bad_result: bool,
    #[serde(flatten)]
    growth: Growth,
}

#[derive(Debug, Deserialize)]
struct Execution {
    attempt_outcomes: Vec<End>,
    waits_ms: Vec<u64>,
    outcome: String,
    events: Vec<String>,
    #[serde(flatten)]
    counters: Counters,
}

/// How an attempt ended: the first two with a result, the others with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Ok,
    Bad,
    Error,
    Ignored,
}

/// Since the policy was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Counters {
    success_without_retry: u32,
    success_with_retry: u32,
    failed_without_retry: u32,
    failed_with_retry: u32,
    total_calls: u32,
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
        for Execution { waits_ms, .. } in executions {
            replay(&config.growth, &waits_ms);
            waits += waits_ms.len();
        }
    }
    assert_eq!(waits, 293);
}

/// What Resilience4j would have said and counted.
#[derive(Debug, Default)]
struct Told {
    events: Vec<String>,
    counters: Counters,
}

impl Told {
    fn hear(&mut self, event: &Event<'_>) {
        let (events, counters) = (&mut self.events, &mut self.counters);
        match event {
            Event::Attempt { number, outcome, .. } => {
                counters.total_calls += 1;
                match (outcome, number) {
                    (CallOutcome::Success, 1) => counters.success_without_retry += 1,
                    (CallOutcome::Success, number) => {
                        counters.success_with_retry += 1;
                        events.push(format!("SUCCESS:{}", number - 1));
                    }
                    (CallOutcome::Ignored, _) => {
                        counters.failed_without_retry += 1;
                        events.push("IGNORED_ERROR:0".to_owned());
                    }
                    _ => {}
                }
            }
            Event::Action { action: Action::Retried, attempt, .. } => events.push(format!("RETRY:{attempt}")),
            Event::Action { action: Action::Exhausted, attempt, .. } => {
                counters.failed_with_retry += 1;
                events.push(format!("ERROR:{attempt}"));
            }
            Event::Budget { share, .. } => assert_eq!(*share, 1.0),
            other => panic!("{other:?}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for End {}

type Answer = Result<End, Error<End>>;

fn end(end: End) -> Answer {
    match end {
        End::Ok | End::Bad => Ok(end),
        End::Error | End::Ignored => Err(Error::Inner(end)),
    }
}

/// Ends as was recorded, and when.
#[derive(Clone, Debug)]
struct Script {
    ends: Arc<Vec<End>>,
    starts: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn attempt(&self) -> std::future::Ready<Answer> {
        let mut starts = self.starts.lock().expect("it does not panic");
        let next = self.ends.get(starts.len()).expect("no more attempts than were recorded");
        starts.push(Instant::now());
        std::future::ready(end(*next))
    }
}

fn classify(retry_on_bad_result: bool) -> impl Fn(Result<&End, &Error<End>>) -> Class + Clone {
    move |result: Result<&End, &Error<End>>| match result {
        Ok(End::Bad) if retry_on_bad_result => Class::Failure,
        Ok(_) => Class::Success,
        Err(Error::Inner(End::Ignored)) => Class::Ignored,
        Err(_) => Class::Failure,
    }
}

/// The same policy.
#[allow(clippy::type_complexity, reason = "a closure has no name")]
fn policy(
    settings: &Settings,
    told: &Arc<Mutex<Told>>,
) -> RetryLayer<Standard<Classified<AnyRequest, impl Fn(Result<&End, &Error<End>>) -> Class + Clone>>> {
    let config = RetryConfig::new()
        .max_attempts(settings.max_attempts)
        .backoff(settings.growth.from(settings.growth.initial_ms));
    let told = Arc::clone(told);
    RetryLayer::new(config)
        .budget(Budget::unlimited())
        .classify(classify(settings.retry_on_bad_result))
        .observer(move |_: &LayerId, event: &Event<'_>| told.lock().expect("it does not panic").hear(event))
}

/// What was counted in one execution, and what the recorded answer would have been here.
///
/// Resilience4j counts the last bad result twice. If it is set to make an error of it, it counts that error too, when the
/// call is not asynchronous. Here the result is handed out.
fn expected(execution: &Execution, before: Counters) -> (String, Vec<String>, Counters) {
    let Counters { success_without_retry, success_with_retry, failed_without_retry, .. } = execution.counters;
    let ended_bad = execution.attempt_outcomes.last() == Some(&End::Bad);
    let mut events = execution.events.clone();
    events.dedup_by(|next, event| next.starts_with("ERROR") && event.starts_with("ERROR"));
    let is_exhausted = events.last().is_some_and(|event| event.starts_with("ERROR"));
    let attempts = u32::try_from(execution.attempt_outcomes.len()).expect("there are few");
    let repeated = u32::try_from(execution.events.len() - events.len()).expect("there are few");
    let twice = u32::from(is_exhausted && ended_bad);
    assert_eq!(execution.counters.total_calls - before.total_calls, attempts + twice + repeated);
    assert_eq!(
        execution.counters.failed_with_retry - before.failed_with_retry,
        u32::from(is_exhausted) + repeated
    );
    let counters = Counters {
        success_without_retry: success_without_retry - before.success_without_retry,
        success_with_retry: success_with_retry - before.success_with_retry,
        failed_without_retry: failed_without_retry - before.failed_without_retry,
        failed_with_retry: u32::from(is_exhausted),
        total_calls: attempts,
    };
    let outcome = if ended_bad { "ok:bad".to_owned() } else { execution.outcome.clone() };
    (outcome, events, counters)
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Ok(end) => format!("ok:{end:?}").to_lowercase(),
        Err(Error::Inner(end)) => format!("err:{end:?}").to_lowercase(),
        Err(Error::Rejected(rejected)) => panic!("{rejected}"),
    }
}

#[tokio::test(start_paused = true)]
async fn executions_go_as_was_recorded() {
    let (mut replayed, mut handed_out) = (0, 0);
    for Policy { config, executions } in load("retry.jsonl") {
        for is_service in [true, false] {
            let told = Arc::new(Mutex::new(Told::default()));
            let layer = policy(&config, &told);
            let mut before = Counters::default();
            for execution in &executions {
                let ends = Arc::new(execution.attempt_outcomes.clone());
                let script = Script { ends, starts: Arc::default() };
                let answer = if is_service {
                    let script = script.clone();
                    layer.layer(service_fn(move |()| script.attempt())).oneshot(()).await
                } else {
                    layer.handle().run(|| script.attempt()).await
                };
                let (recorded, events, counters) = expected(execution, before);
                before = execution.counters;
                let told = std::mem::take(&mut *told.lock().expect("it does not panic"));
                assert_eq!(outcome(&answer), recorded, "{config:?}, {execution:?}");
                assert_eq!((told.events, told.counters), (events, counters), "{config:?}, {execution:?}");
                let starts = script.starts.lock().expect("it does not panic");
                let waits = starts.iter().zip(starts.iter().skip(1)).map(|(one, next)| *next - *one);
                let recorded: Vec<_> =
                    execution.waits_ms.iter().copied().map(Duration::from_millis).collect();
                assert_eq!(waits.collect::<Vec<_>>(), recorded, "{config:?}, {execution:?}");
                assert_eq!(starts.len(), execution.attempt_outcomes.len());
                replayed += 1;
                handed_out += usize::from(execution.outcome == "err:max_retries_exceeded");
            }
        }
    }
    // Each as a service and as a run; and those whose last result Resilience4j made an error of.
    assert_eq!((replayed, handed_out), (2 * 203, 2 * 17));
}
