//! Grants that are not claimed: who notices, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use stanchion::telemetry::{ConcurrencyGauge, Event, LayerId};
use stanchion::{
    BulkheadConfig, BulkheadHandle, BulkheadLayer, CallAttributes, Criticality, Partition, PartitionConfig,
    PriorityShares, Tenant,
};
use tokio::time::{advance, sleep, timeout};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Failure, SECOND};

const MS: Duration = Duration::from_millis(1);

async fn echo(request: u32) -> Result<u32, Failure> {
    Ok(request)
}

fn waiting(config: BulkheadConfig) -> BulkheadHandle {
    BulkheadLayer::waiting(config.max_queued(10).max_wait(60 * SECOND)).handle()
}

/// A call at the handle that answers at once.
fn call(
    handle: &BulkheadHandle,
    claim: &CallAttributes,
) -> Spawn<impl Future<Output = Result<(), Failure>> + use<>> {
    let mut call = task::spawn(handle.run_for(claim, async { Ok::<_, Failure>(()) }));
    assert_pending!(call.poll());
    call
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gave_up_getting_ready_does_not_keep_the_next_one_from_its_turn() {
    let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(1));
    let (mut kept, mut next) = (layer.layer(service_fn(echo)), layer.layer(service_fn(echo)));
    let held = layer.handle().try_acquire().unwrap();
    assert!(timeout(10 * MS, kept.ready()).await.is_err());
    let next = tokio::spawn(async move { next.ready().await.unwrap().call(2).await });
    sleep(MS).await;
    drop(held);
    let answer = timeout(SECOND, next).await.expect("nothing is under way").unwrap();
    assert_eq!(answer, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn services_that_gave_up_getting_ready_one_after_the_other_keep_nobody_out() {
    let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(2));
    let mut idle: Vec<_> = (0..6).map(|_| layer.layer(service_fn(echo))).collect();
    let held = [(); 2].map(|()| layer.handle().try_acquire().unwrap());
    let served = Arc::new(AtomicU32::new(0));
    for service in &mut idle {
        assert!(timeout(MS, service.ready()).await.is_err());
        let (mut other, served) = (layer.layer(service_fn(echo)), Arc::clone(&served));
        tokio::spawn(async move {
            other.ready().await.unwrap().call(1).await.unwrap();
            served.fetch_add(1, Ordering::Relaxed);
        });
        sleep(MS).await;
    }
    // From a thread that has no timers of its own.
    std::thread::spawn(move || drop(held)).join().unwrap();
    sleep(SECOND).await;
    assert_eq!(served.load(Ordering::Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_not_woken_before_something_has_become_of_it() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let _held = handle.try_acquire().unwrap();
    let waits = call(&handle, &CallAttributes::new());
    advance(30 * SECOND).await;
    assert!(!waits.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_claimed_wakes_the_next_call_and_none_after_it() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let held = handle.try_acquire().unwrap();
    let [_sleeper, mut next, last] = [(); 3].map(|()| call(&handle, &CallAttributes::new()));
    drop(held);
    assert!(!next.is_woken());
    advance(99 * MS).await;
    assert!(!next.is_woken(), "it is not late yet");
    advance(2 * MS).await;
    assert!(next.is_woken() && !last.is_woken());
    assert_ready_ok!(next.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_while_a_grant_is_unclaimed_has_it_in_time() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let held = handle.try_acquire().unwrap();
    let _sleeper = call(&handle, &CallAttributes::new());
    drop(held);
    advance(50 * MS).await;
    let mut next = call(&handle, &CallAttributes::new());
    advance(51 * MS).await;
    assert!(next.is_woken());
    assert_ready_ok!(next.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slept_alone_in_its_lane_keeps_its_turn() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let held = handle.try_acquire().unwrap();
    let of = |tenant: u64| CallAttributes::new().tenant(Tenant::of(tenant));
    let mut calls: Vec<_> = (0..4).map(|tenant| Some(call(&handle, &of(tenant)))).collect();
    drop(held);
    advance(101 * MS).await;
    assert_pending!(calls[0].as_mut().unwrap().poll(), "it slept");
    let mut order = Vec::new();
    for _ in 0..4 {
        let is_woken = |call: &Option<Spawn<_>>| call.as_ref().is_some_and(Spawn::is_woken);
        let next = calls.iter().position(is_woken).unwrap();
        assert_ready_ok!(calls[next].take().unwrap().poll());
        order.push(next);
    }
    assert_eq!(order, [1, 0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slept_is_refused_if_there_can_be_no_room_for_it_any_more() {
    let config = |share, lends| {
        let partitions = [PartitionConfig::new("all", share).lends(lends)];
        BulkheadConfig::new().max_in_flight(1).max_queued(10).max_wait(60 * SECOND).partitions(partitions)
    };
    let handle = BulkheadLayer::waiting(config(0.5, 1.0)).handle();
    let held = handle.try_acquire().unwrap();
    let mut sleeper = call(&handle, &CallAttributes::new());
    drop(held);
    advance(101 * MS).await;
    let again = handle.try_acquire().unwrap();
    handle.reconfigure(config(1.0, 0.0)).unwrap();
    drop(again);
    assert_ready_err!(sleeper.poll());
    assert_eq!(handle.snapshot().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_a_partition_is_there_at_the_handle_while_others_wait() {
    let partitions = ["live", "batch"].map(|name| PartitionConfig::new(name, 0.5).lends(0.0));
    let handle = waiting(BulkheadConfig::new().max_in_flight(10).partitions(partitions));
    let of = |name| CallAttributes::new().partition(Partition::named(name));
    let _held: Vec<_> = (0..5).map(|_| handle.try_acquire_for(&of("batch")).unwrap()).collect();
    let waits = call(&handle, &of("batch"));
    let live: Vec<_> = (0..5).map(|_| handle.try_acquire_for(&of("live")).unwrap()).collect();
    assert!(handle.try_acquire_for(&of("live")).is_err(), "the limit is the limit");
    drop(live);
    assert!(!waits.is_woken());
}

#[tokio::test(start_paused = true)]
async fn the_headroom_of_a_higher_criticality_is_there_at_the_handle_while_lower_ones_wait() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(10).headroom(PriorityShares::RECOMMENDED));
    let of = |level| CallAttributes::new().criticality(level);
    let _held: Vec<_> =
        (0..5).map(|_| handle.try_acquire_for(&of(Criticality::SHEDDABLE)).unwrap()).collect();
    let _waits = call(&handle, &of(Criticality::SHEDDABLE));
    let _critical = handle.try_acquire_for(&of(Criticality::CRITICAL)).unwrap();
    assert!(handle.try_acquire_for(&of(Criticality::SHEDDABLE)).is_err(), "another one waits");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_that_is_polled_again_does_not_reach_the_service() {
    let begun = Arc::new(AtomicU32::new(0));
    let calls = Arc::clone(&begun);
    let config = BulkheadConfig::new().max_in_flight(1).max_queued(1).max_wait(10 * MS);
    let layer = BulkheadLayer::waiting(config);
    let _held = layer.handle().try_acquire().unwrap();
    let mut service = layer.layer(service_fn(move |request| {
        calls.fetch_add(1, Ordering::Relaxed);
        echo(request)
    }));
    let mut call = task::spawn(service.ready().await.unwrap().call(1));
    assert_pending!(call.poll());
    advance(20 * MS).await;
    assert_ready_err!(call.poll());
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.poll().is_ready()));
    assert!(again.is_err());
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn services_that_wait_until_they_are_ready_are_told_as_queued() {
    let queued = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&queued);
    let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(1)).observer(
        move |_: &LayerId, event: &Event<'_>| {
            if let Event::Concurrency { what: ConcurrencyGauge::Queued, change, .. } = event {
                told.fetch_add(*change, Ordering::Relaxed);
            }
        },
    );
    let handle = layer.handle();
    let mut services: Vec<_> = (0..5).map(|_| layer.layer(service_fn(echo))).collect();
    for service in &mut services {
        let _ = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    }
    assert_eq!((queued.load(Ordering::Relaxed), handle.snapshot().queued), (4, 4));
    services.remove(0);
    assert!(assert_ready!(task::spawn(()).enter(|cx, _| services[0].poll_ready(cx))).is_ok());
    assert_eq!((queued.load(Ordering::Relaxed), handle.snapshot().queued), (3, 3));
    drop(services);
    assert_eq!((queued.load(Ordering::Relaxed), handle.snapshot().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_dropped_unclaimed_gives_its_permit_back_once() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let held = handle.try_acquire().unwrap();
    let granted = call(&handle, &CallAttributes::new());
    drop(held);
    drop(granted);
    let _held = handle.try_acquire().unwrap();
    let mut next = call(&handle, &CallAttributes::new());
    advance(SECOND).await;
    assert_pending!(next.poll());
    let now = handle.snapshot();
    assert_eq!((now.in_flight, now.queued), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_lane_that_slept_have_the_earliest_of_their_turns() {
    let handle = waiting(BulkheadConfig::new().max_in_flight(1));
    let held = handle.try_acquire().unwrap();
    let of = |tenant: u64| CallAttributes::new().tenant(Tenant::of(tenant));
    // The second tenant's turn comes between those of the first.
    let mut calls = [1, 1, 2].map(|tenant| Some(call(&handle, &of(tenant))));
    drop(held);
    for _ in 0..calls.len() {
        advance(101 * MS).await;
    }
    let held = handle.try_acquire().unwrap();
    for sleeper in calls.iter_mut().flatten() {
        assert_pending!(sleeper.poll());
    }
    drop(held);
    let mut order = Vec::new();
    for _ in 0..calls.len() {
        let is_woken = |call: &Option<Spawn<_>>| call.as_ref().is_some_and(Spawn::is_woken);
        let next = calls.iter().position(is_woken).unwrap();
        assert_ready_ok!(calls[next].take().unwrap().poll());
        order.push(next);
    }
    assert_eq!(order, [0, 2, 1]);
}
