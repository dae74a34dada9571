//! Replays what Resilience4j was recorded to do. Where it differs on purpose is in the data's README: scenarios
//! with late results are the naive model's, see [`super::against_naive`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bench, MS};
use crate::base::clock::Timestamp;
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Pass, Verdict};
use crate::middleware::circuit_breaker::transition::State;
use crate::primitives::window::Window;

#[path = "../../../../tests/support/traces.rs"]
pub(super) mod traces;

use traces::{Op, Scenario, Seen, StateName, Step, WindowKind};

/// A circuit here probes after exactly its wait, one in Resilience4j right after it.
pub(super) const SMALLEST_STEP: Duration = Duration::from_nanos(1);

#[test]
fn every_recorded_scenario_without_late_results_replays() {
    let mut by_tag = BTreeMap::<String, usize>::new();
    let mut replayed = 0;
    for scenario in traces::load() {
        if scenario.tags.iter().any(|tag| tag == "late" || tag == "quirk") {
            continue;
        }
        replay(&scenario);
        replayed += 1;
        for tag in scenario.tags {
            *by_tag.entry(tag).or_default() += 1;
        }
    }
    println!("replayed {replayed} scenarios through the circuit, by tag: {by_tag:?}");
    assert_eq!(replayed, 185);
}

fn replay(scenario: &Scenario) {
    let config = &scenario.config;
    let start = Timestamp(config.start_ms * MS);
    let mut replay = Replay {
        bench: Bench::starting_at(&configured(config), start),
        calls: BTreeMap::new(),
        timers: Timers::new(config),
    };
    replay.begin_in(config.initial_state.unwrap_or(StateName::Closed));
    for (index, step) in scenario.steps.iter().enumerate() {
        let context = format!("{}, step {index}: {step:?}", scenario.id);
        replay.advance_to(start.after(Duration::from_millis(step.seen.t)));
        replay.play(step, &context);
        replay.compare(&step.seen, &context);
    }
}

struct Replay {
    bench: Bench,
    calls: BTreeMap<u32, Pass>,
    timers: Timers,
}

/// What Resilience4j does by itself and Stanchion leaves to an operator, who acts at the very instant.
struct Timers {
    auto_half_open: bool,
    max_wait_half_open: Duration,
    after_max_wait: StateName,
}

impl Timers {
    fn new(config: &traces::Config) -> Self {
        Self {
            auto_half_open: config.auto_half_open,
            max_wait_half_open: Duration::from_millis(config.max_wait_half_open_ms),
            after_max_wait: config.after_half_open_wait.unwrap_or(StateName::Open),
        }
    }

    /// The next timer of a circuit, and what it does.
    fn next(&self, bench: &Bench) -> Option<(Timestamp, Order)> {
        let snapshot = bench.snapshot();
        match snapshot.state {
            State::Open if self.auto_half_open => {
                // Their clock has whole milliseconds, and no smallest step that grows with the wait.
                let at = bench.now.after(snapshot.retry_after?).0;
                Some((Timestamp(at - at % MS), Order::Probe))
            }
            State::HalfOpen if !self.max_wait_half_open.is_zero() => {
                let wait = self.max_wait_half_open.saturating_sub(snapshot.since);
                let order =
                    if self.after_max_wait == StateName::Closed { Order::Close } else { Order::Trip(None) };
                Some((bench.now.after(wait), order))
            }
            _ => None,
        }
    }
}

impl Replay {
    fn begin_in(&self, state: StateName) {
        let orders: &[Order] = match state {
            StateName::Closed => &[],
            StateName::Open => &[Order::Trip(None)],
            StateName::HalfOpen => &[Order::Trip(None), Order::Probe],
            StateName::Disabled => &[Order::Disable],
            StateName::ForcedOpen => &[Order::ForceOpen(None)],
            StateName::MetricsOnly => &[Order::Observe],
        };
        for order in orders {
            self.bench.order(*order);
        }
    }

    fn advance_to(&mut self, now: Timestamp) {
        while let Some((at, order)) = self.timers.next(&self.bench).filter(|(at, _)| *at <= now) {
            self.bench.now = at;
            self.bench.order(order);
        }
        self.bench.now = now;
    }

