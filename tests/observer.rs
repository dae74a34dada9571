//! The events that observers and subscribers receive, their order, and what an observer may do.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::circuit_breaker::{Cause, Readiness, State, Transition};
use stanchion::classify::Class;
use stanchion::telemetry::{CallOutcome, Event, LayerId};
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error, Reason, RetryConfig, RetryHandle,
    RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, Window,
};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// Opens at two failures in four calls, for a second, with two trial calls.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(4))
        .min_calls(4)
        .open_for(SECOND)
        .open_jitter(0.0)
        .probes(2)
}

fn layer() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config()).name("payments")
}

/// Records events, one short word or line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn by(&self, layer: CircuitBreakerLayer) -> CircuitBreakerLayer {
        let heard = self.clone();
        layer.observer(move |_: &LayerId, event: &Event<'_>| {
            // The life of a circuit has its own test.
            if !matches!(event, Event::StateCreated { .. } | Event::StateDropped { .. }) {
                heard.0.lock().unwrap().push(line(event));
            }
        })
    }

    /// Returns the events since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::Call { outcome, slow: false, .. } => outcome.as_str().to_owned(),
        Event::Call { outcome, slow: true, .. } => format!("slow {}", outcome.as_str()),
        Event::Rejected(rejected) => rejected.reason().as_str().to_owned(),
        Event::StateChanged { from, to, .. } => format!("{from} -> {to}"),
        Event::WouldChange { to, .. } => format!("would be {to}"),
        other => panic!("{other:?}"),
    }
}

type Failure = Error<Fault>;

/// A service that returns what its request says, and never ends without a request.
fn service(
    layer: &CircuitBreakerLayer,
) -> impl Service<Option<bool>, Response = (), Error = Failure, Future: Send> + Clone + use<> {
    layer.layer(service_fn(|end| async move {
        match end {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Inner(Fault("failed"))),
            None => std::future::pending().await,
        }
    }))
}

