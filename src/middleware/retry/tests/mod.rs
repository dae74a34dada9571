//! The decision by itself: each rule alone, and all of them compared with a naive model.

#![allow(clippy::arithmetic_side_effects, clippy::needless_pass_by_value, reason = "a test may fail")]

mod against_naive;

use std::time::Duration;

use super::config::RetryConfig;
use super::state::{Ended, Means, Progress};
use crate::classify::{Cause, Class, Outcome, RetryHint, Retryable};
use crate::error::{Reason, Rejected};
use crate::primitives::backoff::{Backoff, Jitter};
use crate::primitives::budget::Cost;
use crate::telemetry::Action;

const MS: Duration = Duration::from_millis(1);

/// The resources for another attempt, which record what was queried.
#[derive(Clone, Debug)]
struct World {
    remaining: Option<Duration>,
    can_replay: bool,
    can_pay: bool,
    asked: Vec<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Remaining,
    Replay,
    Pay(Cost),
}

impl World {
    /// Creates a world without obstacles.
    const fn plenty() -> Self {
        Self { remaining: None, can_replay: true, can_pay: true, asked: Vec::new() }
    }
}

impl Means for World {
    fn remaining(&mut self) -> Option<Duration> {
        self.asked.push(Asked::Remaining);
        self.remaining
    }

    fn can_replay(&mut self) -> bool {
        self.asked.push(Asked::Replay);
        self.can_replay
    }

    fn pay(&mut self, cost: Cost) -> bool {
        self.asked.push(Asked::Pay(cost));
        self.can_pay
    }
}

/// 100, 200, 400, 800, 1,000 ms, without jitter.
fn config() -> RetryConfig {
    let backoff = Backoff::exponential(100 * MS).cap(1_000 * MS).jitter(Jitter::None);
    RetryConfig::new().max_attempts(10).backoff(backoff)
}

const fn failed(outcome: Outcome) -> Ended {
    Ended { outcome, is_idempotent: true }
}

const FAILED: Ended = failed(Outcome::failure());
fn rejected() -> Ended {
    failed(Outcome::rejected(&Rejected::new(Reason::CircuitOpen, "circuit")))
}

fn posted(outcome: Outcome) -> Ended {
    Ended { is_idempotent: false, ..failed(outcome) }
}

fn first(config: &RetryConfig, ended: Ended, world: &mut World) -> Result<Duration, Option<Action>> {
    Progress::default().next(config, ended, world)
}

#[test]
fn costly_checks_come_last() {
    use Asked::{Pay, Remaining, Replay};
    let lacking = World { remaining: Some(Duration::ZERO), can_replay: false, can_pay: false, asked: vec![] };
    let once = config().max_attempts(1);
    let stop = failed(Outcome::failure().retry_hint(RetryHint::Stop));
    let post = posted(Outcome::failure());
    let none = Vec::new();
    let mut world = lacking.clone();
    for (config, ended, why) in [
        (&config(), rejected(), None),
        (&config(), failed(Outcome::success()), None),
        (&config(), failed(Class::Ignored.into()), None),
        (&config(), failed(Outcome::failure().retryable(Retryable::Never)), None),
        (&config(), post, Some(Action::NotIdempotent)),
        (&once, FAILED, Some(Action::Exhausted)),
        (&config(), stop, Some(Action::PushedBack)),
    ] {
        assert_eq!(first(config, ended, &mut world), Err(why));
        assert_eq!(world.asked, none, "{why:?}");
    }
    let worlds = [
        (lacking.clone(), Action::NoTime, vec![Remaining]),
        (World { remaining: None, ..lacking.clone() }, Action::NotReplayable, vec![Remaining, Replay]),
        (
            World { remaining: None, can_replay: true, ..lacking },
            Action::BudgetSpent,
            vec![Remaining, Replay, Pay(Cost::Retry)],
        ),
    ];
    for (mut world, why, asked) in worlds {
        assert_eq!(first(&config(), FAILED, &mut world), Err(Some(why)));
        assert_eq!(world.asked, asked);
    }
}

