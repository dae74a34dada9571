//! What decides, against a list of all calls; the keys, against a quota of each that is never forgotten; and
//! configurations of every kind.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::config::Settings;
use super::state::{Rate, Refusal, Turn};
use super::store::Store;
use super::word::Word;
use super::{Quota, RateLimitConfig};

mod changes;
mod crowd;

/// All calls, with when they begin and what time they take up.
#[derive(Clone, Debug, Default)]
struct Log(Vec<(u128, u128)>);

impl Log {
    /// The calls that begin in some stretch of time never take up more than it and a burst.
    fn keeps(&self, rate: Rate) -> bool {
        self.0.iter().all(|(begin, _)| {
            self.0.iter().filter(|(end, _)| end >= begin).all(|(end, _)| {
                let taken: u128 =
                    self.0.iter().filter(|(at, _)| begin <= at && at <= end).map(|(_, cost)| cost).sum();
                taken <= u128::from(rate.burst) + (end - begin)
            })
        })
    }

    /// With one more call, which begins after all others.
    fn with(&self, rate: Rate, at: u64, cost: u32) -> Self {
        let mut more = self.clone();
        more.0.push((u128::from(at), u128::from(rate.interval) * u128::from(cost)));
        more
    }

    /// Whether the quota is as if there had been no call.
    fn is_idle(&self, now: u64) -> bool {
        (0..self.0.len()).all(|first| {
            let taken: u128 = self.0[first..].iter().map(|(_, cost)| cost).sum();
            self.0[first].0 + taken <= u128::from(now)
        })
    }
}

fn any_rate() -> impl Strategy<Value = Rate> {
    (1..20_u64, 1..6_u64).prop_map(|(interval, calls)| Rate { interval, burst: interval * calls })
}

fn any_calls() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0..30_u64, 1..7_u32), 0..40)
}

fn any_nanos() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(Rate::LAST - 1),
        Just(Rate::LAST),
        Just(Rate::LAST + 1),
        Just(u64::MAX),
        0..100_u64,
        any::<u64>()
    ]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        any_nanos().prop_map(Duration::from_nanos),
        any::<u64>().prop_map(Duration::from_secs)
    ]
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 0..1_000_u32, any::<u32>()]
}

