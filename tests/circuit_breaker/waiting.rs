//! Services that are not ready while the circuit is open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Failure, SECOND, layer, service};
use stanchion::Readiness;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

/// The number of the waiters woken before, for each that was woken.
#[derive(Default)]
struct Order {
    next: AtomicUsize,
    woken: Mutex<Vec<usize>>,
}

struct Numbered(usize, Arc<Order>);

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        self.1.next.fetch_add(1, Ordering::Relaxed);
        self.1.woken.lock().expect("no test panics with it").push(self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn services_are_woken_in_the_order_in_which_they_came() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().force_open();
    let order = Arc::new(Order::default());
    let mut services: Vec<_> = (0..1_000).map(|_| service(&layer)).collect();
    for round in 0..2 {
        for (number, service) in services.iter_mut().enumerate() {
            let waker = Waker::from(Arc::new(Numbered(round * 1_000 + number, Arc::clone(&order))));
            assert_pending!(Service::<bool>::poll_ready(service, &mut Context::from_waker(&waker)));
        }
    }
    // Every third gives up.
    let mut number = 0;
    services.retain(|_| {
        number += 1;
        number % 3 != 0
    });
    layer.handle().reset();
    let expected: Vec<_> = (0..1_000).filter(|number| number % 3 != 2).map(|number| 1_000 + number).collect();
    assert_eq!(*order.woken.lock().unwrap(), expected, "by the waker that was given last");
}

/// What a task owns goes with its last waker: also a service that waits for the same circuit.
struct Task<S>(#[allow(dead_code, reason = "it is dropped")] Mutex<S>);

impl<S: Send> Wake for Task<S> {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn a_waker_may_own_another_service_that_waits() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().force_open();
    let waiting = || {
        let mut service = layer.layer(tower::service_fn(|()| async { Ok::<_, Failure>(()) }));
        assert_pending!(service.poll_ready(&mut Context::from_waker(Waker::noop())));
        service
    };
    // Replaced by another waker, dropped with its service, and woken.
    for end in 0..3 {
        let mut service = waiting();
        let waker = Waker::from(Arc::new(Task(Mutex::new(waiting()))));
        assert_pending!(service.poll_ready(&mut Context::from_waker(&waker)));
        drop(waker);
        match end {
            0 => assert_pending!(service.poll_ready(&mut Context::from_waker(Waker::noop()))),
            1 => drop(service),
            _ => layer.handle().force_open(),
        }
    }
}

/// A waker that panics does not keep others from being woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a bad waker");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_does_not_keep_others_asleep() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().force_open();
    let (mut one, mut other) = (service(&layer), service(&layer));
    let waker = Waker::from(Arc::new(Panics));
    assert_pending!(Service::<bool>::poll_ready(&mut one, &mut Context::from_waker(&waker)));
    let mut second = task::spawn(());
    assert_pending!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
    layer.handle().reset();
    assert!(second.is_woken());
    assert_ready_ok!(second.enter(|cx, _| Service::<bool>::poll_ready(&mut other, cx)));
}

#[tokio::test(start_paused = true)]
async fn a_service_waits_however_old_its_layer_is() {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let layer = layer().readiness(Readiness::Pending);
    let mut service = service(&layer);
    for _ in 0..3 {
        tokio::time::advance(31 * YEAR).await;
        layer.handle().trip_for(SECOND);
        let opened = tokio::time::Instant::now();
        service.ready().await.unwrap().call(true).await.unwrap();
        assert_eq!(opened.elapsed(), SECOND);
    }
}

/// The circuit is closed before they are asked: a service that is polled for nothing is not lost.
#[tokio::test(start_paused = true)]
async fn a_service_that_waited_is_ready_once_the_circuit_is_closed() {
    let layer = layer().readiness(Readiness::Pending);
    layer.handle().force_open();
    let mut service = service(&layer);
    let mut waiting = task::spawn(());
    assert_pending!(waiting.enter(|cx, _| Service::<bool>::poll_ready(&mut service, cx)));
    layer.handle().reset();
    assert!(matches!(
        waiting.enter(|cx, _| Service::<bool>::poll_ready(&mut service, cx)),
        Poll::Ready(Ok(()))
    ));
    layer.handle().force_open();
    assert!(service.call(true).await.is_err());
}
