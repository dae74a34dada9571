#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]

mod pace;

use std::time::Duration;

use proptest::prelude::*;
use tower::{Layer, ServiceExt};

use super::state::{Facts, Means, Next, Plan, Race, Verdict};
use super::{HedgeConfig, HedgeLayer};
use crate::base::clock::Timestamp;
use crate::classify::{Outcome, RetryHint, Retryable};
use crate::error::{CarryRejected, Error, Reason, Rejected};
use crate::telemetry::Action;

const DELAY: u64 = 50;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Timestamp {
    Timestamp(millis * 1_000_000)
}

fn race(max_hedges: u32) -> Race {
    let mut race = Race::new(Plan { delay: ms(DELAY), max_hedges });
    race.begin(at(0));
    race
}

// The rules of the naive model below, one by one.

#[test]
fn copies_are_due_a_delay_after_the_attempt_before() {
    let mut race = race(2);
    assert_eq!(race.next(), Next::At(at(DELAY)));
    race.is_due();
    assert_eq!(race.next(), Next::Now);
    race.hedged(at(60));
    assert_eq!(race.next(), Next::At(at(60 + DELAY)));
    race.hedged(at(115));
    assert_eq!((race.next(), race.hedges()), (Next::Never, 2));
}

#[test]
fn times_and_delays_at_the_end_of_the_scale_do_no_harm() {
    let mut race = Race::new(Plan { delay: Duration::MAX, max_hedges: 1 });
    race.begin(Timestamp(u64::MAX));
    assert_eq!(
        race.failed(Outcome::failure().retry_hint(RetryHint::AtLeast(Duration::MAX)), at(0)),
        lost_to_the_server()
    );
    let mut race = Race::new(Plan { delay: Duration::ZERO, max_hedges: u32::MAX });
    race.begin(Timestamp(u64::MAX));
    assert_eq!(race.next(), Next::Now);
}

fn lost_to_the_server() -> Verdict {
    Verdict::Lost(Some(Action::PushedBack))
}

#[test]
fn an_original_that_fails_on_the_first_poll_is_hedged() {
    let mut race = Race::new(Plan { delay: ms(DELAY), max_hedges: 1 });
    assert_eq!(race.failed(Outcome::failure(), at(0)), Verdict::Waits);
    assert_eq!(race.next(), Next::Now);
}

#[test]
fn a_server_that_asks_for_no_time_gets_the_copy_at_once() {
    let mut race = race(1);
    assert_eq!(
        race.failed(Outcome::failure().retry_hint(RetryHint::Exactly(Duration::ZERO)), at(1)),
        Verdict::Waits
    );
    assert_eq!(race.next(), Next::Now);
}

#[test]
fn the_longer_of_two_server_waits_applies() {
    let mut race = race(2);
    race.hedged(at(50));
    let asks = |wait| Outcome::failure().retry_hint(RetryHint::AtLeast(wait));
    assert_eq!(race.failed(asks(ms(300)), at(60)), Verdict::Waits);
    assert_eq!(race.failed(asks(Duration::ZERO), at(70)), lost_to_the_server());
}

#[test]
fn a_copy_that_waits_for_the_service_is_given_up_if_the_server_does_not_want_it_yet() {
    let mut race = race(2);
    race.hedged(at(50));
    race.is_due();
    assert_eq!(
        race.failed(Outcome::failure().retry_hint(RetryHint::AtLeast(ms(30))), at(100)),
        Verdict::Waits
    );
    assert_eq!(race.next(), Next::Never);
}

#[test]
fn a_copy_that_waits_for_the_service_goes_on_if_the_server_asks_for_no_time() {
    let mut race = race(2);
    race.hedged(at(50));
    race.is_due();
    assert_eq!(
        race.failed(Outcome::failure().retry_hint(RetryHint::AtLeast(ms(0))), at(100)),
        Verdict::Waits
    );
    assert_eq!(race.next(), Next::Now);
}

#[test]
fn permanent_obstacles_are_reported_before_temporary_ones() {
    let hindrance = |is_idempotent, is_replayable, remaining, is_affordable| {
        let means = Means { is_replayable, remaining, min_remaining: ms(10), can_pay: || is_affordable };
        means.hindrance(Facts { is_idempotent, deadline: None, number: 0 })
    };
    assert_eq!(hindrance(false, false, Some(ms(10)), false), Some(Action::NotIdempotent));
    assert_eq!(hindrance(true, false, Some(ms(10)), false), Some(Action::NotReplayable));
    assert_eq!(hindrance(true, true, Some(ms(10)), false), Some(Action::NoTime));
    for remaining in [None, Some(ms(11))] {
        assert_eq!(hindrance(true, true, remaining, false), Some(Action::BudgetSpent));
        assert_eq!(hindrance(true, true, remaining, true), None);
    }
}

/// A step of a call.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// The attempt with this index among those in flight, oldest first, fails.
    Fails(Fails),
    Refused,
    /// The due copy is sent. If none is due, time passes until one is.
    Sent,
    GivenUp,
    TimePasses(u64),
}

#[derive(Clone, Copy, Debug)]
enum Fails {
    Plainly,
    Fatally,
    Stop,
    Wait(u64),
}

impl Fails {
    fn outcome(self) -> Outcome {
        let failed = Outcome::failure();
        match self {
            Self::Plainly => failed,
            Self::Fatally => failed.retryable(Retryable::Never),
            Self::Stop => failed.retry_hint(RetryHint::Stop),
            Self::Wait(wait) if wait % 2 == 0 => failed.retry_hint(RetryHint::AtLeast(ms(wait))),
            Self::Wait(wait) => failed.retry_hint(RetryHint::Exactly(ms(wait))),
        }
    }
}

