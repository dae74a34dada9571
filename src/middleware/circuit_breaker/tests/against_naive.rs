//! The circuit beside a naive model of its rules: the same calls, the same answers. The recorded scenarios with
//! late results go through here as well, since in those it differs from Resilience4j on purpose.

use std::time::Duration;

use proptest::prelude::*;

use super::conformance::configured;
use super::conformance::traces::{self, Op, StateName, WindowKind};
use super::{Bench, MS};
use crate::base::clock::Timestamp;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Pass, Verdict};
use crate::middleware::circuit_breaker::transition::State;

#[path = "../../../../tests/support/naive_breaker.rs"]
mod naive_breaker;

use naive_breaker::{Backoff, Config, Naive, NaivePermit, Outcome, Rules, Timers, Window};

/// What is done to both, and must have the same effect on both.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ask,
    /// Ends one of the calls under way, whichever the number falls on, of whatever age.
    End(usize, Verdict),
    Wait(Duration),
    Order(Order),
}

struct Pair {
    real: Bench,
    naive: Naive,
    calls: Vec<(Pass, NaivePermit)>,
}

impl Pair {
    fn new(config: &traces::Config, probe_timeout: Option<Duration>) -> Self {
        let real = configured(config);
        let real = probe_timeout.map_or_else(|| real.clone(), |limit| real.clone().probe_timeout(limit));
        let start = config.start_ms * MS;
        Self {
            real: Bench::starting_at(&real, Timestamp(start)),
            naive: Naive::new(naive(config, probe_timeout), start),
            calls: Vec::new(),
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.real.now.0;
        match action {
            Action::Wait(time) => self.real.advance(time),
            Action::Order(order) => {
                let obeyed = match order {
                    Order::Probe => self.real.order_half_open(),
                    _ => self.real.order(order),
                };
                assert_eq!(obeyed, self.order(order, now), "{order:?}");
            }
            Action::Ask => match (self.real.ask(), self.naive.acquire(now)) {
                (Ok(pass), Some(permit)) => self.calls.push((pass, permit)),
                (Err(_), None) => {}
                (real, naive) => panic!("{real:?}, and naively {naive:?}"),
            },
            Action::End(which, verdict) if !self.calls.is_empty() => {
                let (pass, permit) = self.calls.remove(which % self.calls.len());
                self.real.end(&pass, verdict);
                match verdict {
                    Verdict::Success => self.naive.finish(permit, now, Outcome::Success),
                    Verdict::Failure => self.naive.finish(permit, now, Outcome::Failure),
                    Verdict::Ignored | Verdict::Cancelled => self.naive.ignore(permit, now),
                }
            }
            Action::End(..) => {}
        }
    }

    fn order(&mut self, order: Order, now: u64) -> bool {
        match order {
            Order::Close => self.naive.close(now),
            Order::Trip(wait) => self.naive.open(now, wait.map(crate::base::clock::nanos)),
            Order::Probe => self.naive.half_open(now),
            Order::ForceOpen(_) => self.naive.force_open(now),
            Order::Disable => self.naive.disable(now),
            Order::Observe => self.naive.observe_only(now),
        }
        .is_ok()
    }

    fn compare(&mut self) {
        let now = self.real.now.0;
        let snapshot = self.real.snapshot();
        assert_eq!(snapshot.state, state_of(self.naive.state(now)));
        let counts = self.naive.counts(now);
        let naive = [counts.buffered, counts.failed, counts.slow, counts.slow_failed].map(u64::from);
        assert_eq!([snapshot.calls, snapshot.failures, snapshot.slow, snapshot.slow_failures], naive);
        let rates = self.naive.rates(now);
        let same = |real: Option<f64>, naive: Option<f64>| match (real, naive) {
            (Some(real), Some(naive)) => (real * 100.0 - naive).abs() < 1e-9,
            (real, naive) => real.is_none() && naive.is_none(),
        };
        assert!(same(snapshot.failure_ratio, rates.map(|rates| rates.failure)), "{snapshot:?}, {rates:?}");
        assert!(same(snapshot.slow_ratio, rates.map(|rates| rates.slow)), "{snapshot:?}, {rates:?}");
    }

    fn play(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            self.act(action);
            self.compare();
        }
    }
}

fn naive(config: &traces::Config, probe_timeout: Option<Duration>) -> Config {
    Config {
        rules: Rules { stanchion_differences: true },
        window: match config.window {
            WindowKind::Count => Window::Count(config.size),
            WindowKind::Time => Window::Time { buckets: u64::from(config.size), width_ns: 1_000 * MS },
        },
        min_calls: config.minimum_calls,
        failure_percent: config.failure_rate_threshold,
        slow_percent: config.slow_call_rate_threshold,
        slow_after: config.slow_call_duration_ms * MS,
        open_for: config.wait_open_ms * MS + 1,
        backoff: config.wait_open_multiplier.map(|multiplier| Backoff {
            multiplier,
            max: config.wait_open_max_ms.map(|max| max * MS + 1),
            unit: 1,
        }),
        probes: config.permitted_half_open,
        probe_timeout: probe_timeout.map(crate::base::clock::nanos),
        timers: Timers {
            auto_half_open: false,
            max_wait_half_open: None,
            after_max_wait: naive_breaker::State::Open,
        },
        initial: naive_breaker::State::Closed,
    }
}

