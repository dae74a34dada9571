//! The circuit breaker as a service: what is shared, what a refusal says, and changes while it serves.

#![allow(clippy::disallowed_methods, clippy::panic, reason = "threads of a test, which may fail")]

#[path = "support/fault.rs"]
mod fault;
#[path = "circuit_breaker/handle.rs"]
mod handle;
#[path = "circuit_breaker/impatient.rs"]
mod impatient;
#[path = "circuit_breaker/past_deadline.rs"]
mod past_deadline;
#[path = "circuit_breaker/readiness.rs"]
mod readiness;
#[path = "circuit_breaker/replaced.rs"]
mod replaced;
#[path = "circuit_breaker/reserved.rs"]
mod reserved;
#[path = "circuit_breaker/waiting.rs"]
mod waiting;

use std::convert::Infallible;
use std::time::Duration;

use crate::fault::Fault;
use stanchion::circuit_breaker::State;
use stanchion::classify::Class;
use stanchion::{
    CarryRejected, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer, Error, Readiness, Reason,
    Rejected, Window,
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

type Failure = Error<Fault>;

const SECOND: Duration = Duration::from_secs(1);

/// Two failures of two open it for a second; one probe.
fn layer() -> CircuitBreakerLayer {
    let config = CircuitBreakerConfig::new()
        .window(Window::calls(2))
        .min_calls(2)
        .open_for(SECOND)
        .open_jitter(0.0)
        .probes(1);
    CircuitBreakerLayer::new(config).name("inventory")
}

/// A service that ends as it is asked to.
fn service(
    layer: &CircuitBreakerLayer,
) -> CircuitBreaker<impl Service<bool, Response = (), Error = Failure> + Clone + use<>> {
    layer.layer(service_fn(|ok| async move { if ok { Ok(()) } else { Err(Error::Inner(Fault("failed"))) } }))
}

/// tower-resilience makes a circuit for each service, so that on axum its layers do nothing.
#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_its_clones_share_one_circuit() {
    let layer = layer();
    let mut services = [service(&layer), service(&layer.clone()), service(&layer).clone()];
    for service in &mut services[..2] {
        let failed = service.ready().await.unwrap().call(false).await;
        assert_eq!(failed, Err(Error::Inner(Fault("failed"))));
    }
    let refused = services[2].ready().await.unwrap().call(true).await;
    assert!(matches!(refused, Err(Error::Rejected(_))));
    assert_eq!(layer.with_new_state().handle().state(), State::Closed, "this one has its own");
}

/// Elsewhere a refusal is a unit, and `retry_after` always none.
#[tokio::test(start_paused = true)]
async fn a_refusal_says_who_refused_why_and_when_to_come_back() {
    let layer = layer();
    layer.handle().trip();
    tokio::time::advance(SECOND / 4).await;
    let Err(Error::Rejected(rejected)) = service(&layer).oneshot(true).await else { panic!("it is open") };
    assert_eq!(rejected.layer(), "inventory");
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(rejected.retry_after(), Some(SECOND * 3 / 4));
    assert!(!rejected.reached_service());
    assert_eq!(rejected.to_string(), "rejected by inventory: circuit is open, retry after 750ms");
    layer.handle().force_open();
    let Err(Error::Rejected(rejected)) = service(&layer).oneshot(true).await else { panic!("it is open") };
    assert_eq!(rejected.retry_after(), None, "an operator does not say when");
}

/// What `poll_ready` did not ask the service, `call` cannot make up for.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_poll_ready_has_prepared_stands_for_one_call() {
    let layer = layer();
    layer.handle().trip();
    let mut service = service(&layer);
    service.ready().await.unwrap();
    layer.handle().reset();
    assert!(matches!(service.call(true).await, Err(Error::Rejected(_))));
    assert_eq!(service.ready().await.unwrap().call(true).await, Ok(()));
}