#[test]
fn an_attempt_that_timed_out_costs_more() {
    for (cause, cost) in [(Cause::Service, Cost::Retry), (Cause::TimedOut, Cost::Timeout)] {
        let mut world = World::plenty();
        assert_eq!(
            first(&config(), failed(Outcome { cause, ..Outcome::failure() }), &mut world),
            Ok(100 * MS)
        );
        assert_eq!(world.asked.last(), Some(&Asked::Pay(cost)));
    }
}

#[test]
fn rejections_are_retried_only_if_configured_and_then_for_every_request() {
    let refused = Ended { is_idempotent: false, ..rejected() };
    let config = config().retry_refusals(true);
    let mut progress = Progress::default();
    for wait in [100, 200, 400] {
        assert_eq!(progress.next(&config, refused, &mut World::plenty()), Ok(wait * MS));
    }
    // This does not count as trust in the server.
    let unprocessed = posted(Outcome::unprocessed());
    assert_eq!(progress.next(&config, unprocessed, &mut World::plenty()), Ok(800 * MS));
    assert_eq!(progress.next(&config, refused, &mut World::plenty()), Ok(1_000 * MS));
    let again = progress.next(&config, unprocessed, &mut World::plenty());
    assert_eq!(again, Err(Some(Action::NotIdempotent)), "a second time");
}

#[test]
fn a_server_is_trusted_once_that_it_did_nothing() {
    let mut progress = Progress::default();
    let unprocessed = posted(Outcome::unprocessed());
    assert_eq!(progress.next(&config(), unprocessed, &mut World::plenty()), Ok(100 * MS));
    let again = progress.next(&config(), unprocessed, &mut World::plenty());
    assert_eq!(again, Err(Some(Action::NotIdempotent)));
    // An idempotent request needs no trust.
    let mut progress = Progress::default();
    for wait in [100, 200, 400] {
        let ended = failed(Outcome::unprocessed());
        assert_eq!(progress.next(&config(), ended, &mut World::plenty()), Ok(wait * MS));
    }
}

#[test]
fn trust_is_not_given_anew_by_an_attempt_that_needed_none() {
    let mut progress = Progress::default();
    let unprocessed = posted(Outcome::unprocessed());
    assert_eq!(progress.next(&config(), unprocessed, &mut World::plenty()), Ok(100 * MS));
    assert_eq!(progress.next(&config(), FAILED, &mut World::plenty()), Ok(200 * MS));
    let again = progress.next(&config(), unprocessed, &mut World::plenty());
    assert_eq!(again, Err(Some(Action::NotIdempotent)));
}

#[test]
fn jitter_only_lengthens_the_servers_wait() {
    let config = config().backoff(Backoff::exponential(100 * MS));
    // Of 200 values drawn from 0 to 100, none is above 90 once in a billion runs.
    for wait in [0, 1, 50, 90, 100, 5_000] {
        let asked = failed(Outcome::failure().retry_hint(RetryHint::AtLeast(wait * MS)));
        let mut longer = 0;
        for _ in 0..200 {
            let waited = first(&config, asked, &mut World::plenty()).unwrap();
            assert!(waited >= wait * MS && waited <= wait.max(100) * MS, "{waited:?}");
            longer += u32::from(waited > wait * MS);
        }
        assert_eq!(longer > 0, wait < 100);
    }
}

