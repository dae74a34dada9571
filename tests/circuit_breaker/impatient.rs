//! Callers with little time, and a service that is slow or hangs.

use std::future::pending;
use std::time::Duration;

use stanchion::circuit_breaker::{CircuitBreakerHandle, PastDeadline, State};
use stanchion::protocol::{BodyTimer, RequestContext, WrapBody};
use stanchion::timeout::Limit;
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, TimeoutConfig, TimeoutLayer, Window,
};
use tower::{Layer, ServiceExt, service_fn};

use super::SECOND;
use crate::fault::Fault;

/// A call to a service that takes a while, or hangs; and by when its caller wants an answer.
#[derive(Clone, Copy)]
struct Query {
    takes: Option<Duration>,
    deadline: Deadline,
}

#[derive(Clone, Copy)]
struct Queries;

impl RequestContext<Query> for Queries {
    fn deadline(&self, query: &Query) -> Option<Deadline> {
        Some(query.deadline)
    }
}

impl<Res> WrapBody<Res> for Queries {
    type Wrapped = Res;

    fn wrap_body(&self, response: Res, _: Option<BodyTimer>) -> Res {
        response
    }
}

/// Makes calls at the same time, each with `patience`, through a layer that gives them up when their deadlines have passed.
async fn calls(layer: &CircuitBreakerLayer, number: u32, takes: Option<Duration>, patience: Duration) -> u32 {
    let inner = TimeoutLayer::new(TimeoutConfig::new().limit(Limit::Deadline)).protocol(Queries);
    let inner = inner.layer(service_fn(|query: Query| async move {
        match query.takes {
            Some(time) => tokio::time::sleep(time).await,
            None => pending().await,
        }
        Ok::<_, Error<Fault>>(())
    }));
    let service = layer.layer(inner);
    let call = || tokio::spawn(service.clone().oneshot(Query { takes, deadline: Deadline::after(patience) }));
    let calls: Vec<_> = (0..number).map(|_| call()).collect();
    let mut good = 0;
    for call in calls {
        good += u32::from(call.await.expect("it does not panic").is_ok());
    }
    good
}

fn circuit(config: CircuitBreakerConfig) -> (CircuitBreakerLayer, CircuitBreakerHandle) {
    let layer = CircuitBreakerLayer::new(config);
    let handle = layer.handle();
    (layer, handle)
}

fn windows() -> [CircuitBreakerConfig; 2] {
    [Window::calls(100), Window::time(100 * SECOND)].map(|window| CircuitBreakerConfig::new().window(window))
}

const HEALTHY: Option<Duration> = Some(Duration::from_secs(2));

#[tokio::test(start_paused = true)]
async fn impatient_callers_do_not_open_the_circuit_of_a_healthy_service_for_patient_ones() {
    for config in windows() {
        let (layer, handle) = circuit(config);
        for _ in 0..3 {
            assert_eq!(calls(&layer, 10, HEALTHY, 10 * SECOND).await, 10);
        }
        for _ in 0..10 {
            assert_eq!(calls(&layer, 20, HEALTHY, SECOND).await, 0);
        }
        assert_eq!((handle.state(), handle.snapshot().failures), (State::Closed, 0));
        assert_eq!(calls(&layer, 1, HEALTHY, 10 * SECOND).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_cut_off_by_callers_with_as_much_time_as_calls_usually_take() {
    for config in windows() {
        let (layer, handle) = circuit(config);
        for _ in 0..3 {
            calls(&layer, 10, Some(SECOND / 20), 10 * SECOND).await;
        }
        for _ in 0..3 {
            calls(&layer, 20, None, SECOND).await;
        }
        assert_eq!(handle.state(), State::Open);
    }
}

/// It may hang, and nothing else would see it.
#[tokio::test(start_paused = true)]
async fn while_it_is_not_known_what_calls_take_a_call_that_was_cut_off_has_failed() {
    let (layer, handle) = circuit(CircuitBreakerConfig::new());
    calls(&layer, 20, None, SECOND).await;
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_calls_usually_take_follows_the_service() {
    let (layer, handle) = circuit(CircuitBreakerConfig::new().window(Window::time(10 * SECOND)));
    for takes in [SECOND / 20, 2 * SECOND] {
        for _ in 0..100 {
            calls(&layer, 1, Some(takes), 10 * SECOND).await;
            tokio::time::sleep(SECOND).await;
        }
    }
    calls(&layer, 30, HEALTHY, SECOND).await;
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_switch_makes_each_call_that_was_cut_off_a_failure_or_none() {
    for (meaning, state) in [(PastDeadline::Failure, State::Open), (PastDeadline::Cancelled, State::Closed)] {
        let (layer, handle) = circuit(CircuitBreakerConfig::new().past_deadline(meaning));
        calls(&layer, 20, HEALTHY, 10 * SECOND).await;
        tokio::time::sleep(60 * SECOND).await;
        calls(&layer, 20, HEALTHY, SECOND).await;
        calls(&layer, 20, None, 5 * SECOND).await;
        assert_eq!(handle.state(), state, "{meaning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_slow_calls_switched_on_a_hang_is_seen_and_impatience_is_not() {
    let (layer, handle) = circuit(CircuitBreakerConfig::new().slow_after(3 * SECOND));
    // Or it would not be known what calls take, and the service might hang.
    assert_eq!(calls(&layer, 10, HEALTHY, 10 * SECOND).await, 10);
    for _ in 0..5 {
        calls(&layer, 20, HEALTHY, SECOND).await;
    }
    assert_eq!(handle.state(), State::Closed);
    calls(&layer, 30, None, 5 * SECOND).await;
    calls(&layer, 1, HEALTHY, 10 * SECOND).await;
    assert_eq!(handle.state(), State::Open);
}
