//! The measurements and events of a hedge layer, and hedges around and inside of other layers.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/script.rs"]
mod script;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use script::{
    Answer, DELAY, LONG, MS, NOW, Protocol, Request, SOME, Script, after, call, config, failed, layer,
    tokens, with,
};
use stanchion::classify::{Asking, Class};
use stanchion::hedge::HedgeDelay;
use stanchion::protocol::clone_with;
use stanchion::telemetry::{Event, LayerId};
use stanchion::{
    Budget, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, HedgeConfig, HedgeLayer, RetryConfig,
    RetryLayer,
};
use tokio::time::{advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt};

// The quantile.

fn quantile(quantile: f64) -> HedgeConfig {
    HedgeConfig::new().delay(HedgeDelay::quantile(quantile))
}

/// Makes this many calls, whose originals and copies take this long.
async fn calls(service: &mut Hedged, script: &Script, number: u32, original: Duration, copy: Duration) {
    for _ in 0..number {
        script.steps.lock().unwrap().clear();
        script.add([after(original, Ok("a")), after(copy, Ok("b"))]);
        call(service, Request::default()).await.0.unwrap();
    }
}

type Hedged = stanchion::Hedge<Script, Asking<Protocol>>;

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_until_the_quantile_is_known() {
    let layer = with(quantile(0.95).min_samples(20));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 19, SOME, MS).await;
    assert_eq!(layer.handle().delay(), None);
    script.steps.lock().unwrap().clear();
    script.add([after(LONG, failed("original"))]);
    assert_eq!(call(&mut service, Request::default()).await.0, failed("original"));
    assert_eq!(layer.handle().delay(), None, "an original that failed says nothing");
    calls(&mut service, &script, 1, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    let delay = layer.handle().delay().unwrap();
    assert!((SOME..SOME + MS).contains(&delay), "{delay:?}");
    assert_eq!(script.times().len(), 21);
    calls(&mut service, &script, 1, LONG, MS).await;
    assert_eq!(script.times().len(), 23);
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_not_below_the_minimum_and_nothing_is_hedged_from_the_maximum_on() {
    for (latency, expected) in [(MS, Some(10 * MS)), (20 * MS, Some(20 * MS)), (99 * MS, None)] {
        let delay = HedgeDelay::Quantile { quantile: 0.5, min: 10 * MS, max: 99 * MS };
        let layer = with(HedgeConfig::new().delay(delay).min_samples(1));
        let script = Script::new([]);
        let mut service = layer.layer(script.clone());
        calls(&mut service, &script, 10, latency, MS).await;
        advance(4 * 1_000 * MS).await;
        let delay = layer.handle().delay();
        assert_eq!(delay.is_some(), expected.is_some());
        assert!(delay.unwrap_or_default().abs_diff(expected.unwrap_or_default()) <= MS, "{delay:?}");
        let before = script.times().len();
        calls(&mut service, &script, 1, LONG, MS).await;
        assert_eq!(script.times().len() - before, 1 + usize::from(expected.is_some()));
    }
}

/// Nine of ten calls are fast. If the slow ones did not count because they lost to copies or were
/// given up, the quantile would be that of the fast calls.
#[tokio::test(start_paused = true)]
async fn superseded_originals_count() {
    let layer = with(quantile(0.8).window(LONG).min_samples(10)).budget(Budget::unlimited());
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    for _ in 0..300 {
        calls(&mut service, &script, 6, 10 * MS, MS).await;
        calls(&mut service, &script, 4, 100 * MS, 30 * MS).await;
    }
    let delay = layer.handle().delay().unwrap();
    assert!(delay > 30 * MS, "the slow calls, 40 of 100, are not among the slowest 20 any more: {delay:?}");
    let hedged = script.times().len() - 3_000;
    assert!(hedged < 1_300, "{hedged}");
}

#[tokio::test(start_paused = true)]
async fn the_measured_latency_ends_with_the_response() {
    let layer = with(quantile(0.5).min_samples(1));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 1, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    for (original, copy) in [(MS, MS), (LONG, SOME)] {
        script.steps.lock().unwrap().clear();
        script.add([after(original, Ok("a")), after(copy, Ok("b"))]);
        let mut call = std::pin::pin!(service.call(Request::default()));
        call.as_mut().await.unwrap();
        advance(LONG).await;
    }
    advance(LONG).await;
    let delay = layer.handle().delay().unwrap();
    assert!(delay < 50 * MS, "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn originals_that_fail_late_do_not_count() {
    let layer = with(quantile(0.9).min_samples(10)).budget(tokens(1.0));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 20, SOME, MS).await;
    for _ in 0..200 {
        advance(20 * MS).await;
        script.steps.lock().unwrap().clear();
        script.add([after(3 * SOME, failed("fatal")), after(LONG, failed("fatal"))]);
        call(&mut service, Request::default()).await.0.unwrap_err();
    }
    let delay = layer.handle().delay().unwrap();
    assert!(delay < SOME + MS, "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn late_calls_that_are_given_up_count() {
    let layer = with(quantile(0.8).window(LONG).min_samples(10).max_hedges(1)).budget(tokens(1.0));
    let script = Script::new([]);
    let mut service = layer.layer(script.clone());
    calls(&mut service, &script, 20, 10 * MS, MS).await;
    advance(1_000 * MS).await;
    assert!(layer.handle().delay().unwrap() < 12 * MS);
    for _ in 0..100 {
        calls(&mut service, &script, 6, 10 * MS, MS).await;
        for given_up in [[2 * MS; 20], [50 * MS; 20]].concat().into_iter().take(24) {
            script.steps.lock().unwrap().clear();
            script.add([after(LONG, Ok("a")), after(LONG, Ok("b"))]);
            assert!(timeout(given_up, call(&mut service, Request::default())).await.is_err());
        }
    }
    let delay = layer.handle().delay().unwrap();
    assert!((50 * MS..55 * MS).contains(&delay), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn the_configuration_changes_for_calls_that_begin_later() {
    let layer = layer();
    let handle = layer.handle();
    let script = Script::new([LONG, LONG, SOME].map(|time| after(time, Ok("a"))));
    let mut service = layer.layer(script.clone());
    let mut first = task::spawn(service.call(Request::default()));
    assert_pending!(first.poll());
    handle.reconfigure(config().max_hedges(0)).unwrap();
    assert_eq!(handle.config(), config().max_hedges(0));
    let mut second = task::spawn(service.call(Request::default()));
    assert_pending!(second.poll());
    advance(DELAY).await;
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_eq!(script.times(), [NOW, NOW, DELAY]);
    assert_eq!(handle.reconfigure(config().max_hedges(11)).unwrap_err().field(), "max_hedges");
    assert_eq!(handle.config(), config().max_hedges(0));
}

#[tokio::test(start_paused = true)]
async fn the_latencies_stay_when_the_quantile_does() {
    let layer = with(quantile(0.9).min_samples(10));
    let handle = layer.handle();
    let script = Script::new([]);
    calls(&mut layer.layer(script.clone()), &script, 10, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    handle.reconfigure(quantile(0.9).min_samples(10).max_hedges(2)).unwrap();
    assert!(handle.delay().is_some());
    handle.reconfigure(quantile(0.8).min_samples(10)).unwrap();
    assert_eq!(handle.delay(), None);
    handle.reconfigure(config()).unwrap();
    assert_eq!(handle.delay(), Some(DELAY));
}

#[test]
fn invalid_configurations_are_rejected_with_a_reason() {
    let range = |min, max| HedgeDelay::Quantile { quantile: 0.5, min, max };
    let bad = [
        (quantile(0.0), "quantile"),
        (quantile(1.0), "quantile"),
        (quantile(-1.0), "quantile"),
        (quantile(95.0), "quantile"),
        (quantile(f64::NAN), "quantile"),
        (quantile(f64::INFINITY), "quantile"),
        (config().delay(range(MS, MS)), "max"),
        (config().delay(range(Duration::MAX, MS)), "max"),
        (config().window(29 * MS), "window"),
        (config().max_hedges(11), "max_hedges"),
    ];
    for (config, field) in bad {
        let error = HedgeLayer::try_new(config.clone()).unwrap_err();
        assert_eq!(error.field(), field);
        assert_eq!(layer().handle().reconfigure(config).unwrap_err(), error);
    }
}

#[tokio::test(start_paused = true)]
async fn every_valid_configuration_works() {
    let most = Duration::MAX;
    for delay in [
        HedgeDelay::Quantile { quantile: 1e-300, min: Duration::ZERO, max: most },
        HedgeDelay::Quantile {
            quantile: 1.0 - f64::EPSILON,
            min: Duration::ZERO,
            max: Duration::from_nanos(1),
        },
        HedgeDelay::Fixed(most),
        HedgeDelay::Fixed(Duration::from_nanos(1)),
    ] {
        for (window, min_samples) in [(30 * MS, 0), (most, u32::MAX), (most, 1)] {
            let config = HedgeConfig::new().delay(delay).window(window).min_samples(min_samples);
            for config in [
                config.clone().max_hedges(10),
                config.clone().min_remaining(most).ready_within(most),
                config.ready_within(Duration::ZERO),
            ] {
                let layer = HedgeLayer::try_new(config).unwrap().protocol(Protocol);
                let script = Script::new([]);
                let mut service = layer.layer(script.clone());
                for _ in 0..4 {
                    script.add([LONG; 11].map(|time| after(time, Ok("a"))));
                    assert_eq!(call(&mut service, Request::default()).await, (Ok("a"), LONG));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "invalid value for `max_hedges`: got 11, expected a number from 0 to 10")]
async fn an_invalid_configuration_panics() {
    let _ = HedgeLayer::new(config().max_hedges(11));
}

// Readiness and other layers.

#[tokio::test(start_paused = true)]
async fn a_copy_waits_for_the_service_only_so_long_and_the_original_goes_on() {
    let budget = tokens(5.0);
    let layer = with(config().max_hedges(3).ready_within(SOME)).budget(budget.clone());
    let script = Script::new([after(LONG, Ok("a"))]);
    let mut service = layer.layer(ConcurrencyLimit::new(script.clone(), 1));
    assert_eq!(call(&mut service, Request::default()).await, (Ok("a"), LONG));
    assert_eq!((script.times(), budget.balance()), (vec![NOW], 5.0));

    let script = Script::new([after(LONG, Ok("a")), after(SOME, failed("a"))]);
    let (mut one, mut other) = {
        let limit = ConcurrencyLimit::new(script.clone(), 2);
        (layer.layer(limit.clone()), limit)
    };
    let place = other.ready().await.unwrap().clone();
    drop(place);
    let mut call = task::spawn(one.ready().await.unwrap().call(Request::default()));
    assert_pending!(call.poll());
    advance(DELAY + SOME / 2).await;
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW]);
    // The permit of the other call is released in time.
    drop(other);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW, DELAY + SOME / 2]);
    assert_eq!(budget.balance(), 4.0);
}

/// A service that is ready once.
#[derive(Clone)]
struct Once {
    script: Script,
    is_ready: Rc<Cell<bool>>,
    then: Poll<Result<(), Error<fault::Fault>>>,
}

impl Once {
    fn new(script: &Script, then: Poll<Result<(), Error<fault::Fault>>>) -> Self {
        Self { script: script.clone(), is_ready: Rc::new(Cell::new(true)), then }
    }
}

impl Service<Request> for Once {
    type Response = &'static str;
    type Error = Error<fault::Fault>;
    type Future = <Script as Service<Request>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.is_ready.replace(false) { Poll::Ready(Ok(())) } else { self.then.clone() }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.script.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_sent_to_a_service_that_fails_to_get_ready() {
    let script = Script::new([after(LONG, Ok("a")), after(SOME, Ok("b"))]);
    let closed = Err(Error::Inner(fault::Fault("closed")));
    let mut service = layer().layer(Once::new(&script, Poll::Ready(closed)));
    assert_eq!(call(&mut service, Request::default()).await, (Ok("a"), LONG));
    assert_eq!(script.times(), [NOW]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_is_returned_if_the_service_is_not_ready_for_a_copy() {
    let script = Script::new([after(MS, Ok("503"))]);
    let mut service = with(config().ready_within(SOME)).layer(Once::new(&script, Poll::Pending));
    let answered = timeout(LONG, call(&mut service, Request::default())).await;
    assert_eq!(answered, Ok((Ok("503"), MS + SOME)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_does_not_wait_for_the_service_beyond_the_deadline() {
    let script = Script::new([after(LONG, failed("late")), after(MS, Ok("b"))]);
    let mut limit = ConcurrencyLimit::new(script.clone(), 2);
    let mut service = with(config().ready_within(LONG).min_remaining(SOME)).layer(limit.clone());
    limit.ready().await.unwrap();
    let deadline = Some(Deadline::after(DELAY + 2 * SOME));
    let mut call =
        task::spawn(service.ready().await.unwrap().call(Request { deadline, ..Request::default() }));
    assert_pending!(call.poll());
    advance(DELAY).await;
    assert_pending!(call.poll());
    advance(SOME + MS).await;
    assert_pending!(call.poll());
    drop(limit);
    assert_pending!(call.poll());
    assert_eq!(script.times(), [NOW], "a copy was sent too late");
}

#[tokio::test(start_paused = true)]
async fn the_service_is_not_polled_for_a_copy_beyond_the_budget() {
    let script = Script::new([after(LONG, Ok("a")), after(LONG, failed("b"))]);
    let spent = tokens(1.0);
    assert!(spent.withdraw());
    let mut service = layer().budget(spent).layer(script.clone());
    call(&mut service, Request::default()).await.0.unwrap();
    call(&mut service, Request::default()).await.0.unwrap_err();
    assert_eq!(script.asked(), 2);
}

/// Returns `true` if `limit` has room for one more call.
fn has_place(limit: &mut ConcurrencyLimit<Script>) -> bool {
    task::spawn(()).enter(|cx, _| Service::<Request>::poll_ready(limit, cx)).is_ready()
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_made_leaves_its_place_in_the_service() {
    let mut limit = ConcurrencyLimit::new(Script::new([after(LONG, Ok("a"))]), 2);
    let copies = Cell::new(0);
    let layer = HedgeLayer::new(config()).protocol(clone_with(|request: &Request| {
        copies.set(copies.get() + 1);
        (copies.get() == 1).then_some(*request)
    }));
    let mut service = layer.layer(limit.clone());
    let mut call = task::spawn(service.ready().await.unwrap().call(Request::default()));
    assert_pending!(call.poll());
    advance(DELAY).await;
    assert_pending!(call.poll());
    assert_eq!(copies.get(), 2);
    assert!(has_place(&mut limit));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_not_wanted_any_more_leaves_the_queue_for_the_service() {
    let script = Script::new([after(LONG, Ok("a")), after(2 * DELAY, failed("stop"))]);
    let mut limit = ConcurrencyLimit::new(script.clone(), 2);
    let mut service = with(config().max_hedges(2).ready_within(LONG)).layer(limit.clone());
    let mut call = task::spawn(service.ready().await.unwrap().call(Request::default()));
    assert_pending!(call.poll());
    for _ in 0..2 {
        advance(DELAY).await;
        assert_pending!(call.poll());
        assert!(!has_place(&mut limit.clone()));
    }
    advance(DELAY).await;
    assert_pending!(call.poll());
    assert_eq!(script.alive(), 1);
    assert!(has_place(&mut limit));
}

/// Responses hold connections, which may be scarce.
#[tokio::test(start_paused = true)]
async fn a_failed_response_is_dropped_before_the_next_copy() {
    for original in [NOW, DELAY + SOME] {
        let (answer, calls) = (Rc::new(()), Cell::new(0));
        let layer = HedgeLayer::new(config()).classify_opaque(|_: Result<&Rc<()>, &()>| Class::Failure);
        let mut service = layer.layer(tower::service_fn(|()| {
            assert_eq!(Rc::strong_count(&answer), 1);
            calls.set(calls.get() + 1);
            let (time, answer) = (if calls.get() == 1 { original } else { LONG }, &answer);
            async move {
                sleep(time).await;
                Ok::<_, ()>(Rc::clone(answer))
            }
        }));
        let mut call = task::spawn(service.call(()));
        for _ in 0..4 {
            assert_pending!(call.poll());
            advance(DELAY).await;
        }
        assert_eq!((calls.get(), Rc::strong_count(&answer)), (2, 1));
        assert!(call.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_before_the_winner_is_returned() {
    for (original, copy) in [(LONG, SOME), (DELAY + SOME, LONG)] {
        let script = Script::new([after(original, Ok("a")), after(copy, Ok("b")), after(LONG, Ok("c"))]);
        let mut service = with(config().max_hedges(2)).layer(script.clone());
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        advance(DELAY).await;
        assert_pending!(call.poll());
        advance(SOME).await;
        assert_eq!(script.alive(), 2);
        let _winner = assert_ready!(call.poll());
        assert_eq!(script.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_all_attempts_and_makes_no_more() {
    for waited in [NOW, DELAY, 2 * DELAY] {
        let script = Script::new([LONG; 3].map(|time| after(time, Ok("a"))));
        let mut service = with(config().max_hedges(2)).layer(script.clone());
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        advance(waited).await;
        assert_pending!(call.poll());
        drop(call);
        assert_eq!(script.alive(), 0);
        let made = script.times().len();
        advance(LONG).await;
        assert_eq!(script.times().len(), made);
    }
}

/// A circuit breaker around one instance of a script, and its state.
fn circuit() -> CircuitBreakerLayer {
    let config = CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(1).open_for(LONG);
    CircuitBreakerLayer::new(config)
}

#[tokio::test(start_paused = true)]
async fn a_rejected_original_is_returned_at_once() {
    let budget = tokens(5.0);
    let circuit = circuit();
    circuit.handle().trip();
    let mut service = layer().budget(budget.clone()).layer(circuit.layer(Script::new([])));
    let (answer, time) = call(&mut service, Request::default()).await;
    assert!(answer.unwrap_err().rejected().is_some());
    assert_eq!((time, budget.balance()), (NOW, 5.0));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_hedge_never_wins_and_is_the_last() {
    for (original, expected) in [(Ok("good"), Ok("good")), (failed("slow"), failed("slow"))] {
        let circuit = circuit();
        let script = Script::new([after(LONG, original)]);
        let mut service = with(config().max_hedges(3)).layer(circuit.layer(script.clone()));
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        circuit.handle().trip();
        advance(DELAY).await;
        assert_pending!(call.poll());
        assert_eq!(call.await, expected);
        assert_eq!(script.times(), [NOW]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_takes_precedence_over_a_later_rejection() {
    // The failure opens the circuit, so the copy is rejected.
    let hedged = || layer().layer(circuit().layer(Script::new([after(SOME, failed("original"))])));
    assert_eq!(call(&mut hedged(), Request::default()).await, (failed("original"), SOME));
    // An outer retry sees a failure, and retries in vain.
    let retry = RetryLayer::new(RetryConfig::new().max_attempts(2)).protocol(Protocol);
    let (answer, _) = call(&mut retry.layer(hedged()), Request::default()).await;
    assert!(answer.unwrap_err().rejected().is_some(), "not tried again");
}

/// An outer layer sees the result of the hedge as the inner layer returned it, whatever happened in
/// between.
#[tokio::test(start_paused = true)]
async fn a_rejected_copy_does_not_replace_a_failure() {
    for failure in [Ok("503"), failed("slow")] {
        let circuit = circuit();
        let script = Script::new([after(LONG, failure), after(SOME, Ok("good"))]);
        let retry = RetryLayer::new(RetryConfig::new().max_attempts(2)).protocol(Protocol);
        let mut service = retry.layer(layer().layer(circuit.layer(script.clone())));
        let mut call = task::spawn(service.call(Request::default()));
        assert_pending!(call.poll());
        circuit.handle().trip();
        advance(DELAY).await;
        assert_pending!(call.poll());
        circuit.handle().reset();
        circuit.handle().disable();
        assert_eq!(call.await, Ok("good"), "not retried");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_breaker_counts_one_failure_per_call_and_no_rejected_copy() {
    let inner = circuit();
    let outer =
        CircuitBreakerLayer::new(CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(2));
    let script = Script::new([after(DELAY + SOME, failed("a")), after(DELAY, failed("b"))]);
    let mut service = outer.layer(layer().layer(script));
    let _ = call(&mut service, Request::default()).await;
    assert!(outer.handle().try_acquire().is_ok(), "two failures of one call");
    inner.handle().trip();
    let mut service = outer.layer(layer().layer(inner.layer(Script::new([]))));
    let _ = call(&mut service, Request::default()).await;
    assert_eq!(outer.handle().state(), stanchion::circuit_breaker::State::Closed);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_latencies_and_budget_and_two_layers_do_not() {
    let layer = with(quantile(0.9).min_samples(1));
    let script = Script::new([]);
    calls(&mut layer.clone().layer(script.clone()), &script, 1, SOME, MS).await;
    advance(4 * 1_000 * MS).await;
    assert!(layer.handle().delay().is_some());
    calls(&mut layer.layer(script.clone()).clone(), &script, 1, LONG, MS).await;
    assert_eq!(layer.handle().budget().balance(), 9.0);
    calls(&mut layer.layer(script.clone()), &script, 1, MS, MS).await;
    assert_eq!(layer.handle().budget().balance(), 9.1, "a tenth of the calls may be hedged");
    let other = with(quantile(0.9).min_samples(1)).name("other");
    assert_eq!(other.handle().delay(), None);
    assert_eq!(other.handle().budget().balance(), 10.0);
}

#[tokio::test(start_paused = true)]
async fn services_may_borrow_and_need_not_be_send() {
    #[derive(Debug, PartialEq)]
    struct Cut(Rc<str>);

    impl fmt::Display for Cut {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::error::Error for Cut {}

    #[derive(Clone)]
    struct Trim<'a>(Rc<Cell<u32>>, &'a str);

    impl<'a> Service<&'a str> for Trim<'_> {
        type Response = &'a str;
        type Error = Error<Cut>;
        type Future = Pin<Box<dyn Future<Output = Result<&'a str, Error<Cut>>> + 'a>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: &'a str) -> Self::Future {
            self.0.set(self.0.get() + 1);
            let (calls, mark) = (Rc::clone(&self.0), self.1.len());
            Box::pin(async move {
                if calls.get() == 1 {
                    sleep(LONG).await;
                }
                request.get(mark..).ok_or_else(|| Error::Inner(Cut(request.into())))
            })
        }
    }

    let (mark, text) = (String::from("> "), String::from("> short-lived"));
    let service = HedgeLayer::new(config()).layer(Trim(Rc::default(), &mark));
    assert_eq!(service.oneshot(text.as_str()).await, Ok("short-lived"));
}

// Telemetry.

/// Records the events of observers, one word or line each.
fn heard(layer: HedgeLayer<Asking<Protocol>>) -> (HedgeLayer<Asking<Protocol>>, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(vec![]));
    let lines = Arc::clone(&heard);
    let layer = layer.name("inventory").observer(move |source: &LayerId, event: &Event<'_>| {
        assert_eq!((source.module, source.name), ("hedge", "inventory"));
        lines.lock().unwrap().push(match event {
            Event::Attempt { number, outcome, .. } => format!("{number} {}", outcome.as_str()),
            Event::Action { action, attempt, .. } => format!("{} {attempt}", action.as_str()),
            Event::Budget { share, .. } => format!("budget {share}"),
            other => panic!("{other:?}"),
        });
    });
    (layer, heard)
}

async fn told(
    layer: HedgeLayer<Asking<Protocol>>,
    request: Request,
    steps: impl IntoIterator<Item = (Duration, Answer)>,
) -> Vec<String> {
    let (layer, heard) = heard(layer.budget(tokens(2.0)));
    let mut service = layer.layer(Script::new(steps));
    let _ = call(&mut service, request).await;
    std::mem::take(&mut *heard.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn observers_see_winners_and_losers() {
    let late = || [after(LONG, Ok("a")), after(SOME, Ok("b"))];
    let plain = Request::default;
    assert_eq!(told(layer(), plain(), [after(SOME, Ok("a"))]).await, ["1 success"]);
    assert_eq!(
        told(layer(), plain(), late()).await,
        ["budget 0.5", "hedged 1", "2 success", "1 cancelled", "hedge_won 2"]
    );
    assert_eq!(
        told(layer(), plain(), [after(DELAY + SOME, Ok("a")), after(LONG, Ok("b"))]).await,
        ["budget 0.5", "hedged 1", "1 success", "2 cancelled", "original_won 1"]
    );
    assert_eq!(
        told(layer(), plain(), [after(SOME, failed("a")), after(SOME, Ok("b"))]).await,
        ["1 failure", "budget 0.5", "hedged 1", "2 success", "hedge_won 2"]
    );
    assert_eq!(
        told(layer(), plain(), [after(LONG, failed("not found")), after(SOME, failed("b"))]).await,
        ["budget 0.5", "hedged 1", "2 failure", "1 ignored"]
    );
    let two = with(config().max_hedges(2));
    assert_eq!(
        told(two, plain(), [LONG; 3].map(|time| after(time, Ok("a")))).await,
        [
            "budget 0.5",
            "hedged 1",
            "budget 0",
            "hedged 2",
            "1 success",
            "2 cancelled",
            "3 cancelled",
            "original_won 1"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn observers_see_why_a_due_copy_is_not_sent() {
    let late = || [after(LONG, Ok("a"))];
    let request = Request::default;
    let writes = || Request { writes: true, ..request() };
    assert_eq!(told(layer(), writes(), late()).await, ["not_idempotent 1", "1 success"]);
    assert_eq!(told(layer(), writes(), [after(SOME, Ok("a"))]).await, ["1 success"], "none was due");
    let once = Request { once: true, ..request() };
    assert_eq!(told(layer(), once, late()).await, ["not_replayable 1", "1 success"]);
    let deadline = Some(Deadline::after(DELAY));
    assert_eq!(told(layer(), Request { deadline, ..request() }, late()).await, ["no_time 1", "1 success"]);
    let stop = [after(SOME, failed("stop"))];
    assert_eq!(told(layer(), request(), stop).await, ["1 failure", "pushed_back 1"]);
    let spent =
        told(with(config().max_hedges(5)), request(), [LONG; 3].map(|time| after(time, Ok("a")))).await;
    assert_eq!(spent[4..6], ["budget 0", "budget_spent 3"]);

    let (layer, heard) = heard(with(config().ready_within(SOME)));
    let mut service = layer.layer(ConcurrencyLimit::new(Script::new(late()), 1));
    call(&mut service, request()).await.0.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["not_ready 1", "1 success"]);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn every_series_exists_from_the_start_under_its_stable_name() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let layer = layer().name("inventory");
    metrics::with_local_recorder(&recorder, || layer.handle());
    let series = || {
        let text = recorder.handle().render();
        let mut series: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::to_owned)
            .collect();
        series.sort();
        series
    };
    let expected = |counts: &[(&str, u32)], budget: &str| {
        let count =
            |series: &str| counts.iter().find(|(key, _)| *key == series).map_or(0, |(_, count)| *count);
        let actions = [
            "budget_spent",
            "hedge_won",
            "hedged",
            "no_time",
            "not_idempotent",
            "not_ready",
            "not_replayable",
            "original_won",
            "pushed_back",
        ];
        let series = |noun: &str, label: &str, value: &str| {
            let count = count(value);
            format!("stanchion_hedge_{noun}{{name=\"inventory\",{label}=\"{value}\"}} {count}")
        };
        let mut all: Vec<_> =
            actions.iter().map(|action| series("actions_total", "action", action)).collect();
        let outcomes = ["cancelled", "failure", "ignored", "success"];
        all.extend(outcomes.iter().map(|outcome| series("attempts_total", "outcome", outcome)));
        all.push("stanchion_hedge_budget_cap{name=\"inventory\"} 10".to_owned());
        all.push(format!("stanchion_hedge_budget_tokens{{name=\"inventory\"}} {budget}"));
        all
    };
    assert_eq!(series(), expected(&[], "10"));
    let script = Script::new([after(LONG, Ok("a")), after(SOME, Ok("b"))]);
    call(&mut layer.layer(script), Request::default()).await.0.unwrap();
    assert_eq!(series(), expected(&[("hedged", 1), ("hedge_won", 1), ("success", 1), ("cancelled", 1)], "9"));
}
