//! Replays what Resilience4j was recorded to do through the real service under paused time: layers, futures,
//! handle and all. The circuit alone replays every scenario in its unit tests; here are those that need no
//! timers of Resilience4j's own.

#![allow(clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use stanchion::circuit_breaker::{PersistedState, State};
use stanchion::classify::Class;
use stanchion::{
    CarryRejected, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Rejected, Window,
};
use tokio::sync::oneshot;
use tokio_test::task;
use tower::{Layer, Service, service_fn};

#[path = "support/traces.rs"]
mod traces;

use traces::{Config, Op, Scenario, Seen, StateName, WindowKind};

/// A circuit here probes after exactly its wait, one in Resilience4j right after it.
const SMALLEST_STEP: Duration = Duration::from_nanos(1);

#[derive(Debug)]
enum CallError {
    Rejected,
    Failed,
    Ignored,
}

impl CarryRejected for CallError {
    fn from_rejected(_: Rejected) -> Self {
        Self::Rejected
    }

    fn rejected(&self) -> Option<Rejected> {
        None
    }
}

/// The other end of a call: how it ends.
type Ending = oneshot::Sender<Result<(), CallError>>;

fn classify(result: Result<&(), &CallError>) -> Class {
    match result {
        Ok(()) => Class::Success,
        Err(CallError::Ignored) => Class::Ignored,
        Err(_) => Class::Failure,
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_does_what_was_recorded() {
    let mut by_tag = BTreeMap::<String, usize>::new();
    let mut replayed = 0;
    for scenario in traces::load() {
        let left_out = ["late", "quirk", "auto", "max_wait"];
        if scenario.tags.iter().any(|tag| left_out.contains(&tag.as_str())) {
            continue;
        }
        replay(&scenario).await;
        replayed += 1;
        for tag in scenario.tags {
            *by_tag.entry(tag).or_default() += 1;
        }
    }
    println!("replayed {replayed} scenarios through the service, by tag: {by_tag:?}");
    assert!(replayed > 100, "{replayed} scenarios");
}

async fn replay(scenario: &Scenario) {
    let layer = CircuitBreakerLayer::new(configured(&scenario.config)).classify(classify);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|ending: oneshot::Receiver<Result<(), CallError>>| async {
        ending.await.expect("every call is ended by hand")
    }));
    // Time windows are cut at whole seconds of the recording's clock.
    tokio::time::advance(Duration::from_millis(scenario.config.start_ms % 1_000)).await;
    begin_in(&handle, scenario.config.initial_state);
    let mut calls = BTreeMap::new();
    let mut elapsed = 0;
    for (index, step) in scenario.steps.iter().enumerate() {
        let context = format!("{}, step {index}: {step:?}", scenario.id);
        tokio::time::advance(Duration::from_millis(step.seen.t - elapsed)).await;
        elapsed = step.seen.t;
        let obeyed = match step.op {
            Op::Acquire { ok, call } => {
                let (ending, waiting) = oneshot::channel::<Result<(), CallError>>();
                let mut ready = task::spawn(());
                ready.enter(|cx, _| match Service::<oneshot::Receiver<_>>::poll_ready(&mut service, cx) {
                    Poll::Ready(Ok(())) => {}
                    other => panic!("{other:?}, {context}"),
                });
                let mut future = task::spawn(service.call(waiting));
                let admitted = match future.poll() {
                    Poll::Pending => true,
                    Poll::Ready(Err(CallError::Rejected)) => false,
                    Poll::Ready(other) => panic!("{other:?}, {context}"),
                };
                assert_eq!(admitted, ok, "admitted? {context}");
                calls.extend(call.map(|call| (call, (future, ending))));
                true
            }
            Op::Success { call, .. } => end(calls.remove(&call), Ok(()), &context),
            Op::Failure { call, .. } => end(calls.remove(&call), Err(CallError::Failed), &context),
            Op::Ignore { call } | Op::IgnoredError { call, .. } => {
                end(calls.remove(&call), Err(CallError::Ignored), &context)
            }
            Op::Advance { .. } => true,
            op => order(&handle, op),
        };
        assert_eq!(obeyed, step.error.is_none(), "allowed? {context}");
        compare(&handle, &step.seen, &context);
    }
}