proptest! {
    /// Of all calls as many begin as the quota allows, and no one more.
    #[test]
    fn a_call_is_refused_only_if_it_would_break_the_quota(rate in any_rate(), calls in any_calls()) {
        let (word, mut log, mut now) = (Word::new(rate), Log::default(), 0);
        for (pause, cost) in calls {
            now += pause;
            let more = log.with(rate, now, cost);
            match word.take(cost, now, 0) {
                Ok(turn) => {
                    prop_assert_eq!(turn.wait, 0);
                    prop_assert!(more.keeps(rate));
                    log = more;
                }
                Err(Refusal::Wait(wait)) => {
                    prop_assert!(wait > 0 && !more.keeps(rate));
                    prop_assert!(log.with(rate, now + wait, cost).keeps(rate), "not too late");
                    prop_assert!(!log.with(rate, now + wait - 1, cost).keeps(rate), "not too early");
                }
                Err(_) => prop_assert!(u64::from(cost) * rate.interval > rate.burst),
            }
        }
    }

    #[test]
    fn a_refused_call_is_let_through_at_just_the_time_that_it_was_told(rate in any_rate(), calls in any_calls()) {
        let (word, mut now) = (Word::new(rate), 0);
        for (pause, cost) in calls {
            now += pause;
            if let Err(Refusal::Wait(wait)) = word.take(cost, now, 0) {
                prop_assert!(word.take(cost, now + wait - 1, 0).is_err());
                prop_assert!(word.take(cost, now + wait, 0).is_ok());
                now += wait;
            }
        }
    }

    /// Each waits as long as it has to, and no call before it waits longer.
    #[test]
    fn calls_that_wait_begin_in_their_order_and_keep_the_quota(
        rate in any_rate(),
        calls in any_calls(),
        most in 0..100_u64,
    ) {
        let (word, mut log, mut now, mut last) = (Word::new(rate), Log::default(), 0, 0);
        for (pause, cost) in calls {
            now += pause;
            match word.take(cost, now, most) {
                Ok(turn) => {
                    let at = now + turn.wait;
                    prop_assert!(turn.wait <= most && at >= last);
                    if turn.wait > 0 {
                        prop_assert!(!log.with(rate, at - 1, cost).keeps(rate));
                    }
                    log = log.with(rate, at, cost);
                    prop_assert!(log.keeps(rate));
                    last = at;
                }
                Err(Refusal::Wait(wait)) => prop_assert!(wait > most),
                Err(_) => prop_assert!(u64::from(cost) * rate.interval > rate.burst),
            }
        }
    }

    #[test]
    fn clocks_that_jump_in_any_direction_do_not_break_the_quota(
        rate in any_rate(),
        calls in prop::collection::vec((any_nanos(), any_count(), any_nanos()), 0..40),
    ) {
        let (word, mut log) = (Word::new(rate), Log::default());
        for (now, cost, most) in calls {
            if let Ok(turn) = word.take(cost, now, most) {
                log = log.with(rate, now.saturating_add(turn.wait), cost);
            }
        }
        prop_assert!(log.keeps(rate));
    }

    #[test]
    fn a_turn_given_back_leaves_no_trace(
        rate in any_rate(),
        before in any_calls(),
        (pause, cost) in (0..30_u64, 1..7_u32),
    ) {
        let (word, mut now) = (Word::new(rate), 0);
        for (pause, cost) in before {
            now += pause;
            let _ = word.take(cost, now, 100);
        }
        let room = word.available(now + pause);
        if let Ok(turn) = word.take(cost, now + pause, 100) {
            word.give_back(&turn);
        }
        prop_assert_eq!(word.available(now + pause), room);
    }

    /// While there is room for all keys, each has a quota of its own; then those that are idle make room, and no other one.
    #[test]
    fn keys_are_forgotten_only_when_that_changes_nothing(
        rate in any_rate(),
        calls in prop::collection::vec((0..20_u64, 0..8_u64, 1..7_u32), 0..80),
        most in 1..6_usize,
    ) {
        let (mut store, mut logs, mut now) = (Store::new(rate, most), HashMap::<u64, Log>::new(), 0);
        for (pause, key, cost) in calls {
            now += pause;
            let busy = logs.iter().filter(|(other, log)| **other != key && !log.is_idle(now)).count();
            let log = logs.entry(key).or_default();
            let more = log.with(rate, now, cost);
            match store.take(key, cost, now, 0) {
                Ok(_) => {
                    prop_assert!(more.keeps(rate) && busy < most);
                    *log = more;
                }
                Err(Refusal::NoRoom(wait)) => {
                    prop_assert!(log.is_idle(now) && busy >= most);
                    let first = logs.values().filter(|log| log.is_idle(now + wait) && !log.is_idle(now));
                    prop_assert!(wait > 0 && first.count() > 0);
                }
                Err(_) => prop_assert!(!more.keeps(rate)),
            }
            prop_assert!(store.len() <= most);
        }
    }

    #[test]
    fn a_change_keeps_what_was_used_in_calls(
        (old, new) in (any_rate(), any_rate()),
        calls in any_calls(),
        hostile in any_nanos(),
    ) {
        let (word, mut now) = (Word::new(old), 0);
        for (pause, cost) in calls {
            now += pause;
            let _ = word.take(cost, now, 0);
        }
        let used = old.burst / old.interval - u64::from(word.available(now));
        word.reconfigure(new, now);
        let burst = new.burst / new.interval;
        prop_assert_eq!(u64::from(word.available(now)), burst - used.min(burst));
        word.reconfigure(old, hostile);
        prop_assert!(u64::from(word.available(hostile)) * old.interval <= old.burst);
    }

    /// No configuration panics, whatever is asked of it.
    #[test]
    fn a_configuration_works_or_says_what_is_wrong(
        (count, burst, max_keys) in (any_count(), any_count(), any_count()),
        (period, max_wait) in (any_duration(), any_duration()),
        (now, cost) in (any_nanos(), any_count()),
    ) {
        let quota = Quota::per(count, period).burst(burst);
        let config = RateLimitConfig::new(quota).max_wait(max_wait).max_keys(max_keys);
        match Settings::new(&config) {
            Ok(Settings { rate, max_wait, .. }) => {
                let (asked, given) = (period.as_nanos().min(u64::MAX.into()), u128::from(rate.interval) * u128::from(count));
                prop_assert!(given >= asked, "never above the quota");
                prop_assert!(given < asked + u128::from(count), "by less than a nanosecond below it");
                let word = Word::new(rate);
                let _ = word.take(cost, now, max_wait);
                word.reconfigure(Rate { interval: 1, burst: 1 }, now);
                let _ = word.available(now);
            }
            Err(error) => {
                prop_assert!(["count", "period", "burst", "max_keys"].contains(&error.field()), "{error}");
            }
        }
    }
}

