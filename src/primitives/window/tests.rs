//! Windows against lists kept by hand, edge sizes and idle gaps included.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::{Calls, Counts, Outcome, Window};
use crate::base::clock::{Now, Timestamp};

const MS: u64 = 1_000_000;

fn outcome() -> impl Strategy<Value = Outcome> {
    // Good ones dominate, as in life.
    prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3)].prop_map(Outcome::from_code)
}

fn counted(outcomes: impl IntoIterator<Item = Outcome>) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes {
        counts.add(outcome, 1);
    }
    counts
}

fn record(window: &Calls, era: u64, at: u64, outcome: Outcome) {
    assert!(window.record(era, &Now::at(Timestamp(at), 0), outcome).is_some());
}

fn window_size() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1), Just(2), Just(15), Just(16), Just(17), Just(31), Just(32), Just(33), 1..200_u32]
}

proptest! {
    #[test]
    fn a_count_window_holds_the_last_calls(
        size in window_size(),
        outcomes in prop::collection::vec(outcome(), 0..700),
        eras in prop::collection::vec(0..700_usize, 0..4),
    ) {
        let window = Calls::new(Window::calls(size));
        let mut era = 0;
        let mut list = Vec::new();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            if eras.contains(&index) {
                era += 1;
                window.begin(era);
                list.clear();
            }
            record(&window, era, 0, outcome);
            list.push(outcome);
            let held = list.iter().rev().take(size as usize).copied();
            prop_assert_eq!(window.counts(era, Timestamp(0)), counted(held.clone()), "after {} calls", list.len());
            let Calls::Count(window) = &window else { unreachable!() };
            prop_assert!(window.latest(era).into_iter().rev().eq(held), "after {} calls", list.len());
        }
    }

    #[test]
    fn a_time_window_holds_the_calls_of_its_buckets(
        buckets in prop_oneof![Just(1_u32), Just(2), Just(3), Just(10), Just(240)],
        width in prop_oneof![Just(10_u64), Just(17), Just(1_000)],
        start in 0..100_000_u64,
        calls in prop::collection::vec((0..8_u64, 0..4_u64, outcome(), prop::bool::weighted(0.02)), 0..300),
    ) {
        let span = Duration::from_millis(width * u64::from(buckets));
        let window = Calls::new(Window::time(span).buckets(buckets));
        let window_ms = width * u64::from(buckets);
        let (mut era, mut now, mut list) = (0, start, Vec::new());
        for (kind, part, outcome, next_era) in calls {
            // Gaps of nothing, of parts of a bucket, of a bucket, of just under, just and ten times the window.
            let gap = match kind {
                0..=3 => part,
                4 => width,
                5 => window_ms - 1,
                6 => window_ms,
                _ => 10 * window_ms + part,
            };
            now += gap;
            if next_era {
                era += 1;
                window.begin(era);
                list.clear();
            }
            let present = now / width;
            let live = |(at, _): &&(u64, Outcome)| at / width + u64::from(buckets) > present;
            let held = |list: &[(u64, Outcome)]| counted(list.iter().filter(live).map(|(_, outcome)| *outcome));
            prop_assert_eq!(window.counts(era, Timestamp(now * MS)), held(&list), "after a gap of {} ms", gap);
            record(&window, era, now * MS, outcome);
            list.push((now, outcome));
            prop_assert_eq!(window.counts(era, Timestamp(now * MS)), held(&list));
        }
    }

    #[test]
    fn counts_are_restored_into_a_window_that_has_room(
        calls in 0..150_u64, failures in 0..150_u64, slow in 0..150_u64, size in window_size(),
    ) {
        let (failures, slow) = (failures.min(calls), slow.min(calls));
        let slow_failures = (failures + slow).saturating_sub(calls);
        let counts = Counts { calls, failures, slow, slow_failures };
        for window in [Calls::new(Window::calls(size)), Calls::new(Window::time(Duration::from_secs(1)))] {
            window.restore(0, Timestamp(5 * MS), counts);
            let restored = window.counts(0, Timestamp(5 * MS));
            if matches!(window, Calls::Time(_)) || calls <= u64::from(size) {
                prop_assert_eq!(restored, counts);
            } else {
                prop_assert_eq!(restored.calls, u64::from(size));
                prop_assert!(restored.failures <= failures && restored.slow <= slow);
                let share = |count: u64| count as f64 * f64::from(size) / calls as f64;
                prop_assert!((restored.failures as f64 - share(failures)).abs() <= 2.0);
                prop_assert!((restored.slow as f64 - share(slow)).abs() <= 2.0);
            }
        }
    }
}

#[test]
fn a_year_of_idleness_empties_a_time_window_at_once() {
    let window = Calls::new(Window::time(Duration::from_millis(100)));
    let year = Duration::from_secs(365 * 86_400);
    for years in 0..9 {
        let now = Timestamp(0).after(year * years);
        assert_eq!(window.counts(0, now), Counts::default());
        record(&window, 0, now.0, Outcome::from_code(1));
        assert_eq!(window.counts(0, now).failures, 1);
    }
}

