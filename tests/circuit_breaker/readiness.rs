//! A service that fails to get ready, and trial calls that were reserved for one.

use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use super::{Failure, SECOND, layer, service};
use crate::fault::Fault;
use stanchion::circuit_breaker::State;
use stanchion::classify::Class;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, Readiness};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service};

/// A client that cannot connect: it says so, or panics.
#[derive(Clone, Copy)]
enum NeverReady {
    Fails,
    Panics,
}

impl Service<()> for NeverReady {
    type Response = ();
    type Error = Failure;
    type Future = Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::Fails => Poll::Ready(Err(Error::Inner(Fault("no connection")))),
            Self::Panics => panic!("no connection"),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

/// Its first calls pass, one in ten, and the rest are refused.
fn recovering() -> CircuitBreakerLayer {
    let config = CircuitBreakerConfig::new().open_for(SECOND / 1_000).probes(1).ramp(3_600 * SECOND);
    let layer = CircuitBreakerLayer::new(config.without_failure_ratio().consecutive_failures(1_000));
    layer.handle().trip_for(SECOND / 1_000);
    layer
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_fails_whatever_share_of_calls_passes() {
    for never_ready in [NeverReady::Fails, NeverReady::Panics] {
        let layer = recovering();
        tokio::time::advance(SECOND).await;
        layer.handle().try_acquire().unwrap().finish(Class::Success);
        assert_eq!(layer.handle().state(), State::Recovering);
        let mut service = layer.layer(never_ready);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..20 {
            let polled = catch_unwind(AssertUnwindSafe(|| service.poll_ready(&mut cx)));
            assert!(!matches!(polled, Ok(Poll::Ready(Ok(())))));
        }
        assert_eq!(layer.handle().snapshot().failures, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_fails_its_trial_call() {
    for never_ready in [NeverReady::Fails, NeverReady::Panics] {
        for readiness in [Readiness::Reject, Readiness::Pending] {
            let layer = layer().readiness(readiness);
            layer.handle().trip();
            tokio::time::advance(SECOND).await;
            let mut service = layer.layer(never_ready);
            let mut cx = Context::from_waker(Waker::noop());
            let _ = catch_unwind(AssertUnwindSafe(|| service.poll_ready(&mut cx)));
            let snapshot = layer.handle().snapshot();
            assert_eq!((snapshot.state, snapshot.openings, snapshot.failures), (State::Open, 2, 1));
        }
    }
}

/// Others wait for the slot, and would be woken if it was free for a moment.
#[tokio::test(start_paused = true)]
async fn a_reserved_trial_call_keeps_its_slot_until_it_ends() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().trip();
    tokio::time::advance(SECOND).await;
    let (mut one, mut other) = (service(&layer), service(&layer));
    let (mut first, mut second) = (task::spawn(()), task::spawn(()));
    let mut ready_one = || first.enter(|cx, _| Service::<bool>::poll_ready(&mut one, cx));
    assert_ready_ok!(ready_one());
    assert_pending!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
    assert_ready_ok!(ready_one());
    assert_ready_ok!(ready_one());
    assert!(!second.is_woken());
    let call = one.call(true);
    assert!(!second.is_woken(), "the call has the slot that was reserved for it");
    call.await.unwrap();
    assert!(second.is_woken());
    assert_eq!(layer.handle().state(), State::Closed);
    assert_ready_ok!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
}