#[test]
fn a_turn_is_not_given_back_when_others_have_come_after_it() {
    let word = Word::new(Rate { interval: 10, burst: 10 });
    let turns: Vec<Turn> = (0..3).map(|_| word.take(1, 0, 100).unwrap()).collect();
    assert_eq!(turns.iter().map(|turn| turn.wait).collect::<Vec<_>>(), [0, 10, 20]);
    word.give_back(&turns[1]);
    assert_eq!(word.take(1, 0, 0), Err(Refusal::Wait(30)), "it is lost");
    word.give_back(&turns[2]);
    assert_eq!(word.take(1, 0, 0), Err(Refusal::Wait(20)), "the last one is not");
}

#[test]
fn after_many_changes_the_last_quota_counts() {
    let word = Word::new(Rate { interval: 10, burst: 10 });
    for calls in 1..20 {
        word.reconfigure(Rate { interval: 10, burst: 10 * calls }, 0);
        assert_eq!(u64::from(word.available(0)), calls);
    }
}

#[test]
fn a_hundred_thousand_idle_keys_give_their_memory_back() {
    let mut store = Store::new(Rate { interval: 1, burst: 1 }, 200_000);
    for key in 0..100_000 {
        store.take(key, 1, 0, 0).unwrap();
    }
    assert_eq!(store.len(), 100_000);
    for now in 1..=100_000 {
        let _ = store.take(7, 1, now * 10, 0);
    }
    assert_eq!(store.len(), 1);
    assert!(store.capacity() <= 4_096, "{}", store.capacity());
}

#[test]
fn a_key_is_refused_at_no_cost_while_none_is_idle() {
    let mut store = Store::new(Rate { interval: 100, burst: 100 }, 2);
    assert!(store.take(1, 1, 0, 0).is_ok());
    assert!(store.take(2, 1, 50, 0).is_ok());
    assert_eq!(store.take(3, 1, 60, 0), Err(Refusal::NoRoom(40)));
    assert_eq!(store.take(1, 1, 60, 0), Err(Refusal::Wait(40)), "who is known is not refused for that");
    assert!(store.take(3, 1, 100, 0).is_ok());
}

#[test]
fn a_key_that_is_called_now_and_then_is_not_made_anew_each_time() {
    let mut store = Store::new(Rate { interval: 10, burst: 20 }, 10);
    assert!(store.take(1, 1, 0, 0).is_ok());
    assert!(store.take(2, 1, 29, 0).is_ok());
    assert_eq!(store.len(), 2, "idle for less than a burst");
    assert!(store.take(3, 1, 30, 0).is_ok());
    assert_eq!(store.len(), 2, "forgotten");
}
