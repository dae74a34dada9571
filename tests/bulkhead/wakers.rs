//! Wakers that panic.

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use stanchion::{BulkheadConfig, BulkheadLayer};
use tokio_test::task;
use tower::Layer;
use tower::{Service, ServiceExt, service_fn};

use super::Failure;

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_no_other_call_its_turn() {
    let config = BulkheadConfig::new().max_in_flight(1).max_queued(10);
    let handle = BulkheadLayer::waiting(config.clone()).handle();
    let _held = handle.try_acquire().unwrap();
    let waker = Waker::from(Arc::new(Panics));
    let mut bad = Box::pin(handle.run(pending::<Result<u32, Failure>>()));
    assert!(bad.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut good = task::spawn(handle.run(async { Ok::<_, Failure>(1) }));
    assert!(good.poll().is_pending());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.reconfigure(config.max_in_flight(3))));
    assert!(good.is_woken(), "there is room for two more: {:?}", handle.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_no_other_service_its_turn() {
    let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(1));
    let handle = layer.handle();
    let service = || layer.layer(service_fn(|(): ()| async { Ok::<_, Failure>(()) }));
    let _held = handle.try_acquire().unwrap();
    let (mut bad, mut good) = (service(), service());
    let waker = Waker::from(Arc::new(Panics));
    assert!(Service::<()>::poll_ready(&mut bad, &mut Context::from_waker(&waker)).is_pending());
    let mut ready = task::spawn(async move { ServiceExt::<()>::ready(&mut good).await.map(|_| ()) });
    assert!(ready.poll().is_pending());
    let _ = catch_unwind(AssertUnwindSafe(|| handle.resize(3)));
    assert!(ready.is_woken(), "{:?}", handle.snapshot());
}