fn end<F>(call: Option<(task::Spawn<F>, Ending)>, ending: Result<(), CallError>, context: &str) -> bool
where
    F: Future<Output = Result<(), CallError>>,
{
    let (mut future, end) = call.expect("the call was admitted");
    end.send(ending).expect("the call is under way");
    assert!(future.is_woken(), "the caller is told, {context}");
    assert!(future.poll().is_ready(), "it has ended, {context}");
    true
}

fn order(handle: &CircuitBreakerHandle, op: Op) -> bool {
    match op {
        Op::ForceOpen => handle.force_open(),
        Op::Disable => handle.disable(),
        Op::Close => handle.reset(),
        Op::Reset => handle.reset(),
        Op::MetricsOnly => handle.observe_only(),
        Op::Open => return handle.trip(),
        Op::HalfOpen => {
            // Resilience4j probes from a disabled circuit, too. Here that is no order, but a saved state may be half-open.
            if handle.state() == State::Disabled {
                handle.restore(&PersistedState::new(State::HalfOpen));
            }
            return handle.probe();
        }
        Op::OpenFor { ms } => return handle.trip_for(Duration::from_millis(ms) + SMALLEST_STEP),
        Op::Acquire { .. }
        | Op::Success { .. }
        | Op::Failure { .. }
        | Op::Ignore { .. }
        | Op::IgnoredError { .. }
        | Op::Advance { .. } => unreachable!("no order"),
    }
    true
}

fn begin_in(handle: &CircuitBreakerHandle, state: Option<StateName>) {
    match state {
        None | Some(StateName::Closed) => {}
        Some(StateName::Open) => assert!(handle.trip()),
        Some(StateName::HalfOpen) => assert!(handle.trip() && handle.probe()),
        Some(StateName::Disabled) => handle.disable(),
        Some(StateName::ForcedOpen) => handle.force_open(),
        Some(StateName::MetricsOnly) => handle.observe_only(),
    }
}

fn compare(handle: &CircuitBreakerHandle, seen: &Seen, context: &str) {
    let snapshot = handle.snapshot();
    let state = match seen.state {
        StateName::Closed => State::Closed,
        StateName::Open => State::Open,
        StateName::HalfOpen => State::HalfOpen,
        StateName::Disabled => State::Disabled,
        StateName::ForcedOpen => State::ForcedOpen,
        StateName::MetricsOnly => State::ObserveOnly,
    };
    assert_eq!(snapshot.state, state, "{context}");
    let counts = [snapshot.calls, snapshot.failures, snapshot.slow, snapshot.slow_failures];
    let recorded = [seen.buffered, seen.failed, seen.slow, seen.slow_failed].map(u64::from);
    assert_eq!(counts, recorded, "calls, failures, slow, slow failures, {context}");
    assert_eq!(snapshot.failure_ratio.is_none(), seen.failure_rate < 0.0, "{context}");
}

fn configured(config: &Config) -> CircuitBreakerConfig {
    let window = match config.window {
        WindowKind::Count => Window::calls(config.size),
        WindowKind::Time => Window::time(Duration::from_secs(u64::from(config.size))).buckets(config.size),
    };
    let cap = config.wait_open_max_ms.map_or(Duration::MAX, |ms| Duration::from_millis(ms) + SMALLEST_STEP);
    CircuitBreakerConfig::new()
        .window(window)
        .min_calls(config.minimum_calls)
        .failure_ratio(config.failure_rate_threshold / 100.0)
        .slow_after(Duration::from_millis(config.slow_call_duration_ms))
        .slow_ratio(config.slow_call_rate_threshold / 100.0)
        .slow_in_flight(false)
        .open_for(Duration::from_millis(config.wait_open_ms) + SMALLEST_STEP)
        .open_factor(config.wait_open_multiplier.unwrap_or(1.0))
        .max_open_for(cap)
        .open_jitter(0.0)
        .probes(config.permitted_half_open)
        .without_probe_timeout()
}
