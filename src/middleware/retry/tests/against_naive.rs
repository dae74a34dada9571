//! The decision, compared with a naive model that looks at every condition and reports the first
//! obstacle.

use std::time::Duration;

use proptest::prelude::*;

use super::{Asked, MS, World};
use crate::classify::{Cause, Outcome, RetryHint, Retryable};
use crate::middleware::retry::config::RetryConfig;
use crate::middleware::retry::state::{Ended, Progress};
use crate::primitives::backoff::{Backoff, Jitter};
use crate::primitives::budget::Cost;
use crate::telemetry::Action;

/// A call as the module's documentation describes it.
#[derive(Default)]
struct Naive {
    attempts: u32,
    /// The number of own waits since the first attempt, or since the server's last pushback.
    waits: u32,
    was_trusted: bool,
}

impl Naive {
    fn next(
        &mut self,
        config: &RetryConfig,
        ended: Ended,
        world: &mut World,
    ) -> Result<Duration, Option<Action>> {
        let Ended { outcome, is_idempotent } = ended;
        self.attempts += 1;
        let is_refused = outcome.is_rejected();
        let needs_trust = !is_refused && !is_idempotent;
        let is_untrusted = outcome.retryable != Retryable::Always || self.was_trusted;
        let own = (config.backoff.base * 2_u32.pow(self.waits)).min(config.backoff.cap);
        let (wait, asked) = match outcome.retry_hint {
            None => (own, Duration::ZERO),
            Some(RetryHint::AtLeast(wait)) => (own.max(wait), wait),
            Some(RetryHint::Exactly(wait)) => (wait, wait),
            Some(RetryHint::Stop) => (own, Duration::ZERO),
        };
        let is_unwanted = outcome.retry_hint == Some(RetryHint::Stop);
        let latest = world.remaining.map(|left| left.saturating_sub(config.min_remaining));
        let checks = [
            (is_refused && !config.retry_refusals, None),
            (!is_refused && outcome.retryable == Retryable::Never, None),
            (needs_trust && is_untrusted, Some(Action::NotIdempotent)),
            (self.attempts >= config.max_attempts, Some(Action::Exhausted)),
            (is_unwanted || asked > config.max_server_wait, Some(Action::PushedBack)),
            (latest.is_some_and(|latest| wait >= latest), Some(Action::NoTime)),
            (!world.can_replay, Some(Action::NotReplayable)),
            (!world.can_pay, Some(Action::BudgetSpent)),
        ];
        let failed = checks.iter().position(|(fails, _)| *fails).unwrap_or(checks.len());
        let cost = if outcome.is_timeout() { Cost::Timeout } else { Cost::Retry };
        let asked = [(5, Asked::Remaining), (6, Asked::Replay), (7, Asked::Pay(cost))];
        world.asked.extend(asked.iter().filter(|(check, _)| failed >= *check).map(|(_, asked)| *asked));
        self.was_trusted |= needs_trust;
        let is_exact = matches!(outcome.retry_hint, Some(RetryHint::Exactly(_)));
        self.waits = if is_exact { 0 } else { self.waits + 1 };
        checks.get(failed).map_or(Ok(wait), |(_, why)| Err(*why))
    }
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0_u32..2_000).prop_map(|millis| millis * MS),
        1 => prop::sample::select(vec![Duration::ZERO, Duration::from_nanos(1), Duration::MAX]),
    ]
}

fn hints() -> impl Strategy<Value = Option<RetryHint>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(RetryHint::Stop)),
        2 => durations().prop_map(|wait| Some(RetryHint::AtLeast(wait))),
        2 => durations().prop_map(|wait| Some(RetryHint::Exactly(wait))),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let plain = prop::sample::select(vec![
        Outcome::success(),
        Outcome::ignored(),
        Outcome::failure().retryable(Retryable::Never),
        Outcome::unprocessed().retryable(Retryable::Never),
        Outcome::failure(),
        Outcome::failure(),
        Outcome::failure(),
        Outcome::unprocessed(),
        Outcome::unprocessed(),
    ]);
    (plain, hints()).prop_map(|(outcome, hint)| hint.map_or(outcome, |hint| outcome.retry_hint(hint)))
}

prop_compose! {
    fn ends()(
        outcome in outcomes(),
        cause in prop::sample::select(vec![Cause::Service, Cause::Service, Cause::TimedOut, Cause::Rejected]),
        is_idempotent in any::<bool>(),
    ) -> Ended {
        Ended { outcome: Outcome { cause, ..outcome }, is_idempotent }
    }
}

prop_compose! {
    fn worlds()(
        remaining in prop::option::of(durations()),
        can_replay in prop::bool::weighted(0.9),
        can_pay in prop::bool::weighted(0.9),
    ) -> World {
        World { remaining, can_replay, can_pay, asked: Vec::new() }
    }
}

prop_compose! {
    fn configs()(
        max_attempts in 1_u32..8,
        base in 0_u32..500,
        cap in 500_u32..2_000,
        max_server_wait in durations(),
        min_remaining in prop_oneof![Just(Duration::ZERO), durations()],
        retry_refusals in any::<bool>(),
    ) -> RetryConfig {
        RetryConfig::new()
            .max_attempts(max_attempts)
            .backoff(Backoff::exponential(base * MS).cap(cap * MS).jitter(Jitter::None))
            .max_server_wait(max_server_wait)
            .min_remaining(min_remaining)
            .retry_refusals(retry_refusals)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_call_goes_on_as_the_naive_one_does(
        config in configs(),
        attempts in prop::collection::vec((ends(), worlds()), 1..10),
    ) {
        let (mut progress, mut naive) = (Progress::default(), Naive::default());
        for (ended, world) in attempts {
            let (mut real_world, mut naive_world) = (world.clone(), world);
            let real = progress.next(&config, ended, &mut real_world);
            prop_assert_eq!(real, naive.next(&config, ended, &mut naive_world), "{:?}", ended);
            prop_assert_eq!(real_world.asked, naive_world.asked);
            prop_assert_eq!(progress.attempts(), naive.attempts);
            if real.is_err() {
                break;
            }
        }
    }
}
