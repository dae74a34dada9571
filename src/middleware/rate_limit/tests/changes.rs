//! Changes of the quota while calls use it and wait for it, against a list of all calls.

use super::*;
use crate::middleware::rate_limit::quotas::{Ask, Local, Quotas};

/// What happens, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pause(u64),
    Call {
        cost: u32,
        most: u64,
    },
    /// The last turn that waits is not used.
    Cancel,
    Change(Rate),
}

/// A turn that was given: when it was asked for, and when it begins.
#[derive(Clone, Copy, Debug)]
struct Given {
    turn: Turn,
    asked: u64,
    begin: u64,
    cost: u64,
}

fn any_quota() -> impl Strategy<Value = Rate> {
    (prop_oneof![1..5_u64, 1..40_u64, 1_000..1_100_u64], prop_oneof![Just(1), 1..6_u64, 50..60_u64])
        .prop_map(|(interval, calls)| Rate { interval, burst: interval * calls })
}

fn any_step() -> impl Strategy<Value = Step> {
    let pause = prop_oneof![Just(1), 0..30_u64, 0..3_000_u64];
    let most = prop_oneof![Just(0), 0..200_u64, 0..5_000_u64];
    prop_oneof![
        2 => pause.prop_map(Step::Pause),
        6 => (prop_oneof![Just(1), 1..4_u32], most).prop_map(|(cost, most)| Step::Call { cost, most }),
        1 => Just(Step::Cancel),
        2 => any_quota().prop_map(Step::Change),
    ]
}

fn quotas(rate: Rate, is_keyed: bool) -> Local {
    Local::new(&settings(rate), is_keyed)
}

fn settings(rate: Rate) -> Settings {
    Settings { rate, max_wait: u64::MAX, max_keys: 10 }
}

