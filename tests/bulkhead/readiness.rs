//! The readiness of the service inside: it is called only if it said that it is ready, and once for
//! each time it said so.

use std::future::{Ready, ready};
use std::sync::atomic::AtomicBool;

use stanchion::{Partition, PartitionConfig};

use super::*;

/// A service that asserts that it was ready, and counts how often it was asked.
#[derive(Debug, Default)]
struct Strict {
    is_ready: bool,
    asked: Arc<AtomicU32>,
    refuses: Arc<AtomicBool>,
}

impl Clone for Strict {
    /// A clone is not ready.
    fn clone(&self) -> Self {
        Self { is_ready: false, asked: Arc::clone(&self.asked), refuses: Arc::clone(&self.refuses) }
    }
}

impl Strict {
    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = Failure;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.is_ready = !self.refuses.load(Ordering::Relaxed);
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: u32) -> Ready<Answer> {
        assert!(std::mem::take(&mut self.is_ready), "it was not ready");
        ready(Ok(request))
    }
}

fn poll_ready(service: &mut impl Service<u32, Error = Failure>) -> Poll<Result<(), Failure>> {
    task::spawn(()).enter(|cx, _| service.poll_ready(cx))
}

fn is_full(answer: Poll<Answer>) -> bool {
    rejected(assert_ready!(answer)).reason() == Reason::BulkheadFull
}

#[tokio::test(start_paused = true)]
async fn a_reconfiguration_between_poll_ready_and_call_does_not_call_a_service_that_was_not_asked() {
    let layer = BulkheadLayer::new(config(1));
    let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
    let held = handle.try_acquire().unwrap();
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    // There is room now, by an order or because the other call is over.
    handle.resize(9).unwrap();
    assert!(is_full(task::spawn(service.call(1)).poll()));
    drop(held);
    assert!(is_full(task::spawn(service.call(1)).poll()));
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    assert_eq!(assert_ready!(task::spawn(service.call(1)).poll()), Ok(1));
    assert!(is_full(task::spawn(service.call(1)).poll()), "a readiness is used once");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_between_poll_ready_and_call_keeps_the_readiness_for_the_next_call() {
    let layer = BulkheadLayer::new(config(2));
    let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
    let held = handle.try_acquire().unwrap();
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    handle.resize(1).unwrap();
    assert!(is_full(task::spawn(service.call(1)).poll()));
    drop(held);
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    assert_eq!(service.get_ref().asked(), 1, "it is ready still");
    assert_eq!(assert_ready!(task::spawn(service.call(1)).poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_asks_a_clone_and_leaves_a_service_that_has_to_be_asked_again() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(9));
    let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    let held = handle.try_acquire().unwrap();
    let mut waits = task::spawn(service.call(1));
    assert_pending!(waits.poll());
    drop(held);
    assert_eq!(assert_ready!(waits.poll()), Ok(1));
    drop(waits);
    // Without having been asked it waits, since it may have to be made ready.
    assert_eq!(assert_ready!(task::spawn(service.call(2)).poll()), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_may_have_been_replaced_has_to_be_asked_again() {
    let layer = BulkheadLayer::new(config(1));
    let mut service = layer.layer(Strict::default());
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    *service.get_mut() = Strict::default();
    assert!(is_full(task::spawn(service.call(1)).poll()), "it was not asked");
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    assert_eq!(assert_ready!(task::spawn(service.call(1)).poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_too_a_service_that_may_have_been_replaced_has_to_be_asked_again() {
    let layer = BulkheadLayer::backpressure(config(1));
    let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    *service.get_mut() = Strict::default();
    assert!(is_full(task::spawn(service.call(1)).poll()), "it was not asked");
    assert_counts(&handle, 0, 0);
    assert!(assert_ready!(poll_ready(&mut service)).is_ok());
    assert_eq!(assert_ready!(task::spawn(service.call(1)).poll()), Ok(1));
}

/// Whoever calls without waiting for readiness, such as a `select!` that went another way.
#[tokio::test(start_paused = true)]
async fn with_backpressure_a_permit_alone_does_not_call_a_service_that_is_not_ready() {
    let layer = BulkheadLayer::backpressure(config(1));
    let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
    service.get_ref().refuses.store(true, Ordering::Relaxed);
    assert_pending!(poll_ready(&mut service));
    assert_counts(&handle, 1, 0);
    assert!(is_full(task::spawn(service.call(1)).poll()));
    assert_counts(&handle, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_refuses_without_asking_the_service() {
    for partitions in [vec![], vec![PartitionConfig::new("batch", 0.5).lends(0.0)]] {
        let layer = BulkheadLayer::new(config(2).partitions(partitions.clone()));
        let (mut service, handle) = (layer.layer(Strict::default()), layer.handle());
        let claim = stanchion::CallAttributes::new().partition(Partition::named("batch"));
        let _held = [(); 2].map(|()| handle.try_acquire_for(&claim).unwrap());
        assert!(assert_ready!(poll_ready(&mut service)).is_ok());
        assert_eq!(service.get_ref().asked(), 0, "{partitions:?}");
        assert!(is_full(task::spawn(service.call(1)).poll()));
    }
}
