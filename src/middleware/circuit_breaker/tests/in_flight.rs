//! Calls in flight while what counts as slow changes.

use super::{Bench, ms};
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::pass::Verdict;
use crate::middleware::circuit_breaker::transition::State;

fn config(slow_after: u64) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().slow_after(ms(slow_after)).min_calls(1_000)
}

#[test]
fn calls_in_flight_are_judged_by_the_limit_that_is_set_while_they_hang() {
    for limit in [1_500, 2_500] {
        let mut bench = Bench::new(config(2_000).min_calls(20));
        for _ in 0..20 {
            bench.admitted();
        }
        bench.advance(ms(1_000));
        bench.reconfigure(&config(limit).min_calls(20));
        assert_eq!((bench.state(), bench.snapshot().overdue), (State::Closed, 0));
        bench.advance(ms(2_200));
        let _ = bench.ask();
        assert_eq!(bench.state(), State::Open, "{limit} ms");
    }
}

#[test]
fn a_call_in_flight_is_overdue_by_each_limit_after_it_was_set_until_it_ends() {
    let mut bench = Bench::new(config(600));
    let hanging = bench.admitted();
    bench.advance(ms(800));
    assert_eq!(bench.snapshot().overdue, 1);
    // The limits, and whether the call has hung for longer, 800 ms and 2,400 ms after it began.
    let limits = [(300, 1, 1), (1_200, 0, 1), (60, 1, 1), (3_000, 0, 0), (600, 1, 1)];
    for (limit, overdue, _) in limits {
        bench.reconfigure(&config(limit));
        assert_eq!(bench.snapshot().overdue, overdue, "{limit} ms");
    }
    bench.advance(ms(1_600));
    for (limit, _, overdue) in limits {
        bench.reconfigure(&config(limit));
        assert_eq!(bench.snapshot().overdue, overdue, "{limit} ms");
    }
    bench.reconfigure(&CircuitBreakerConfig::new());
    assert_eq!(bench.snapshot().overdue, 0);
    bench.reconfigure(&config(600));
    assert_eq!(bench.snapshot().overdue, 1, "the rule was off for a moment");
    bench.end(&hanging, Verdict::Success);
    assert_eq!(bench.snapshot().overdue, 0);
}

/// They are known to be older than those that took their places, and by how much at least.
#[test]
fn calls_that_had_to_make_room_are_not_taken_for_older_than_they_may_be() {
    let mut bench = Bench::new(config(600));
    let hanging = bench.admitted();
    for _ in 0..10 {
        bench.advance(ms(100));
        bench.call(Verdict::Success);
    }
    assert_eq!(bench.snapshot().overdue, 1);
    bench.reconfigure(&config(1_200));
    assert_eq!(bench.snapshot().overdue, 0);
    bench.advance(ms(300));
    let early = bench.snapshot().overdue;
    bench.advance(ms(700));
    assert_eq!((early, bench.snapshot().overdue), (0, 1));
    bench.end(&hanging, Verdict::Success);
    assert_eq!(bench.snapshot().overdue, 0);
}

#[test]
fn calls_of_an_earlier_limit_are_forgotten_in_the_next_state() {
    let mut bench = Bench::new(config(600));
    let hanging = bench.admitted();
    bench.reconfigure(&config(1_200));
    bench.order(super::Order::Close);
    bench.advance(ms(5_000));
    assert_eq!(bench.snapshot().overdue, 0);
    bench.end(&hanging, Verdict::Success);
    assert_eq!(bench.snapshot().overdue, 0);
}
