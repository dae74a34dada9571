//! The decision beside a naive model: all there is to know is looked at first, and then the first obstacle counts.

use std::time::Duration;

use proptest::prelude::*;

use super::{Asked, MS, World};
use crate::backoff::{Backoff, Jitter};
use crate::budget::Cost;
use crate::classify::Class;
use crate::mark::Cause;
use crate::protocol::{Hint, Judgement, Repeat};
use crate::retry::config::RetryConfig;
use crate::retry::state::{Ended, Progress};
use crate::telemetry::Action;

/// A call, as it is told in the module's documentation.
#[derive(Default)]
struct Naive {
    attempts: u32,
    /// The waits of its own since the first, or since the server said exactly how long to wait.
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
        let Ended { judgement, cause, is_idempotent } = ended;
        self.attempts += 1;
        let is_refused = cause == Cause::Refused;
        let needs_trust = !is_refused && !is_idempotent;
        let is_untrusted = judgement.repeat() != Repeat::Always || self.was_trusted;
        let own = (config.backoff.base * 2_u32.pow(self.waits)).min(config.backoff.cap);
        let (wait, asked) = match judgement.given_hint() {
            None => (own, Duration::ZERO),
            Some(Hint::AtLeast(wait)) => (own.max(wait), wait),
            Some(Hint::Exactly(wait)) => (wait, wait),
            Some(Hint::Stop) => (own, Duration::ZERO),
        };
        let is_unwanted = judgement.given_hint() == Some(Hint::Stop);
        let latest = world.remaining.map(|left| left.saturating_sub(config.min_remaining));
        let checks = [
            (is_refused && !config.retry_refusals, None),
            (!is_refused && judgement.class() != Class::Failure, None),
            (!is_refused && judgement.repeat() == Repeat::Never, None),
            (needs_trust && is_untrusted, Some(Action::NotIdempotent)),
            (self.attempts >= config.max_attempts, Some(Action::Exhausted)),
            (is_unwanted || asked > config.max_server_wait, Some(Action::PushedBack)),
            (latest.is_some_and(|latest| wait >= latest), Some(Action::NoTime)),
            (!world.can_replay, Some(Action::NotReplayable)),
            (!world.can_pay, Some(Action::BudgetSpent)),
        ];
        let failed = checks.iter().position(|(fails, _)| *fails).unwrap_or(checks.len());
        let cost = if cause == Cause::TimedOut { Cost::Timeout } else { Cost::Retry };
        let asked = [(6, Asked::Remaining), (7, Asked::Replay), (8, Asked::Pay(cost))];
        world.asked.extend(asked.iter().filter(|(check, _)| failed >= *check).map(|(_, asked)| *asked));
        self.was_trusted |= needs_trust;
        let is_exact = matches!(judgement.given_hint(), Some(Hint::Exactly(_)));
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

fn hints() -> impl Strategy<Value = Option<Hint>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(Hint::Stop)),
        2 => durations().prop_map(|wait| Some(Hint::AtLeast(wait))),
        2 => durations().prop_map(|wait| Some(Hint::Exactly(wait))),
    ]
}

fn judgements() -> impl Strategy<Value = Judgement> {
    let plain = prop::sample::select(vec![
        Judgement::good(),
        Class::Ignored.into(),
        Judgement::failed().never(),
        Judgement::unprocessed().never(),
        Judgement::failed(),
        Judgement::failed(),
        Judgement::failed(),
        Judgement::unprocessed(),
        Judgement::unprocessed(),
    ]);
    (plain, hints()).prop_map(|(judgement, hint)| hint.map_or(judgement, |hint| judgement.hint(hint)))
}

prop_compose! {
    fn ends()(
        judgement in judgements(),
        cause in prop::sample::select(vec![Cause::Failed, Cause::Failed, Cause::TimedOut, Cause::Refused]),
        is_idempotent in any::<bool>(),
    ) -> Ended {
        Ended { judgement, cause, is_idempotent }
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