/// But a service that had said so before is ready still.
#[tokio::test(start_paused = true)]
async fn a_service_that_was_ready_before_the_opening_is_ready_after_it() {
    let layer = layer();
    let mut service = service(&layer);
    service.ready().await.unwrap();
    layer.handle().trip();
    service.ready().await.unwrap();
    layer.handle().reset();
    assert_eq!(service.call(true).await, Ok(()));
}

/// seatbelt's timer keeps the first waker, and a future that was moved misses it.
#[tokio::test(start_paused = true)]
async fn the_task_that_asked_last_is_woken_when_the_wait_is_over() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().trip();
    let mut service = service(&layer);
    let (mut first, mut second) = (task::spawn(()), task::spawn(()));
    assert_pending!(first.enter(|cx, _| Service::<bool>::poll_ready(&mut service, cx)));
    assert_pending!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut service, cx)));
    tokio::time::advance(SECOND).await;
    tokio::task::yield_now().await;
    assert!(second.is_woken());
    assert!(!first.is_woken());
    assert_ready_ok!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut service, cx)));
    assert_eq!(service.call(true).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_an_operator_closes_the_circuit() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().force_open();
    let (mut one, mut other) = (service(&layer), service(&layer));
    let (mut first, mut second) = (task::spawn(()), task::spawn(()));
    assert_pending!(first.enter(|cx, _| Service::<bool>::poll_ready(&mut one, cx)));
    assert_pending!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
    layer.handle().reset();
    assert!(first.is_woken() && second.is_woken());
    assert_ready_ok!(first.enter(|cx, _| Service::<bool>::poll_ready(&mut one, cx)));
    assert_ready_ok!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
}

/// In tower-resilience probes that take longer than the window are forgotten, and their slots with them.
#[tokio::test(start_paused = true)]
async fn probes_may_take_longer_than_the_window() {
    let config = CircuitBreakerConfig::new()
        .window(Window::time(Duration::from_millis(100)))
        .open_for(Duration::ZERO)
        .probes(3);
    let layer = CircuitBreakerLayer::new(config);
    let handle = layer.handle();
    handle.trip();
    let mut service = layer.layer(service_fn(|()| async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        Ok::<_, Failure>(())
    }));
    for _ in 0..3 {
        service.ready().await.unwrap().call(()).await.unwrap();
    }
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_changes_nothing_and_the_next_good_one_works() {
    let layer = layer();
    let handle = layer.handle();
    handle.try_acquire().unwrap().finish(Class::Failure);
    let error = handle.reconfigure(CircuitBreakerConfig::new().failure_ratio(50.0)).unwrap_err();
    assert_eq!((error.field(), error.given()), ("failure_ratio", "50.0"));
    assert_eq!(handle.snapshot().failures, 1);
    handle.reconfigure(CircuitBreakerConfig::new().window(Window::calls(3)).min_calls(3)).unwrap();
    handle.try_acquire().unwrap().finish(Class::Failure);
    assert_eq!(handle.state(), State::Closed, "two of three, by the new configuration");
    handle.try_acquire().unwrap().finish(Class::Failure);
    assert_eq!(handle.state(), State::Open);
}

/// The clock stands still, or on a busy machine the calls might leave the window before they are
/// looked for.
#[tokio::test(start_paused = true)]
async fn the_configuration_may_change_under_load() {
    let runtime = tokio::runtime::Handle::current();
    let configs = [
        CircuitBreakerConfig::new().window(Window::calls(100)),
        CircuitBreakerConfig::new().window(Window::time(SECOND)).slow_after(SECOND),
        CircuitBreakerConfig::new().window(Window::calls(10_000)).consecutive_failures(5),
        CircuitBreakerConfig::new().window(Window::time(10 * SECOND)).slow_after(2 * SECOND).ramp(SECOND),
    ];
    let layer = CircuitBreakerLayer::new(configs[0].clone());
    let handle = layer.handle();
    std::thread::scope(|scope| {
        let caller = || {
            let _clock = runtime.enter();
            for call in 0..20_000 {
                let permit = handle.try_acquire().expect("one failure in sixteen opens nothing");
                permit.finish(if call % 16 == 0 { Class::Failure } else { Class::Success });
            }
        };
        let callers = [scope.spawn(caller), scope.spawn(caller), scope.spawn(caller)];
        let mut round = 0;
        while callers.iter().any(|caller| !caller.is_finished()) {
            handle.reconfigure(configs[round % configs.len()].clone()).unwrap();
            assert!(handle.reconfigure(CircuitBreakerConfig::new().probes(0)).is_err());
            round += 1;
        }
    });
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.generation), (State::Closed, 0), "no state was lost");
    assert_eq!(snapshot.overdue, 0);
    assert!(snapshot.calls > 0);
}