fn fail(handle: &CircuitBreakerHandle, times: usize) {
    for _ in 0..times {
        handle.try_acquire().unwrap().finish(Class::Failure);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_says_which_layer_it_comes_from() {
    let sources = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&sources);
    let layer = layer().observer(move |source: &LayerId, _: &Event<'_>| seen.lock().unwrap().push(*source));
    layer.handle().force_open();
    let _ = service(&layer).oneshot(Some(true)).await;
    let sources = sources.lock().unwrap();
    assert_eq!(sources.len(), 3);
    for source in &*sources {
        assert_eq!((source.module, source.name), ("circuit_breaker", "payments"));
    }
}

// Calls.

#[tokio::test(start_paused = true)]
async fn each_call_is_one_event_with_its_outcome() {
    let heard = Heard::default();
    let layer = heard.by(layer()).classify(|result: Result<&u32, &Failure>| match result {
        Ok(_) => Class::Success,
        Err(Error::Inner(Fault("not found"))) => Class::Ignored,
        Err(_) => Class::Failure,
    });
    let mut service = layer.layer(service_fn(|end: Result<u32, &'static str>| async move {
        match end {
            Err("never") => std::future::pending().await,
            end => end.map_err(|error| Error::Inner(Fault(error))),
        }
    }));
    let mut call = async |end| service.ready().await.unwrap().call(end).await;
    call(Ok(1)).await.unwrap();
    call(Err("not found")).await.unwrap_err();
    call(Err("broken")).await.unwrap_err();
    assert_eq!(heard.take(), ["success", "ignored", "failure"]);
    {
        let mut dropped = task::spawn(call(Err("never")));
        assert_pending!(dropped.poll());
        assert_eq!(heard.take(), [""; 0]);
    }
    assert_eq!(heard.take(), ["cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_tells_how_long_it_took_and_whether_it_was_slow() {
    let calls = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&calls);
    let layer = CircuitBreakerLayer::new(config().slow_after(SECOND)).observer(
        move |_: &LayerId, event: &Event<'_>| {
            if let Event::Call { outcome, slow, latency, .. } = event {
                seen.lock().unwrap().push((*outcome, *slow, *latency));
            }
        },
    );
    let handle = layer.handle();
    let (limit, more) = (SECOND, SECOND + Duration::from_nanos(1));
    for (time, class) in [
        (Duration::ZERO, Class::Success),
        (limit, Class::Success),
        (more, Class::Failure),
        (more, Class::Success),
    ] {
        let permit = handle.try_acquire().unwrap();
        advance(time).await;
        permit.finish(class);
        handle.reset();
    }
    let permit = handle.try_acquire().unwrap();
    advance(more).await;
    drop(permit);
    assert_eq!(
        *calls.lock().unwrap(),
        [
            (CallOutcome::Success, false, Duration::ZERO),
            (CallOutcome::Success, false, limit),
            (CallOutcome::Failure, true, more),
            (CallOutcome::Success, true, more),
            (CallOutcome::Cancelled, true, more),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_one_event() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    layer.handle().force_open();
    heard.take();
    for _ in 0..3 {
        service(&layer).oneshot(Some(true)).await.unwrap_err();
    }
    assert_eq!(heard.take(), ["circuit_open"; 3]);
    layer.handle().try_acquire().unwrap_err();
    layer.handle().run(async { Ok::<_, Failure>(()) }).await.unwrap_err();
    assert_eq!(heard.take(), ["circuit_open"; 2]);
}

/// Buffers, balancers and `ready_cache` call `poll_ready` again and again.
#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_one_event_however_often_poll_ready_is_called() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    let mut service = service(&layer);
    layer.handle().force_open();
    heard.take();
    for _ in 0..5 {
        service.ready().await.unwrap();
    }
    service.call(Some(true)).await.unwrap_err();
    assert_eq!(heard.take(), ["circuit_open"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_one_event_though_the_inner_service_was_ready() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    let mut service = service(&layer);
    service.ready().await.unwrap();
    layer.handle().force_open();
    heard.take();
    service.ready().await.unwrap();
    service.call(Some(true)).await.unwrap_err();
    assert_eq!(heard.take(), ["circuit_open"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_asked_whether_it_is_ready_and_not_called_is_no_event() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    service(&layer).ready().await.unwrap();
    assert_eq!(heard.take(), [""; 0], "closed");
    layer.handle().force_open();
    heard.take();
    service(&layer).ready().await.unwrap();
    assert_eq!(heard.take(), [""; 0], "open");
}

/// The slot that `poll_ready` reserves is not a call yet.
#[tokio::test(start_paused = true)]
async fn a_trial_call_that_is_reserved_and_not_made_is_no_event() {
    let heard = Heard::default();
    let layer = heard.by(layer().readiness(Readiness::Pending));
    layer.handle().trip_for(Duration::ZERO);
    layer.handle().probe();
    heard.take();
    let mut service = service(&layer);
    service.ready().await.unwrap();
    drop(service);
    assert_eq!(heard.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_call_whose_reservation_is_void_is_one_event() {
    let heard = Heard::default();
    let layer = heard.by(layer().readiness(Readiness::Pending));
    layer.handle().trip_for(Duration::ZERO);
    layer.handle().probe();
    let mut service = service(&layer);
    service.ready().await.unwrap();
    layer.handle().reset();
    heard.take();
    service.call(Some(true)).await.unwrap();
    assert_eq!(heard.take(), ["success"]);
}

/// A balancer keeps services ready for a while without calling them. That is not slow.
#[tokio::test(start_paused = true)]
async fn a_trial_call_that_is_reserved_for_long_is_not_slow() {
    let heard = Heard::default();
    let config = config().slow_after(SECOND).slow_ratio(1.0).probes(1);
    let layer = heard.by(CircuitBreakerLayer::new(config).readiness(Readiness::Pending));
    let handle = layer.handle();
    for is_asked in [false, true] {
        handle.trip_for(Duration::ZERO);
        handle.probe();
        heard.take();
        let mut service = service(&layer);
        service.ready().await.unwrap();
        advance(2 * SECOND).await;
        if is_asked {
            handle.try_acquire().unwrap_err();
        }
        drop(service);
        assert_eq!(handle.state(), State::HalfOpen);
        heard.take();
        handle.try_acquire().unwrap().finish(Class::Success);
        assert_eq!(heard.take(), ["success", "half_open -> closed"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_poll_ready_is_a_failed_call() {
    let heard = Heard::default();
    let mut service = heard.by(layer()).layer(Unready { panics: false });
    for _ in 0..3 {
        assert!(poll_fn(|cx| service.poll_ready(cx)).await.is_err());
    }
    assert_eq!(heard.take(), ["failure"; 3]);
}

/// A panic of the service is a failure, in `poll_ready` as in `call`.
#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_is_a_failed_call() {
    let heard = Heard::default();
    let mut service = heard.by(layer()).layer(Unready { panics: true });
    for _ in 0..3 {
        let poll = || task::spawn(()).enter(|cx, _| service.poll_ready(cx));
        assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    }
    assert_eq!(heard.take(), ["failure"; 3]);
}

/// No call was made, so none was rejected.
#[tokio::test(start_paused = true)]
async fn a_failed_poll_ready_is_never_a_rejected_call() {
    let heard = Heard::default();
    let layer = heard.by(CircuitBreakerLayer::new(
        config().ramp(1_000 * SECOND).without_failure_ratio().slow_after(SECOND),
    ));
    let handle = layer.handle();
    handle.trip_for(Duration::ZERO);
    for _ in 0..2 {
        handle.try_acquire().unwrap().finish(Class::Success);
    }
    assert_eq!(handle.state(), State::Recovering);
    heard.take();
    let mut service = layer.layer(Unready { panics: false });
    for _ in 0..10 {
        assert!(poll_fn(|cx| service.poll_ready(cx)).await.is_err());
    }
    assert_eq!(heard.take(), ["failure"; 10]);
}

/// Like a client that cannot connect.
struct Unready {
    panics: bool,
}

impl Service<()> for Unready {
    type Response = ();
    type Error = Failure;
    type Future = std::future::Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        assert!(!self.panics, "poll_ready of the inner service");
        Poll::Ready(Err(Error::Inner(Fault("cannot connect"))))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("never ready")
    }
}

// Transitions.

#[tokio::test(start_paused = true)]
async fn transitions_arrive_with_their_causes_in_the_order_in_which_they_happen() {
    let causes = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&causes);
    let layer =
        CircuitBreakerLayer::new(config().ramp(SECOND)).observer(move |_: &LayerId, event: &Event<'_>| {
            if let Event::StateChanged { from, to, refuses, cause, .. } = event {
                seen.lock().unwrap().push(format!("{from} -> {to}: {cause}"));
                assert_eq!(*refuses, *to == "open");
            }
        });
    let handle = layer.handle();
    handle.try_acquire().unwrap().finish(Class::Success);
    fail(&handle, 3);
    advance(SECOND).await;
    for _ in 0..2 {
        handle.try_acquire().unwrap().finish(Class::Success);
    }
    advance(SECOND).await;
    handle.try_acquire().unwrap().finish(Class::Success);
    assert_eq!(
        *causes.lock().unwrap(),
        [
            "closed -> open: 75% of 4 calls failed, threshold 50%",
            "open -> half_open: the wait of 1s is over",
            "half_open -> recovering: 2 trial calls went well",
            "recovering -> closed: all calls admitted after 1s",
        ]
    );
}

/// The call that opens the circuit is reported before the opening, and rejections after it.
#[tokio::test(start_paused = true)]
async fn calls_and_transitions_arrive_in_the_order_in_which_they_happen() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    fail(&layer.handle(), 4);
    layer.handle().try_acquire().unwrap_err();
    advance(SECOND).await;
    fail(&layer.handle(), 2);
    assert_eq!(
        heard.take(),
        [
            "failure",
            "failure",
            "failure",
            "failure",
            "closed -> open",
            "circuit_open",
            "open -> half_open",
            "failure",
            "failure",
            "half_open -> open"
        ]
    );
}

#[test]
fn transitions_of_two_threads_arrive_as_one_unbroken_chain() {
    let chain = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&chain);
    let layer = layer().observer(move |_: &LayerId, event: &Event<'_>| {
        if let Event::StateChanged { from, to, .. } = event {
            seen.lock().unwrap().push((*from, *to));
        }
    });
    let handle = layer.handle();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let handle = &handle;
            scope.spawn(move || {
                for round in 0..200 {
                    match (thread + round) % 4 {
                        0 => handle.force_open(),
                        1 => drop(handle.trip()),
                        2 => drop(handle.probe()),
                        _ => handle.reset(),
                    }
                }
            });
        }
    });
    let chain = chain.lock().unwrap();
    assert!(chain.len() > 1);
    let mut state = "closed";
    for (from, to) in &*chain {
        assert_eq!(*from, state, "a transition is missing, or in the wrong place");
        state = to;
    }
    assert_eq!(state, handle.state().as_str(), "the last transition was not told");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_only_observes_says_what_it_would_do() {
    let heard = Heard::default();
    let layer = heard.by(layer());
    layer.handle().observe_only();
    heard.take();
    fail(&layer.handle(), 6);
    let mut said = heard.take();
    said.retain(|line| line != "failure");
    assert_eq!(said, ["would be open"]);
    assert_eq!(layer.handle().state(), State::ObserveOnly);
}

// Observers that misbehave.

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_no_call_and_no_other_observer() {
    let heard = Heard::default();
    let panics = layer().observer(|_: &LayerId, _: &Event<'_>| panic!("observer"));
    let layer = heard.by(panics);
    let handle = layer.handle();
    let mut service = service(&layer);
    service.ready().await.unwrap().call(Some(true)).await.unwrap();
    for _ in 0..3 {
        let failed = service.ready().await.unwrap().call(Some(false)).await;
        assert_eq!(failed, Err(Error::Inner(Fault("failed"))));
    }
    assert_eq!(handle.state(), State::Open);
    let refused = service.ready().await.unwrap().call(Some(true)).await;
    assert!(matches!(refused, Err(Error::Rejected(_))));
    assert_eq!(heard.take(), ["success", "failure", "failure", "failure", "closed -> open", "circuit_open"]);
    handle.reset();
    service.ready().await.unwrap().call(Some(true)).await.unwrap();
    assert_eq!(heard.take(), ["open -> closed", "success"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_while_a_call_panics_does_not_abort() {
    let layer = layer().observer(|_: &LayerId, _: &Event<'_>| panic!("observer"));
    let handle = layer.handle();
    let mut service = layer
        .layer(service_fn(|(): ()| async { if true { panic!("service") } else { Ok::<_, Failure>(()) } }));
    for _ in 0..4 {
        let mut call = task::spawn(service.ready().await.unwrap().call(()));
        assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_control_the_circuit_from_an_event() {
    let heard = Heard::default();
    let handle = Arc::new(OnceLock::<CircuitBreakerHandle>::new());
    let operator = Arc::clone(&handle);
    let orders = layer().observer(move |_: &LayerId, event: &Event<'_>| {
        if let Event::StateChanged { to: "open", .. } = event {
            operator.get().unwrap().force_open();
        }
    });
    let layer = heard.by(orders);
    handle.set(layer.handle()).unwrap();
    fail(&layer.handle(), 4);
    assert_eq!(layer.handle().state(), State::ForcedOpen);
    let mut said = heard.take();
    said.retain(|line| line != "failure");
    assert_eq!(said, ["closed -> open", "open -> forced_open"], "in the order in which it happened");
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_inspect_and_reconfigure_the_circuit_from_an_event() {
    let seen = Arc::new(Mutex::new(vec![]));
    let states = Arc::clone(&seen);
    let handle = Arc::new(OnceLock::<CircuitBreakerHandle>::new());
    let operator = Arc::clone(&handle);
    let layer = layer().observer(move |_: &LayerId, event: &Event<'_>| {
        if let Event::StateChanged { .. } = event {
            let handle = operator.get().unwrap();
            let snapshot = handle.snapshot();
            assert_eq!(handle.state(), snapshot.state);
            states.lock().unwrap().push(snapshot.state);
            handle.reconfigure(config().window(Window::calls(8))).unwrap();
            let _ = handle.try_acquire().map(drop);
            drop(handle.subscribe());
            handle.restore(&handle.save());
        }
    });
    handle.set(layer.handle()).unwrap();
    fail(&layer.handle(), 4);
    layer.handle().reset();
    assert_eq!(*seen.lock().unwrap(), [State::Open, State::Closed]);
}

/// Observers run without a lock, so the circuit works while one of them takes its time.
#[test]
fn an_observer_that_blocks_holds_up_only_the_thread_it_is_called_on() {
    let (told, wait_for_told) = channel();
    let (go_on, wait_to_go_on) = channel::<()>();
    let wait_to_go_on = Mutex::new(wait_to_go_on);
    let heard = Heard::default();
    let blocks = layer().observer(move |_: &LayerId, event: &Event<'_>| {
        if let Event::StateChanged { to: "open", .. } = event {
            told.send(()).unwrap();
            wait_to_go_on.lock().unwrap().recv().unwrap();
        }
    });
    let layer = heard.by(blocks);
    let handle = layer.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| fail(&handle, 4));
        wait_for_told.recv().unwrap();
        handle.try_acquire().unwrap_err();
        assert_eq!(handle.snapshot().state, State::Open);
        handle.reset();
        handle.try_acquire().unwrap().finish(Class::Success);
        handle.disable();
        go_on.send(()).unwrap();
    });
    let mut said = heard.take();
    said.retain(|line| line.contains("->"));
    assert_eq!(said, ["closed -> open", "open -> closed", "closed -> disabled"]);
}

// Subscribers.

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_the_transitions_from_now_on_in_order() {
    let handle = layer().handle();
    handle.force_open();
    handle.reset();
    let mut transitions = handle.subscribe();
    assert_eq!(transitions.try_recv(), Err(TryRecvError::Empty), "the past");
    fail(&handle, 4);
    advance(SECOND).await;
    for _ in 0..2 {
        handle.try_acquire().unwrap().finish(Class::Success);
    }
    let mut next = async || transitions.recv().await.unwrap();
    let opened = next().await;
    assert_eq!((opened.from, opened.to, opened.open_for), (State::Closed, State::Open, Some(SECOND)));
    assert!(matches!(opened.cause, Cause::FailureRatio { measured: 1.0, threshold: 0.5, calls: 4, .. }));
    let Transition { from, to, cause, open_for, .. } = next().await;
    assert_eq!((from, to, open_for), (State::Open, State::HalfOpen, None));
    assert!(matches!(cause, Cause::WaitElapsed { wait: SECOND, .. }), "{cause}");
    let Transition { from, to, cause, open_for, .. } = next().await;
    assert_eq!((from, to, open_for), (State::HalfOpen, State::Closed, None));
    assert!(matches!(cause, Cause::ProbesSucceeded { calls: 2, .. }), "{cause}");
    assert_eq!(transitions.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_waits_is_woken() {
    let handle = layer().handle();
    let mut transitions = handle.subscribe();
    let mut waiting = task::spawn(transitions.recv());
    assert_pending!(waiting.poll());
    handle.force_open();
    assert!(waiting.is_woken());
    assert_eq!(assert_ready!(waiting.poll()).unwrap().to, State::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_falls_behind_is_told_what_it_missed() {
    let handle = layer().handle();
    let mut transitions = handle.subscribe();
    for _ in 0..50 {
        handle.force_open();
        handle.reset();
    }
    assert_eq!(transitions.recv().await, Err(RecvError::Lagged(100 - 64)));
    let mut last = None;
    while let Ok(transition) = transitions.try_recv() {
        last = Some(transition.to);
    }
    assert_eq!(last, Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscriber_affects_no_other() {
    let handle = layer().handle();
    let gone = handle.subscribe();
    let mut stays = handle.subscribe();
    drop(gone);
    handle.force_open();
    assert_eq!(stays.recv().await.unwrap().to, State::ForcedOpen);
    drop(stays);
    handle.reset();
    let mut late = handle.subscribe();
    handle.disable();
    assert_eq!(late.recv().await.unwrap().to, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn subscribers_end_with_the_circuit() {
    let layer = layer();
    let mut transitions = layer.handle().subscribe();
    drop(layer);
    assert_eq!(transitions.recv().await, Err(RecvError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_says_when_it_begins_and_when_it_ends() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let layer = layer().observer(move |_: &LayerId, event: &Event<'_>| match event {
        Event::StateCreated { state, .. } => hearing.lock().unwrap().push(("began", *state)),
        Event::StateDropped { state, .. } => hearing.lock().unwrap().push(("ended", *state)),
        _ => {}
    });
    assert_eq!(*heard.lock().unwrap(), [], "a layer that nobody uses has no circuit");
    let handle = layer.handle();
    let fresh = layer.with_new_state();
    handle.force_open();
    drop((layer, handle));
    drop(fresh);
    let heard = heard.lock().unwrap();
    let expected = [("began", "closed"), ("began", "closed"), ("ended", "forced_open"), ("ended", "closed")];
    assert_eq!(*heard, expected);
}

// Retries. Their own tests cover the events in detail.

#[tokio::test(start_paused = true)]
async fn a_retry_layer_reports_events_in_order() {
    let told = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&told);
    let layer = RetryLayer::new(RetryConfig::new().max_attempts(2)).name("payments").observer(
        move |source: &LayerId, event: &Event<'_>| {
            assert_eq!((source.module, source.name), ("retry", "payments"));
            let event = format!("{event:?}");
            seen.lock().unwrap().push(event.split([' ', ',']).take(4).collect::<Vec<_>>().join(" "));
        },
    );
    let failed =
        layer.layer(service_fn(|()| async { Err::<(), _>(Error::Inner(Fault("failed"))) })).oneshot(()).await;
    assert_eq!(failed, Err(Error::Inner(Fault("failed"))));
    assert_eq!(
        *told.lock().unwrap(),
        [
            "Attempt(1: failure)",
            "Budget(0.9)",
            "Action(retried after attempt 1",
            "Attempt(2: failure)",
            "Action(exhausted after attempt 2"
        ]
    );
}

/// An observer may even forbid the attempt that the event reports, and the call continues.
#[tokio::test(start_paused = true)]
async fn an_observer_of_retries_may_call_back_and_may_panic() {
    let handle = Arc::new(OnceLock::<RetryHandle<_>>::new());
    let called = Arc::clone(&handle);
    let layer =
        RetryLayer::new(RetryConfig::new().max_attempts(9)).observer(move |_: &LayerId, _: &Event<'_>| {
            let handle = called.get().unwrap();
            handle.reconfigure(handle.config().max_attempts(2)).unwrap();
            panic!("in an observer");
        });
    assert!(handle.set(layer.handle()).is_ok());
    let mut attempts = 0;
    let run = layer.handle();
    let answer = run.run(|| {
        attempts += 1;
        async { Err::<(), Failure>(Failure::Inner(Fault("failed"))) }
    });
    assert_eq!(answer.await, Err(Failure::Inner(Fault("failed"))));
    assert_eq!(attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_is_one_event_and_any_other_none() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let events = Arc::clone(&heard);
    let layer = TimeoutLayer::per_attempt(SECOND).name("slow").observer(
        move |source: &LayerId, event: &Event<'_>| {
            events.lock().unwrap().push(format!("{}/{}: {}", source.module, source.name, line(event)));
        },
    );
    let handle = layer.handle();
    handle.run(async { Ok::<_, Failure>(()) }).await.unwrap();
    handle.run(async { Err::<(), Failure>(Failure::Inner(Fault("broken"))) }).await.unwrap_err();
    drop(handle.run(std::future::pending::<Result<(), Failure>>()));
    assert!(heard.lock().unwrap().is_empty());
    handle.run(std::future::pending::<Result<(), Failure>>()).await.unwrap_err();
    assert_eq!(*heard.lock().unwrap(), ["timeout/slow: attempt_timeout"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_no_call_that_is_given_up() {
    let layer = TimeoutLayer::after(SECOND).observer(|_: &LayerId, _: &Event<'_>| panic!("an observer"));
    let given_up = layer.handle().run(std::future::pending::<Result<(), Failure>>()).await.unwrap_err();
    assert_eq!(given_up.rejected().map(|rejected| rejected.reason()), Some(Reason::TotalTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_one_event_and_any_other_none() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let events = Arc::clone(&heard);
    let layer = ThrottleLayer::new(ThrottleConfig::new()).name("thrifty").observer(
        move |source: &LayerId, event: &Event<'_>| {
            events.lock().unwrap().push(format!("{}/{}: {}", source.module, source.name, line(event)));
        },
    );
    let mut service =
        layer.layer(service_fn(|()| std::future::ready(Err::<(), _>(Failure::Inner(Fault("broken"))))));
    for _ in 0..10 {
        service.call(()).await.unwrap_err();
    }
    assert!(heard.lock().unwrap().is_empty());
    while layer.handle().snapshot().refused < 2 {
        service.call(()).await.unwrap_err();
    }
    assert_eq!(*heard.lock().unwrap(), ["throttle/thrifty: throttled"; 2]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_no_throttle() {
    let layer = ThrottleLayer::new(ThrottleConfig::new())
        .observer(|_: &LayerId, _: &Event<'_>| panic!("an observer"));
    let mut service =
        layer.layer(service_fn(|()| std::future::ready(Err::<(), _>(Failure::Inner(Fault("broken"))))));
    while layer.handle().snapshot().refused == 0 {
        service.call(()).await.unwrap_err();
    }
}