#[test]
fn pushback_is_exact_and_restarts_the_backoff() {
    let mut progress = Progress::default();
    let mut next = |hint: Option<RetryHint>| {
        let outcome = Outcome::failure();
        let outcome = hint.map_or(outcome, |hint| outcome.retry_hint(hint));
        progress.next(&config(), failed(outcome), &mut World::plenty())
    };
    assert_eq!([next(None), next(None)], [Ok(100 * MS), Ok(200 * MS)]);
    assert_eq!(next(Some(RetryHint::AtLeast(MS))), Ok(400 * MS), "which is longer");
    assert_eq!(next(Some(RetryHint::Exactly(MS))), Ok(MS));
    assert_eq!([next(None), next(None)], [Ok(100 * MS), Ok(200 * MS)]);
    assert_eq!(next(Some(RetryHint::Exactly(Duration::ZERO))), Ok(Duration::ZERO));
    assert_eq!(next(Some(RetryHint::Stop)), Err(Some(Action::PushedBack)));
}

#[test]
fn a_server_that_asks_for_too_long_a_wait_gets_no_retry() {
    let config = config().max_server_wait(7 * MS);
    for hint in [RetryHint::AtLeast, RetryHint::Exactly] {
        let ask =
            |wait| first(&config, failed(Outcome::failure().retry_hint(hint(wait))), &mut World::plenty());
        assert!(ask(7 * MS).is_ok());
        for wait in [7 * MS + Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(ask(wait), Err(Some(Action::PushedBack)));
        }
    }
    let patient = config.max_server_wait(Duration::MAX);
    let asked = failed(Outcome::failure().retry_hint(RetryHint::AtLeast(Duration::MAX)));
    assert_eq!(first(&patient, asked, &mut World::plenty()), Ok(Duration::MAX));
    let mut world = World { remaining: Some(Duration::MAX), ..World::plenty() };
    assert_eq!(first(&patient, asked, &mut world), Err(Some(Action::NoTime)), "not even then");
}

#[test]
fn no_wait_is_begun_that_leaves_too_little_time() {
    let nano = Duration::from_nanos(1);
    for min_remaining in [Duration::ZERO, 30 * MS] {
        let config = config().min_remaining(min_remaining);
        let needed = 100 * MS + min_remaining;
        let with = |remaining| {
            let mut world = World { remaining: Some(remaining), ..World::plenty() };
            first(&config, FAILED, &mut world)
        };
        assert_eq!(with(needed + nano), Ok(100 * MS));
        for remaining in [needed, needed - nano, Duration::ZERO] {
            assert_eq!(with(remaining), Err(Some(Action::NoTime)));
        }
    }
    let config = config().min_remaining(Duration::MAX);
    let mut world = World { remaining: Some(Duration::MAX), ..World::plenty() };
    assert_eq!(first(&config, FAILED, &mut world), Err(Some(Action::NoTime)));
    assert_eq!(first(&config, FAILED, &mut World::plenty()), Ok(100 * MS), "no deadline, no end");
}

#[test]
fn the_number_of_attempts_is_the_configured_one() {
    for most in [1, 2, 3, 1_000] {
        let mut progress = Progress::default();
        let config = config().max_attempts(most);
        for number in 1..most {
            assert!(progress.next(&config, FAILED, &mut World::plenty()).is_ok());
            assert_eq!(progress.attempts(), number);
        }
        let last = progress.next(&config, FAILED, &mut World::plenty());
        assert_eq!(last, Err(Some(Action::Exhausted)));
        assert_eq!(progress.attempts(), most);
    }
}

#[test]
fn every_field_is_checked() {
    let field = |config: RetryConfig| config.validate().map_err(|error| error.field()).err();
    for most in [0, 1_001, u32::MAX] {
        assert_eq!(field(config().max_attempts(most)), Some("max_attempts"));
    }
    assert_eq!(field(config().backoff(Backoff::default().factor(f64::NAN))), Some("factor"));
    assert_eq!(field(config().backoff(Backoff::default().cap(MS))), Some("cap"));
    for extreme in [Duration::ZERO, Duration::MAX] {
        let config = config().max_server_wait(extreme).ready_within(extreme).min_remaining(extreme);
        assert_eq!(field(config.backoff(Backoff::constant(extreme))), None);
    }
}