/// From many threads at once: whatever the order, no more than the probes pass, and it ends up closed.
#[test]
fn threads_that_rush_a_half_open_circuit_get_no_more_than_its_probes() {
    for _ in 0..50 {
        let config = CircuitBreakerConfig::new().open_for(Duration::ZERO).probes(3).min_calls(3);
        let handle = CircuitBreakerLayer::new(config).handle();
        handle.trip();
        let permits: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..50).find_map(|_| handle.try_acquire().ok()))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(permits.len(), 3);
        for permit in permits {
            permit.finish(Class::Success);
        }
        assert_eq!(handle.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn any_future_runs_under_a_handle() {
    let handle = layer().handle();
    for _ in 0..2 {
        let failed: Result<(), Failure> =
            handle.run(async { Err(Error::Inner(Fault("no connection"))) }).await;
        assert_eq!(failed, Err(Error::Inner(Fault("no connection"))));
    }
    let mut polled = false;
    let refused: Result<(), Failure> = handle
        .run(async {
            polled = true;
            Ok(())
        })
        .await;
    assert!(matches!(refused, Err(Error::Rejected(_))));
    assert!(!polled, "what is refused is not run");
}

#[tokio::test(start_paused = true)]
async fn a_transition_tells_subscribers_what_happened_and_how_long_it_took() {
    let layer = layer();
    let mut transitions = layer.handle().subscribe();
    tokio::time::advance(3 * SECOND).await;
    let mut service = service(&layer);
    for _ in 0..2 {
        service.ready().await.unwrap().call(false).await.unwrap_err();
    }
    let opened = transitions.try_recv().unwrap();
    assert_eq!((opened.from, opened.to), (State::Closed, State::Open));
    assert_eq!((opened.lasted, opened.open_for), (3 * SECOND, Some(SECOND)));
    assert_eq!(opened.to_string(), "closed -> open: 100% of 2 calls failed, threshold 50%");
    tokio::time::advance(SECOND).await;
    service.ready().await.unwrap().call(true).await.unwrap();
    let probed = transitions.try_recv().unwrap();
    assert_eq!(probed.to_string(), "open -> half_open: the wait of 1s is over");
    assert_eq!(transitions.try_recv().unwrap().to_string(), "half_open -> closed: the trial call succeeded");
}

#[test]
fn a_layer_of_an_invalid_configuration_says_so_where_it_is_made() {
    let invalid = CircuitBreakerConfig::new().probes(0);
    let error = CircuitBreakerLayer::try_new(invalid.clone()).unwrap_err();
    assert_eq!(error.to_string(), "invalid value for `probes`: got 0, expected a number from 1 to 1,000");
    let panic = std::panic::catch_unwind(|| CircuitBreakerLayer::new(invalid)).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&error.to_string()));
}

/// A type that can hold a refusal, and nothing else.
#[derive(Debug, PartialEq)]
struct OnlyRefused;

impl CarryRejected for OnlyRefused {
    fn from_rejected(_: Rejected) -> Self {
        Self
    }

    fn rejected(&self) -> Option<Rejected> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_fail_can_be_protected() {
    let layer = layer();
    let mut service = layer.layer(
        service_fn(|()| async { Ok::<_, Infallible>(()) }).map_err(|never| -> OnlyRefused { match never {} }),
    );
    assert_eq!(service.ready().await.unwrap().call(()).await, Ok(()));
    layer.handle().force_open();
    assert_eq!(service.ready().await.unwrap().call(()).await, Err(OnlyRefused));
}
