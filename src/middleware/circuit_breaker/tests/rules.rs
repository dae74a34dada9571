//! What the circuit promises, rule by rule. Where a rule is there because another library got it wrong, the test
//! says which.

use std::time::Duration;

use super::Bench;
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::Ordering;
use crate::middleware::circuit_breaker::config::{CircuitBreakerConfig, Settings};
use crate::middleware::circuit_breaker::control::Notice;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Refusal, Verdict};
use crate::middleware::circuit_breaker::snapshot::PersistedState;
use crate::middleware::circuit_breaker::transition::{Cause, State};
use crate::middleware::circuit_breaker::word::Word;
use crate::primitives::window::Window;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two failures of two open it for 100 ms; one probe.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(2))
        .min_calls(2)
        .failure_ratio(1.0)
        .open_for(ms(100))
        .open_jitter(0.0)
        .probes(1)
}

fn opened(config: CircuitBreakerConfig) -> Bench {
    let bench = Bench::new(config);
    bench.calls(2, Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
    bench
}

/// tower-resilience needs as many failures as it has ever seen successes.
#[test]
fn an_hour_of_health_does_not_hide_an_outage() {
    let bench = Bench::new(CircuitBreakerConfig::new().window(Window::calls(100)).failure_ratio(0.5));
    bench.calls(100_000, Verdict::Success);
    bench.calls(49, Verdict::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
}

/// tower-resilience waits for the whole window.
#[test]
fn few_calls_are_enough_if_so_configured() {
    let bench = Bench::new(CircuitBreakerConfig::new().window(Window::calls(100)).min_calls(10));
    bench.calls(9, Verdict::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
}

/// Polly and others never open a ratio breaker where there is little traffic.
#[test]
fn failures_in_a_row_open_it_whatever_the_window_holds() {
    let bench = Bench::new(CircuitBreakerConfig::new().consecutive_failures(3));
    for _ in 0..5 {
        bench.calls(2, Verdict::Failure);
        bench.call(Verdict::Success);
    }
    bench.calls(2, Verdict::Failure);
    bench.call(Verdict::Ignored);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
}

/// In gobreaker calls slower than the interval never count.
#[test]
fn calls_longer_than_the_window_still_count() {
    let mut bench = Bench::new(config().window(Window::time(ms(100))).min_calls(3));
    for _ in 0..3 {
        let pass = bench.admitted();
        bench.advance(ms(30));
        bench.end(&pass, Verdict::Success);
    }
    let long = [bench.admitted(), bench.admitted(), bench.admitted()];
    bench.advance(ms(10_000));
    for pass in &long {
        bench.end(pass, Verdict::Failure);
    }
    assert_eq!(bench.state(), State::Open);
}

/// In cockatiel one failure after an hour of idleness is judged together with those before it.
#[test]
fn failures_from_before_an_idle_hour_do_not_count() {
    let mut bench = Bench::new(config().window(Window::time(ms(1_000))).min_calls(2));
    bench.call(Verdict::Failure);
    bench.advance(Duration::from_secs(3_600));
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Closed);
}

/// Resilience4j, failsafe-go, opossum, failsafe, tower-resilience, each in its own way.
#[test]
fn late_verdicts_change_nothing_in_any_later_state() {
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Ignored, Verdict::Cancelled] {
        let mut bench = Bench::new(config());
        let late = [bench.admitted(), bench.admitted(), bench.admitted()];
        bench.calls(2, Verdict::Failure);
        bench.end(&late[0], verdict);
        assert_eq!(bench.state(), State::Open);
        bench.advance(ms(100));
        let probe = bench.admitted();
        bench.end(&late[1], verdict);
        assert_eq!(bench.state(), State::HalfOpen, "{verdict:?}");
        bench.refused();
        bench.end(&probe, Verdict::Success);
        bench.end(&late[2], verdict);
        assert_eq!(bench.state(), State::Closed);
        assert_eq!(bench.snapshot().calls, 0, "the next closed state begins empty");
    }
}

/// In seatbelt a success of one half-open cycle closes the next.
#[test]
fn a_probe_of_one_cycle_decides_no_other() {
    let mut bench = opened(config().open_factor(1.0).probe_timeout(ms(10_000)));
    bench.advance(ms(100));
    let first = bench.admitted();
    bench.order(Order::Trip(None));
    bench.advance(ms(100));
    let second = bench.admitted();
    bench.end(&first, Verdict::Success);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.end(&second, Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
}

/// Most of them: a lost probe wedges the circuit.
#[test]
fn a_dropped_probe_frees_its_slot_at_once() {
    let mut bench = opened(config());
    bench.advance(ms(100));
    for verdict in [Verdict::Cancelled, Verdict::Ignored] {
        let probe = bench.admitted();
        bench.refused();
        bench.end(&probe, verdict);
        assert_eq!(bench.state(), State::HalfOpen, "neither closed nor opened");
    }
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_probe_that_never_ends_gives_its_slot_to_another() {
    let mut bench = opened(config().probe_timeout(ms(50)));
    bench.advance(ms(100));
    let lost = bench.admitted();
    assert_eq!(bench.refused(), Refusal::Open { wait: 50_000_000 });
    bench.advance(ms(50));
    let next = bench.admitted();
    bench.end(&lost, Verdict::Success);
    assert_eq!(bench.state(), State::HalfOpen, "the lost one has no say");
    bench.end(&next, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

/// tower-resilience closes on a slow probe, and flaps.
#[test]
fn slow_probes_keep_it_open() {
    let mut bench = opened(config().slow_after(ms(10)).slow_ratio(1.0));
    bench.advance(ms(100));
    let probe = bench.admitted();
    bench.advance(ms(11));
    bench.end(&probe, Verdict::Success);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn probes_that_hang_are_judged_before_they_end() {
    let mut bench = opened(config().slow_after(ms(10)).probes(2));
    bench.advance(ms(100));
    let probes = [bench.admitted(), bench.admitted()];
    bench.advance(ms(10));
    assert_eq!(bench.refused(), Refusal::Open { wait: 1 });
    assert_eq!(bench.state(), State::HalfOpen, "they may take that long");
    bench.advance(Duration::from_nanos(1));
    assert_eq!(bench.refused(), Refusal::Open { wait: 200_000_000 });
    assert_eq!(bench.state(), State::Open);
    for probe in &probes {
        bench.end(probe, Verdict::Failure);
    }
    assert_eq!(bench.snapshot().openings, 2);
}

#[test]
fn probes_are_never_more_than_configured() {
    let mut bench = opened(config().probes(3).min_calls(3));
    bench.advance(ms(100));
    let probes = [bench.admitted(), bench.admitted(), bench.admitted()];
    bench.refused();
    bench.end(&probes[0], Verdict::Success);
    bench.refused();
    bench.end(&probes[1], Verdict::Success);
    bench.refused();
    bench.end(&probes[2], Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn probes_are_judged_by_the_same_ratio() {
    let mut bench = opened(config().probes(4).min_calls(4).failure_ratio(0.5));
    bench.advance(ms(100));
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Success, Verdict::Success] {
        bench.call(verdict);
    }
    assert_eq!(bench.state(), State::Closed);
    let Some(Notice::Transition(closed)) = bench.notices().pop() else { panic!("it closed") };
    assert_eq!(closed.cause, Cause::ProbesSucceeded { calls: 4 });
}

#[test]
fn each_opening_lasts_longer_up_to_the_cap_and_closing_starts_anew() {
    let mut bench = opened(config().max_open_for(ms(500)));
    for expected in [100, 200, 400, 500, 500] {
        assert_eq!(bench.snapshot().retry_after, Some(ms(expected)));
        bench.advance(ms(expected));
        bench.call(Verdict::Failure);
    }
    bench.advance(ms(500));
    bench.call(Verdict::Success);
    bench.calls(2, Verdict::Failure);
    assert_eq!(bench.snapshot().retry_after, Some(ms(100)));
}

/// tower, Linkerd and Finagle lose their jitter at the cap.
#[test]
fn jitter_survives_the_cap_and_never_exceeds_it() {
    let mut waits = Vec::new();
    for _ in 0..200 {
        let mut bench = opened(config().open_jitter(0.5).open_factor(10.0).max_open_for(ms(400)));
        for _ in 0..3 {
            bench.advance(ms(400));
            bench.call(Verdict::Failure);
        }
        waits.push(bench.snapshot().retry_after.expect("it is open"));
    }
    assert!(waits.iter().all(|wait| (ms(200)..=ms(400)).contains(wait)), "{waits:?}");
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 150, "they differ");
}

/// The server knows best how long it needs; but not for longer than we are willing to wait.
#[test]
fn the_server_may_ask_to_be_left_alone_for_longer() {
    for (asked, expected) in [(ms(10), 100), (ms(300), 300), (Duration::MAX, 60_000)] {
        let bench = Bench::new(config());
        bench.call(Verdict::Failure);
        let pass = bench.admitted();
        bench.circuit.settle(&pass, Verdict::Failure, Some(asked), &Now::at(bench.now, 0));
        assert_eq!(bench.snapshot().retry_after, Some(ms(expected)));
    }
}

/// Whichever of the trial calls decides.
#[test]
fn what_the_server_asks_of_one_trial_call_holds_for_all() {
    let mut bench = opened(config().probes(2).min_calls(2).failure_ratio(0.5));
    bench.advance(ms(100));
    let (asked, decides) = (bench.admitted(), bench.admitted());
    bench.circuit.settle(&asked, Verdict::Failure, Some(ms(5_000)), &Now::at(bench.now, 0));
    bench.end(&decides, Verdict::Success);
    assert_eq!(bench.snapshot().retry_after, Some(ms(5_000)));
}

/// gobreaker admits 30,000 calls to a backend that hangs.
#[test]
fn a_dependency_that_hangs_is_cut_off_long_before_its_timeout() {
    let mut bench = Bench::new(CircuitBreakerConfig::new().slow_after(ms(200)));
    let mut hanging = Vec::new();
    while let Ok(pass) = bench.ask() {
        hanging.push(pass);
        bench.advance(ms(1));
    }
    assert!(hanging.len() <= 250, "{} calls", hanging.len());
    let Some(Notice::Transition(opened)) = bench.notices().pop() else { panic!("it opened") };
    assert!(matches!(opened.cause, Cause::SlowRatio { in_flight: 20.., .. }), "{opened}");
    // They are forgotten with their generation: when the service is back, they do not count against it.
    bench.advance(Duration::from_secs(5));
    bench.calls(3, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
    for _ in 0..100 {
        bench.advance(ms(10));
        bench.call(Verdict::Success);
    }
    assert_eq!(bench.snapshot().overdue, 0);
    for pass in &hanging {
        bench.end(pass, Verdict::Failure);
    }
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.snapshot().failures, 0);
}

#[test]
fn a_call_cancelled_after_it_was_slow_counts_as_slow() {
    let mut bench = Bench::new(config().slow_after(ms(10)).slow_ratio(1.0).slow_in_flight(false));
    let passes = [bench.admitted(), bench.admitted(), bench.admitted()];
    bench.end(&passes[0], Verdict::Cancelled);
    assert_eq!(bench.snapshot().calls, 0, "not slow, and no verdict");
    bench.advance(ms(11));
    bench.end(&passes[1], Verdict::Cancelled);
    bench.end(&passes[2], Verdict::Cancelled);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_success_opens_it_when_good_calls_have_expired() {
    let mut bench =
        Bench::new(config().window(Window::time(ms(100)).buckets(2)).min_calls(2).failure_ratio(0.5));
    bench.calls(2, Verdict::Success);
    bench.advance(ms(50));
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Closed, "one of three");
    bench.advance(ms(50));
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Open, "one of two");
}

#[test]
fn a_wait_of_zero_probes_at_once_and_an_endless_one_never() {
    let bench = opened(config().open_for(Duration::ZERO));
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
    // seatbelt, failsafe and recloser panic here, the first under its lock.
    let mut bench = opened(config().open_for(Duration::MAX));
    bench.advance(Duration::from_secs(365 * 86_400 * 500));
    bench.refused();
}

#[test]
fn the_clock_may_jump_by_years_and_stand_still() {
    let mut bench = opened(config().slow_after(ms(10)));
    bench.advance(Duration::from_secs(10 * 365 * 86_400));
    let probe = bench.admitted();
    bench.end(&probe, Verdict::Success);
    bench.calls(1_000, Verdict::Success);
    bench.now = Timestamp(0);
    bench.calls(1_000, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn generations_wrap() {
    let mut bench = Bench::new(config());
    let last = Word { generation: Word::GENERATIONS, state: State::Closed };
    bench.circuit.begin(last.generation, bench.now);
    bench.circuit.word.store(last.pack(), Ordering::Release);
    let stale = bench.admitted();
    bench.calls(2, Verdict::Failure);
    assert_eq!(bench.circuit.load(), Word { generation: 0, state: State::Open });
    bench.end(&stale, Verdict::Success);
    bench.advance(ms(100));
    bench.call(Verdict::Success);
    bench.calls(2, Verdict::Failure);
    assert_eq!(bench.entered(), [State::Open, State::HalfOpen, State::Closed, State::Open]);
}

#[test]
fn forced_open_stays_until_further_notice_or_for_its_time() {
    let mut bench = Bench::new(config());
    bench.order(Order::ForceOpen(None));
    bench.advance(Duration::from_secs(1_000_000));
    assert_eq!(bench.refused(), Refusal::Open { wait: Refusal::ENDLESS });
    bench.order(Order::ForceOpen(Some(ms(30))));
    bench.advance(ms(29));
    bench.refused();
    bench.advance(ms(1));
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn disabled_passes_and_records_nothing() {
    let bench = Bench::new(config());
    bench.order(Order::Disable);
    bench.calls(100, Verdict::Failure);
    assert_eq!(bench.state(), State::Disabled);
    assert_eq!(bench.snapshot().calls, 0);
}

#[test]
fn observing_says_once_what_it_would_do_and_again_after_all_was_well() {
    let bench = Bench::new(config());
    bench.order(Order::Observe);
    bench.notices();
    let warnings = |calls, verdict| {
        bench.calls(calls, verdict);
        bench.notices()
    };
    assert!(matches!(warnings(5, Verdict::Failure)[..], [Notice::WouldOpen(Cause::FailureRatio { .. })]));
    assert_eq!(warnings(5, Verdict::Success), []);
    assert_eq!(warnings(5, Verdict::Failure).len(), 1);
    assert_eq!(bench.state(), State::ObserveOnly);
}

#[test]
fn settings_change_while_the_state_and_the_counts_stay() {
    let mut bench = Bench::new(config().window(Window::calls(10)).min_calls(10));
    bench.calls(4, Verdict::Failure);
    let in_flight = bench.admitted();
    for window in [Window::calls(20), Window::time(ms(1_000)), Window::calls(7)] {
        let settings = Settings::new(&config().window(window).min_calls(6)).unwrap();
        bench.circuit.reconfigure(&settings.into(), &Now::at(bench.now, 0));
        assert_eq!(bench.snapshot().failures, 4, "{window:?}");
        assert_eq!(bench.state(), State::Closed);
    }
    bench.end(&in_flight, Verdict::Failure);
    assert_eq!(bench.snapshot().failures, 5, "calls in flight are not lost");
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
    let settings = Settings::new(&config().slow_after(ms(5))).unwrap();
    bench.circuit.reconfigure(&settings.into(), &Now::at(bench.now, 0));
    assert_eq!(bench.state(), State::Open);
    bench.advance(ms(100));
    let probe = bench.admitted();
    bench.advance(ms(6));
    bench.end(&probe, Verdict::Success);
    assert_eq!(bench.state(), State::Open, "slow, by the new settings");
}

#[test]
fn an_open_circuit_goes_on_showing_what_opened_it_when_its_window_changes() {
    let bench = opened(config());
    let settings = Settings::new(&config().window(Window::calls(50)).min_calls(2)).unwrap();
    bench.circuit.reconfigure(&settings.into(), &Now::at(bench.now, 0));
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (2, 2));
    assert_eq!(bench.snapshot().retry_after, Some(ms(100)));
}

#[test]
fn calls_in_flight_survive_a_change_of_what_is_slow() {
    let mut bench = Bench::new(config().slow_after(ms(600)).min_calls(1_000));
    let pass = bench.admitted();
    let settings = Settings::new(&config().slow_after(ms(60)).min_calls(1_000)).unwrap();
    bench.circuit.reconfigure(&settings.into(), &Now::at(bench.now, 0));
    let newer = bench.admitted();
    bench.end(&pass, Verdict::Success);
    bench.advance(ms(100));
    assert_eq!(bench.snapshot().overdue, 1, "the newer one");
    bench.end(&newer, Verdict::Success);
    assert_eq!(bench.snapshot().overdue, 0);
}

#[test]
fn a_saved_state_is_restored_as_far_as_it_makes_sense() {
    let mut bench = opened(config());
    bench.advance(ms(40));
    let saved = PersistedState::from(&bench.snapshot());
    let mut restored = Bench::new(config());
    restored.advance(ms(7));
    restored.circuit.restore(&saved, restored.now);
    assert_eq!(restored.snapshot().retry_after, Some(ms(60)));
    assert_eq!(restored.snapshot().openings, 1);
    restored.advance(ms(60));
    restored.call(Verdict::Failure);
    assert_eq!(restored.snapshot().retry_after, Some(ms(200)), "the second opening in a row");

    let nonsense = PersistedState {
        state: State::Closed,
        openings: u32::MAX,
        retry_after: Some(Duration::MAX),
        calls: 1,
        failures: u64::MAX,
        slow: u64::MAX,
        slow_failures: u64::MAX,
    };
    restored.circuit.restore(&nonsense, restored.now);
    assert_eq!((restored.snapshot().calls, restored.snapshot().failures), (1, 1));
    restored.circuit.restore(&PersistedState { state: State::Open, ..nonsense }, restored.now);
    assert_eq!(restored.snapshot().retry_after, None, "584 years are for ever");
}

/// A restored count of openings is data from outside: it must not keep the lock busy for a minute.
#[test]
fn any_number_of_openings_is_escalated_at_once() {
    for (open_for, expected) in [(Duration::ZERO, Duration::ZERO), (ms(1), Duration::from_secs(60))] {
        let bench = Bench::new(config().open_for(open_for));
        let saved = PersistedState { openings: u32::MAX, ..PersistedState::from(&bench.snapshot()) };
        bench.circuit.restore(&saved, bench.now);
        bench.order(Order::Trip(None));
        assert_eq!(bench.snapshot().retry_after, Some(expected));
    }
}

#[test]
fn notices_are_bounded_when_nobody_takes_them() {
    let bench = Bench::new(config());
    for _ in 0..10_000 {
        bench.order(Order::Disable);
        bench.order(Order::ForceOpen(None));
    }
    let notices = bench.notices();
    assert_eq!(notices.len(), 1_024);
    assert!(matches!(notices.last(), Some(Notice::Transition(last)) if last.to == State::ForcedOpen));
}

#[test]
fn hostile_settings_are_refused_by_name() {
    let nan = f64::NAN;
    let rejected = |config: CircuitBreakerConfig| config.validate().expect_err("it is refused").field();
    for ratio in [nan, f64::INFINITY, -0.0, 0.0, -1.0, 1.000_1, 50.0, 1e308] {
        assert_eq!(rejected(config().failure_ratio(ratio)), "failure_ratio");
        assert_eq!(rejected(config().slow_ratio(ratio)), "slow_ratio");
    }
    for factor in [nan, f64::INFINITY, 0.0, 0.99, 101.0] {
        assert_eq!(rejected(config().open_factor(factor)), "open_factor");
    }
    for share in [nan, -0.1, 1.1] {
        assert_eq!(rejected(config().open_jitter(share)), "open_jitter");
    }
    let windows = [
        Window::calls(0),
        Window::calls(10_001),
        Window::calls(u32::MAX),
        Window::time(Duration::ZERO),
        Window::time(ms(99)),
        Window::time(ms(1_000)).buckets(0),
        Window::time(Duration::MAX).buckets(241),
    ];
    for window in windows {
        assert_eq!(rejected(config().window(window)), "window");
    }
    for probes in [0, 1_001, u32::MAX] {
        assert_eq!(rejected(config().probes(probes)), "probes");
    }
    assert_eq!(rejected(config().min_calls(0)), "min_calls");
    assert_eq!(rejected(config().consecutive_failures(0)), "consecutive_failures");
    assert_eq!(rejected(config().probe_timeout(Duration::ZERO)), "probe_timeout");
    assert_eq!(rejected(config().max_open_for(ms(99))), "max_open_for");
    assert_eq!(rejected(config().without_failure_ratio()), "failure_ratio");
    let error = config().failure_ratio(50.0).validate().expect_err("it is refused");
    assert_eq!(
        error.to_string(),
        "invalid value for `failure_ratio`: got 50.0, expected a number above 0 and at most 1 (0.5 is half; not a percentage)"
    );
}

#[test]
fn extreme_settings_that_are_allowed_work() {
    let longest = Duration::MAX;
    let extreme = config()
        .window(Window::time(longest))
        .min_calls(u32::MAX)
        .slow_after(longest)
        .consecutive_failures(u32::MAX)
        .open_for(longest)
        .open_factor(100.0)
        .open_jitter(1.0)
        .probes(1_000)
        .probe_timeout(longest)
        .ramp(longest);
    let mut bench = Bench::new(extreme.clone());
    bench.calls(100, Verdict::Failure);
    for order in
        [Order::Trip(None), Order::Probe, Order::ForceOpen(Some(longest)), Order::Trip(Some(longest))]
    {
        bench.order(order);
        let _ = bench.ask();
        bench.advance(longest);
        let _ = bench.ask();
        bench.snapshot();
    }
    let tiniest = Duration::from_nanos(1);
    let mut bench = Bench::new(
        extreme.min_calls(1).slow_after(tiniest).consecutive_failures(1).probe_timeout(tiniest).ramp(tiniest),
    );
    for _ in 0..100 {
        bench.advance(tiniest);
        if let Ok(pass) = bench.ask() {
            bench.advance(tiniest);
            bench.end(&pass, Verdict::Failure);
        }
    }
    bench.snapshot();
}