/// The history of a call, from which the model derives everything anew.
#[derive(Debug, Default)]
struct Naive {
    max_hedges: usize,
    /// The start of each attempt.
    begun: Vec<u64>,
    ended: usize,
    /// All times before which the server wants no further attempt.
    asked: Vec<u64>,
    /// The end of the last attempt that was in flight.
    idle_since: Option<u64>,
    is_over: bool,
}

impl Naive {
    fn due(&self) -> Option<u64> {
        if self.is_over || self.begun.len() > self.max_hedges {
            return None;
        }
        let late = self.begun.last().copied().unwrap_or(0) + DELAY;
        let due = if self.ended == self.begun.len() { self.idle_since.unwrap_or(0) } else { late };
        Some(self.asked.iter().copied().fold(due, u64::max))
    }

    /// Returns the next step of the call after an attempt has ended.
    fn end(&mut self, fails: Option<Fails>, now: u64) -> Verdict {
        self.ended += 1;
        let is_last = self.ended == self.begun.len();
        self.idle_since = is_last.then_some(now);
        let was_open = self.due().is_some();
        match fails {
            None | Some(Fails::Fatally) => self.is_over = true,
            Some(Fails::Plainly | Fails::Stop) => {}
            Some(Fails::Wait(wait)) => self.asked.push(now + wait),
        }
        let is_unwanted = matches!(fails, Some(Fails::Stop)) || self.asked.iter().any(|until| *until > now);
        let is_asked = was_open && !self.is_over;
        if matches!(fails, Some(Fails::Stop)) || (is_last && is_unwanted) {
            self.is_over = true;
        }
        match is_last {
            true if is_asked && is_unwanted => lost_to_the_server(),
            true if self.due().is_none() => Verdict::Lost(None),
            _ => Verdict::Waits,
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => Just(Happens::Fails(Fails::Plainly)),
        1 => Just(Happens::Fails(Fails::Fatally)),
        1 => Just(Happens::Fails(Fails::Stop)),
        3 => (0..3 * DELAY).prop_map(|wait| Happens::Fails(Fails::Wait(wait))),
        1 => Just(Happens::Refused),
        8 => Just(Happens::Sent),
        1 => Just(Happens::GivenUp),
        4 => (0..2 * DELAY).prop_map(Happens::TimePasses),
    ]
}

proptest! {
    #[test]
    fn a_race_is_what_follows_from_all_that_has_happened(
        max_hedges in 1_u32..5,
        story in prop::collection::vec(happens(), 0..30),
    ) {
        let (mut race, mut now) = (race(max_hedges), 0);
        let mut naive = Naive { max_hedges: max_hedges as usize, begun: vec![0], ..Naive::default() };
        for event in story {
            if naive.ended == naive.begun.len() && matches!(event, Happens::Fails(_) | Happens::Refused) {
                continue;
            }
            let verdicts = match event {
                Happens::Fails(fails) => {
                    Some((race.failed(fails.outcome(), at(now)), naive.end(Some(fails), now)))
                }
                Happens::Refused => Some((race.failed(Outcome::rejected(&Rejected::new(Reason::CircuitOpen, "circuit")), at(now)), naive.end(None, now))),
                Happens::Sent => {
                    if let Some(due) = naive.due() {
                        now = now.max(due);
                        race.is_due();
                        race.hedged(at(now));
                        naive.begun.push(now);
                    }
                    None
                }
                Happens::GivenUp => {
                    naive.is_over = true;
                    let is_lost = naive.ended == naive.begun.len();
                    let verdict = if is_lost { Verdict::Lost(None) } else { Verdict::Waits };
                    Some((race.give_up(), verdict))
                }
                Happens::TimePasses(millis) => {
                    now = naive.due().map_or(now + millis, |due| due.min(now + millis).max(now));
                    None
                }
            };
            let is_lost = verdicts.is_some_and(|(_, naive)| naive != Verdict::Waits);
            if let Some((race, naive)) = verdicts {
                prop_assert_eq!(race, naive);
            }
            prop_assert_eq!(race.is_in_flight(), naive.ended < naive.begun.len());
            prop_assert_eq!(race.hedges() as usize + 1, naive.begun.len());
            match (race.next(), naive.due()) {
                (Next::Never, None) => {}
                (Next::At(next), Some(due)) => prop_assert_eq!(next, at(due)),
                (Next::Now, Some(due)) => prop_assert!(due <= now),
                (next, due) => prop_assert!(false, "{:?} and not {:?}", next, due),
            }
            if is_lost {
                break;
            }
        }
    }
}

/// The time is known although there was no response. If it did not count, the quantile would fall
/// as calls get slower.
#[tokio::test(start_paused = true)]
async fn an_original_that_ran_into_a_timeout_counts_and_one_that_failed_does_not() {
    let timeout = || Error::from_rejected(Rejected::new(Reason::AttemptTimeout, "inner"));
    let rejected = || Error::from_rejected(Rejected::new(Reason::CircuitOpen, "inner"));
    let failed = || Error::Inner(std::fmt::Error);
    let cases: [(fn() -> _, _); 3] = [(timeout, true), (failed, false), (rejected, false)];
    for (error, is_known) in cases {
        let layer = HedgeLayer::new(HedgeConfig::new().min_samples(1));
        let service = layer.layer(tower::service_fn(move |()| async move {
            tokio::time::sleep(ms(70)).await;
            Err::<(), _>(error())
        }));
        assert_eq!(service.oneshot(()).await, Err(error()));
        tokio::time::advance(ms(5_000)).await;
        let delay = layer.handle().delay();
        assert_eq!(delay.is_some(), is_known, "{:?}", error());
        assert!(delay.is_none_or(|delay| delay >= ms(70)), "{delay:?}");
    }
}