#[test]
fn the_end_of_the_clock_is_no_end_of_the_window() {
    let window = Calls::new(Window::time(Duration::MAX).buckets(1));
    record(&window, 0, u64::MAX, Outcome::from_code(1));
    assert_eq!(window.counts(0, Timestamp(u64::MAX)).failures, 1);
}

#[test]
fn an_era_that_wraps_is_a_new_one() {
    let window = Calls::new(Window::calls(3));
    for era in [u64::MAX - 1, u64::MAX, 0, 1] {
        window.begin(era);
        assert_eq!(window.counts(era, Timestamp(0)), Counts::default());
        record(&window, era, 0, Outcome::from_code(1));
        assert_eq!(window.counts(era, Timestamp(0)).failures, 1);
    }
}

/// Words keep 16 bits of the era. What is left of one of the same bits must not be taken for its
/// own.
#[test]
fn a_count_window_begins_empty_also_after_65_536_eras() {
    for (first, last) in
        [(0, 1 << 16), (7, 7 + (1 << 16)), ((1 << 16) - 1, (1 << 17) - 1), (3, 3 + (1 << 20))]
    {
        let window = Calls::new(Window::calls(40));
        window.begin(first);
        for _ in 0..40 {
            record(&window, first, 0, Outcome::from_code(1));
        }
        // Eras in which nothing is recorded, and some that are never begun.
        for era in (first + 1..last).step_by(1_000) {
            window.begin(era);
        }
        window.begin(last);
        assert_eq!(window.counts(last, Timestamp(0)), Counts::default());
        for calls in 1..=90 {
            record(&window, last, 0, Outcome::GOOD);
            assert_eq!(
                window.counts(last, Timestamp(0)),
                Counts { calls: calls.min(40), ..Counts::default() }
            );
        }
    }
}

/// Its thread may have been stopped between reading the clock and looking at the window.
#[test]
fn a_reader_whose_clock_is_behind_misses_nothing() {
    let window = Calls::new(Window::time(Duration::from_millis(100)));
    for at in [10, 35, 99, 140] {
        record(&window, 0, at * MS, Outcome::from_code(1));
    }
    assert_eq!(window.counts(0, Timestamp(140 * MS)).failures, 2, "the first two are too old");
    assert_eq!(window.counts(0, Timestamp(60 * MS)).failures, 4, "they were not, then");
    assert_eq!(
        window.counts(0, Timestamp(30 * MS)).failures,
        3,
        "what is a whole window ahead is not its own"
    );
}

/// What an era recorded is not seen by the one before, also not by a reader whose clock is behind.
#[test]
fn a_time_window_keeps_eras_apart() {
    let window = Calls::new(Window::time(Duration::from_millis(100)));
    record(&window, 1, 50 * MS, Outcome::from_code(1));
    for at in [0, 49, 50, 51, 149] {
        assert_eq!(window.counts(0, Timestamp(at * MS)), Counts::default(), "at {at}");
        assert_eq!(window.counts(2, Timestamp(at * MS)), Counts::default(), "at {at}");
    }
}

#[test]
fn a_count_window_forgets_after_any_number_of_laps() {
    let window = Calls::new(Window::calls(1));
    // Past the point at which the stamps of its laps repeat.
    for _ in 0..5_000 {
        record(&window, 0, 0, Outcome::from_code(3));
        assert_eq!(window.counts(0, Timestamp(0)), counted([Outcome::from_code(3)]));
        record(&window, 0, 0, Outcome::GOOD);
        assert_eq!(window.counts(0, Timestamp(0)), counted([Outcome::GOOD]));
    }
}

#[test]
fn threads_that_hammer_a_window_lose_nothing() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 20_000;
    let time = Calls::new(Window::time(Duration::from_secs(1)));
    let count = Calls::new(Window::calls(100));
    std::thread::scope(|scope| {
        for stripe in 0..THREADS {
            let (time, count) = (&time, &count);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let outcome = Outcome::from_code(call & 3);
                    let now = Now::at(Timestamp(7), usize::try_from(stripe).unwrap());
                    time.record(0, &now, outcome);
                    count.record(0, &now, outcome);
                }
            });
        }
    });
    let calls = THREADS * CALLS;
    let all = Counts { calls, failures: calls / 2, slow: calls / 2, slow_failures: calls / 4 };
    assert_eq!(time.counts(0, Timestamp(7)), all);
    // Whatever their order was: after a window of good calls nothing of them is left.
    for _ in 0..100 {
        record(&count, 0, 0, Outcome::GOOD);
    }
    assert_eq!(count.counts(0, Timestamp(0)), Counts { calls: 100, ..Counts::default() });
}