fn state_of(state: naive_breaker::State) -> State {
    match state {
        naive_breaker::State::Closed => State::Closed,
        naive_breaker::State::Open => State::Open,
        naive_breaker::State::HalfOpen => State::HalfOpen,
        naive_breaker::State::Disabled => State::Disabled,
        naive_breaker::State::ForcedOpen => State::ForcedOpen,
        naive_breaker::State::ObserveOnly => State::ObserveOnly,
    }
}

#[test]
fn the_recorded_scenarios_with_late_results_end_alike() {
    let mut played = 0;
    for scenario in traces::load() {
        if !scenario.tags.iter().any(|tag| tag == "late") {
            continue;
        }
        let mut pair = Pair::new(&scenario.config, None);
        // Which call of the pair each recorded one is: calls leave the list when they end.
        let mut under_way = Vec::new();
        for step in &scenario.steps {
            let at = scenario.config.start_ms * MS + step.seen.t * MS;
            pair.real.now = Timestamp(at);
            let mut end = |call: u32, verdict| {
                let which = under_way.iter().position(|other| *other == call)?;
                under_way.remove(which);
                Some(Action::End(which, verdict))
            };
            let action = match step.op {
                Op::Acquire { call, .. } => {
                    let before = pair.calls.len();
                    pair.act(Action::Ask);
                    if pair.calls.len() > before {
                        // What was not admitted in the recording is never ended.
                        under_way.push(call.unwrap_or(u32::MAX));
                    }
                    None
                }
                Op::Success { call, .. } => end(call, Verdict::Success),
                Op::Failure { call, .. } => end(call, Verdict::Failure),
                Op::Ignore { call } | Op::IgnoredError { call, .. } => end(call, Verdict::Ignored),
                Op::Advance { .. } => None,
                Op::ForceOpen => Some(Action::Order(Order::ForceOpen(None))),
                Op::Disable => Some(Action::Order(Order::Disable)),
                Op::Close | Op::Reset => Some(Action::Order(Order::Close)),
                Op::Open => Some(Action::Order(Order::Trip(None))),
                Op::OpenFor { ms } => Some(Action::Order(Order::Trip(Some(Duration::from_millis(ms))))),
                Op::HalfOpen => Some(Action::Order(Order::Probe)),
                Op::MetricsOnly => Some(Action::Order(Order::Observe)),
            };
            if let Some(action) = action {
                pair.act(action);
            }
            pair.compare();
        }
        played += 1;
    }
    println!("played {played} scenarios with late results beside the naive model");
    assert_eq!(played, 219);
}

fn config() -> impl Strategy<Value = traces::Config> {
    let percent = || prop_oneof![Just(100.0), Just(50.0), Just(33.3), Just(10.0), Just(1.0)];
    let window = (prop_oneof![Just(WindowKind::Count), Just(WindowKind::Time)], 1..25_u32, 1..12_u32);
    let backoff = prop::option::of((1.0..4.0_f64, prop::option::of(60..500_u64)));
    let rest = (1..5_u32, 0..50_u64, 0..3_000_u64);
    (window, percent(), percent(), 0..40_u64, backoff, rest).prop_map(
        |((window, size, minimum_calls), failure, slow, slow_after, backoff, (probes, wait, start))| {
            traces::Config {
                window,
                size,
                minimum_calls,
                failure_rate_threshold: failure,
                slow_call_rate_threshold: slow,
                slow_call_duration_ms: slow_after,
                permitted_half_open: probes,
                wait_open_ms: wait,
                max_wait_half_open_ms: 0,
                start_ms: start,
                auto_half_open: false,
                after_half_open_wait: None::<StateName>,
                wait_open_multiplier: backoff.map(|(multiplier, _)| multiplier),
                wait_open_max_ms: backoff.and_then(|(_, max)| max),
                initial_state: None,
            }
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Success), 3 => Just(Verdict::Failure), 1 => Just(Verdict::Ignored),
    ];
    let order = prop_oneof![
        Just(Order::Close),
        Just(Order::Trip(None)),
        (0..100_u64).prop_map(|ms| Order::Trip(Some(Duration::from_millis(ms)))),
        Just(Order::Probe),
        Just(Order::ForceOpen(None)),
        Just(Order::Disable),
        Just(Order::Observe),
    ];
    let time = prop_oneof![6 => 0..30_u64, 2 => 30..400_u64, 1 => 400..40_000_u64];
    prop_oneof![
        8 => Just(Action::Ask),
        // The oldest first, most of the time; sometimes a very old one.
        6 => verdict.clone().prop_map(|verdict| Action::End(0, verdict)),
        2 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Action::End(which, verdict)),
        5 => time.prop_map(|ms| Action::Wait(Duration::from_millis(ms))),
        1 => order.prop_map(Action::Order),
    ]
}

proptest! {
    #[test]
    fn it_does_what_the_naive_model_does(
        config in config(),
        probe_timeout in prop::option::of(1..60_u64),
        actions in prop::collection::vec(action(), 1..250),
    ) {
        Pair::new(&config, probe_timeout.map(Duration::from_millis)).play(actions);
    }

    /// Without orders, so that the circuit goes round by itself.
    #[test]
    fn it_goes_round_as_the_naive_model_does(
        config in config(),
        actions in prop::collection::vec(action(), 1..400),
    ) {
        let actions = actions.into_iter().filter(|action| !matches!(action, Action::Order(_)));
        Pair::new(&config, Some(Duration::from_millis(25))).play(actions);
    }
}