    fn play(&mut self, step: &Step, context: &str) {
        let bench = &self.bench;
        let obeyed = match step.op {
            Op::Acquire { ok, call } => {
                let asked = bench.ask();
                assert_eq!(asked.is_ok(), ok, "admitted? {context}");
                self.calls.extend(call.zip(asked.ok()));
                true
            }
            Op::Success { call, .. } => self.end(call, Verdict::Success),
            Op::Failure { call, .. } => self.end(call, Verdict::Failure),
            // Released, and nothing recorded, also if it had been slow by then.
            Op::Ignore { call } | Op::IgnoredError { call, .. } => self.end(call, Verdict::Ignored),
            Op::Advance { .. } => true,
            Op::ForceOpen => bench.order(Order::ForceOpen(None)),
            Op::Disable => bench.order(Order::Disable),
            Op::Close | Op::Reset => bench.order(Order::Close),
            Op::Open => bench.order(Order::Trip(None)),
            Op::OpenFor { ms } => bench.order(Order::Trip(Some(Duration::from_millis(ms) + SMALLEST_STEP))),
            Op::HalfOpen => bench.order_half_open(),
            Op::MetricsOnly => bench.order(Order::Observe),
        };
        assert_eq!(obeyed, step.error.is_none(), "allowed? {context}");
    }

    fn end(&mut self, call: u32, verdict: Verdict) -> bool {
        let pass = self.calls.remove(&call).expect("the call was admitted");
        self.bench.end(&pass, verdict);
        true
    }

    fn compare(&self, seen: &Seen, context: &str) {
        let snapshot = self.bench.snapshot();
        assert_eq!(snapshot.state, state_of(seen.state), "state, {context}");
        let counts = [snapshot.calls, snapshot.failures, snapshot.slow, snapshot.slow_failures];
        let recorded = [seen.buffered, seen.failed, seen.slow, seen.slow_failed].map(u64::from);
        assert_eq!(counts, recorded, "calls, failures, slow, slow failures, {context}");
        let rates = [snapshot.failure_ratio, snapshot.slow_ratio];
        for (ours, theirs) in rates.into_iter().zip([seen.failure_rate, seen.slow_rate]) {
            // They say -1 where there is no rate, and count in 32-bit percent.
            let ours = ours.map_or(-1.0, |ratio| ratio * 100.0);
            assert!((ours - f64::from(theirs)).abs() < 1e-4, "rate {ours}, {context}");
        }
    }
}

pub(super) fn configured(config: &traces::Config) -> CircuitBreakerConfig {
    let window = match config.window {
        WindowKind::Count => Window::calls(config.size),
        WindowKind::Time => Window::time(Duration::from_secs(u64::from(config.size))).buckets(config.size),
    };
    CircuitBreakerConfig::new()
        .window(window)
        .min_calls(config.minimum_calls)
        .failure_ratio(config.failure_rate_threshold / 100.0)
        .slow_after(Duration::from_millis(config.slow_call_duration_ms))
        .slow_ratio(config.slow_call_rate_threshold / 100.0)
        // Recorded are calls that have ended.
        .slow_in_flight(false)
        .open_for(Duration::from_millis(config.wait_open_ms) + SMALLEST_STEP)
        .open_factor(config.wait_open_multiplier.unwrap_or(1.0))
        .max_open_for(
            config.wait_open_max_ms.map_or(Duration::MAX, |ms| Duration::from_millis(ms) + SMALLEST_STEP),
        )
        .open_jitter(0.0)
        .probes(config.permitted_half_open)
        .without_probe_timeout()
}

fn state_of(name: StateName) -> State {
    match name {
        StateName::Closed => State::Closed,
        StateName::Open => State::Open,
        StateName::HalfOpen => State::HalfOpen,
        StateName::Disabled => State::Disabled,
        StateName::ForcedOpen => State::ForcedOpen,
        StateName::MetricsOnly => State::ObserveOnly,
    }
}
