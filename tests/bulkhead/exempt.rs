//! Calls that are exempt from the limit, such as health checks.

use stanchion::{CallAttributes, Deadline, Partition, PartitionConfig};

use super::*;

const EXEMPT: CallAttributes = CallAttributes::new().exempt(true);

fn exempting(max_in_flight: u32) -> BulkheadConfig {
    config(max_in_flight).admit_exempt(true)
}

/// Requests from 100 on are exempt.
fn claim(request: &u32) -> CallAttributes {
    CallAttributes::new().exempt(*request >= 100)
}

#[tokio::test(start_paused = true)]
async fn an_exempt_call_reaches_the_service_while_the_limit_is_full() {
    let layer = BulkheadLayer::new(exempting(1)).attributes(claim);
    let (backend, handle) = (Backend::default(), layer.handle());
    let mut service = layer.layer(backend.clone());
    let _held = begin(&mut service, 1);
    let check = begin(&mut service, 100);
    assert_eq!(backend.requests(), [1, 100]);
    assert_counts(&handle, 2, 0);
    assert_eq!(refusal(&mut service, 2).reason(), Reason::BulkheadFull);
    drop(check);
    assert_counts(&handle, 1, 0);
    assert_eq!(refusal(&mut service, 2).reason(), Reason::BulkheadFull);
}

#[tokio::test(start_paused = true)]
async fn an_exempt_call_overtakes_all_that_wait() {
    let layer = BulkheadLayer::waiting(exempting(1).max_queued(9)).attributes(claim);
    let (backend, handle) = (Backend::default(), layer.handle());
    let mut service = layer.layer(backend.clone());
    let held = begin(&mut service, 1);
    let mut waits = begin(&mut service, 2);
    let check = begin(&mut service, 100);
    assert_eq!(backend.requests(), [1, 100]);
    assert_counts(&handle, 2, 1);
    drop(held);
    assert_pending!(waits.poll());
    assert_eq!(backend.requests(), [1, 100], "there is one call under way");
    drop(check);
    assert_pending!(waits.poll());
    assert_eq!(backend.requests(), [1, 100, 2]);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_exempt_unless_that_is_configured() {
    let handle = BulkheadLayer::waiting(config(1).max_queued(9)).handle();
    let _held = handle.try_acquire().unwrap();
    assert!(handle.try_acquire_for(&EXEMPT).is_err());
    let mut waits = task::spawn(handle.run_for(&EXEMPT, ready(Answer::Ok(1))));
    assert_pending!(waits.poll());
    handle.reconfigure(exempting(1).max_queued(9)).unwrap();
    assert!(handle.try_acquire_for(&EXEMPT).is_ok());
    assert_eq!(assert_ready!(task::spawn(handle.run_for(&EXEMPT, ready(Answer::Ok(1)))).poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_exempt_call_of_a_partition_is_admitted_just_after_the_limit_has_fallen() {
    const LIVE: Partition = Partition::named("live");
    let partitions = [PartitionConfig::new("live", 0.5).lends(0.5)];
    let handle = BulkheadLayer::new(exempting(8).partitions(partitions)).handle();
    let live = CallAttributes::new().partition(LIVE);
    let others: Vec<_> = std::iter::from_fn(|| handle.try_acquire().ok()).collect();
    assert_eq!(others.len(), 6);
    handle.resize(4).unwrap();
    assert!(handle.try_acquire_for(&live).is_err(), "six are under way, and four allowed");
    let checks = [(); 3].map(|()| handle.try_acquire_for(&live.exempt(true)).unwrap());
    assert_eq!((handle.partitions()[0].in_flight, handle.snapshot().in_flight), (3, 9));
    drop(others);
    assert!(handle.try_acquire_for(&live).is_ok());
    drop(checks);
    assert_eq!((handle.partitions()[0].in_flight, handle.snapshot().in_flight), (0, 0));
    let all: Vec<_> = std::iter::from_fn(|| handle.try_acquire_for(&live).ok()).take(9).collect();
    assert_eq!(all.len(), 4, "the limit is what it was");
}

#[tokio::test(start_paused = true)]
async fn an_exempt_call_that_is_too_late_is_refused_all_the_same() {
    let handle = BulkheadLayer::new(exempting(1)).handle();
    let late = EXEMPT.deadline(Deadline::after(Duration::ZERO));
    assert_eq!(handle.try_acquire_for(&late).unwrap_err().reason(), Reason::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn how_long_an_exempt_call_takes_is_not_measured() {
    use stanchion::admission::MinRemaining;
    use stanchion::classify::Class;
    let handle = BulkheadLayer::new(exempting(1).min_remaining(MinRemaining::Measured(0.5))).handle();
    for _ in 0..200 {
        let check = handle.try_acquire_for(&EXEMPT).unwrap();
        advance(Duration::from_millis(10)).await;
        check.finish(Class::Success);
    }
    advance(SECOND).await;
    let hurried = CallAttributes::new().deadline(Deadline::after(Duration::from_millis(1)));
    assert!(handle.try_acquire_for(&hurried).is_ok());
}

#[test]
fn with_backpressure_no_call_can_be_exempt() {
    let error = BulkheadLayer::try_backpressure(exempting(1)).unwrap_err();
    assert_eq!((error.field(), error.given()), ("admit_exempt", "true"));
}