/// The calls that begin between any two moments cost at most `burst + rate * T`, by the largest burst and the highest rate
/// of the quotas that were in force from when the first of them was asked for until the last begins.
fn assert_keeps_quotas(given: &[Given], in_force: &[(u64, Rate)]) -> Result<(), TestCaseError> {
    for (first, last) in given.iter().flat_map(|first| given.iter().map(|last| (first.begin, last.begin))) {
        let within = given.iter().filter(|call| (first..=last).contains(&call.begin));
        let Some(asked) = within.clone().map(|call| call.asked).min() else { continue };
        let until = in_force.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let in_between = in_force.iter().zip(until);
        let in_between = in_between.filter(|((from, _), until)| *from <= last && *until >= asked);
        let quotas: Vec<Rate> = in_between.map(|((_, quota), _)| *quota).collect();
        let interval = quotas.iter().map(|quota| quota.interval).min().unwrap_or(u64::MAX);
        let burst = quotas.iter().map(|quota| quota.burst / quota.interval).max().unwrap_or(0);
        let cost: u64 = within.map(|call| call.cost).sum();
        prop_assert!(
            cost.saturating_sub(burst) * interval <= last - first,
            "{cost} between {first} and {last}, of {quotas:?}: {given:?}, {in_force:?}"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_the_changes_no_stretch_of_time_has_more_than_the_largest_quota_allows(
        is_keyed in any::<bool>(),
        first in any_quota(),
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let quotas = quotas(first, is_keyed);
        let (mut now, mut given, mut in_force) = (0, Vec::<Given>::new(), vec![(0, first)]);
        for step in steps {
            match step {
                Step::Pause(pause) => now += pause,
                Step::Call { cost, most } => {
                    if let (Ok(turn), _) = quotas.take(Ask { key: 7, cost, now }, most) {
                        prop_assert!(turn.wait <= most);
                        let begin = now + turn.wait;
                        prop_assert!(given.iter().all(|before| before.begin <= begin), "in the order of asking");
                        given.push(Given { turn, asked: now, begin, cost: u64::from(cost) });
                    }
                }
                Step::Cancel => {
                    if let Some(last) = given.pop_if(|last| last.begin > now) {
                        quotas.give_back(7, &last.turn);
                    }
                }
                Step::Change(other) => {
                    quotas.reconfigure(&settings(other), now);
                    in_force.push((now, other));
                }
            }
        }
        assert_keeps_quotas(&given, &in_force)?;
    }

    /// Not one call fewer than without the change either: the times of all calls are the same.
    #[test]
    fn a_change_to_the_same_quota_changes_nothing(
        is_keyed in any::<bool>(),
        rate in any_quota(),
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let (reloaded, plain, mut now) = (quotas(rate, is_keyed), quotas(rate, is_keyed), 0);
        for step in steps {
            match step {
                Step::Pause(pause) => now += pause,
                Step::Call { cost, most } => {
                    let ask = Ask { key: 7, cost, now };
                    prop_assert_eq!(reloaded.take(ask, most).0, plain.take(ask, most).0);
                }
                Step::Cancel | Step::Change(_) => reloaded.reconfigure(&settings(rate), now),
            }
            prop_assert_eq!(reloaded.available(7, now), plain.available(7, now));
        }
    }

    /// However often it goes to and fro: no debt is added by it.
    #[test]
    fn a_change_that_is_taken_back_costs_no_more_than_the_old_burst_takes_to_come_back(
        is_keyed in any::<bool>(),
        (first, other) in (any_quota(), any_quota()),
        times in 1..20_u32,
    ) {
        let quotas = quotas(first, is_keyed);
        while quotas.take(Ask { key: 7, cost: 1, now: 0 }, 0).0.is_ok() {}
        for _ in 0..times {
            quotas.reconfigure(&settings(other), 0);
            quotas.reconfigure(&settings(first), 0);
        }
        prop_assert_eq!(quotas.available(7, 0), 0);
        let all = u64::from(quotas.available(7, first.burst + 2 * u64::from(times)));
        prop_assert_eq!(all, first.burst / first.interval);
    }
}

const SECOND: u64 = 1_000_000_000;

/// Ten per second with a burst of one: what a client that waits makes of a quota, and a reload every other second.
#[test]
fn five_reloads_leave_a_waiting_client_its_hundred_calls_in_ten_seconds() {
    let rate = Rate { interval: SECOND / 10, burst: SECOND / 10 };
    for is_keyed in [false, true] {
        let quotas = quotas(rate, is_keyed);
        let mut begins = Vec::new();
        for now in (0..10).map(|second| second * SECOND) {
            if now % (2 * SECOND) == 0 {
                quotas.reconfigure(&settings(rate), now);
            }
            while let (Ok(turn), _) = quotas.take(Ask { key: 7, cost: 1, now }, 10 * SECOND) {
                begins.push(now + turn.wait);
            }
        }
        let within = begins.iter().filter(|begin| **begin < 10 * SECOND).count();
        assert_eq!(within, 100, "keyed: {is_keyed}");
    }
}

#[test]
fn a_lower_quota_begins_when_all_turns_that_were_given_have_come() {
    let (fast, slow) = (Rate { interval: 10, burst: 30 }, Rate { interval: 100, burst: 100 });
    for is_keyed in [false, true] {
        let quotas = quotas(fast, is_keyed);
        let take = |now| quotas.take(Ask { key: 7, cost: 1, now }, 1_000).0.map(|turn| now + turn.wait);
        let begins: Vec<_> = (0..6).map(|_| take(0).unwrap()).collect();
        assert_eq!(begins, [0, 0, 0, 10, 20, 30]);
        quotas.reconfigure(&settings(slow), 5);
        // Of three calls in the bucket at 30, two go at the old pace and one stays: it is the new burst.
        assert_eq!((take(5), take(5)), (Ok(150), Ok(250)), "keyed: {is_keyed}");
    }
}

#[test]
fn a_higher_quota_lets_no_call_overtake_those_that_wait() {
    let (slow, fast) = (Rate { interval: 100, burst: 100 }, Rate { interval: 1, burst: 50 });
    for is_keyed in [false, true] {
        let quotas = quotas(slow, is_keyed);
        let take = |now| quotas.take(Ask { key: 7, cost: 1, now }, 1_000).0.map(|turn| now + turn.wait);
        let begins: Vec<_> = (0..3).map(|_| take(0).unwrap()).collect();
        assert_eq!(begins, [0, 100, 200]);
        quotas.reconfigure(&settings(fast), 0);
        assert_eq!((take(0), quotas.available(7, 199), quotas.available(7, 200)), (Ok(200), 0, 48));
    }
}

#[test]
fn a_lower_burst_does_not_shut_the_service_for_longer_than_the_old_one_takes_to_come_back() {
    let (day, minute) = (Rate { interval: 1, burst: 1_000 }, Rate { interval: 60_000, burst: 60_000 });
    for is_keyed in [false, true] {
        let quotas = quotas(day, is_keyed);
        assert!(quotas.take(Ask { key: 7, cost: 1_000, now: 0 }, 0).0.is_ok());
        quotas.reconfigure(&settings(minute), 0);
        assert_eq!(quotas.take(Ask { key: 7, cost: 1, now: 0 }, 0).0, Err(Refusal::Wait(999 + 60_000)));
    }
}
