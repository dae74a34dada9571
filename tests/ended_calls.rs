//! A call that has ended holds nothing of the service any more, though its future has not been dropped.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use stanchion::hedge::HedgeDelay;
use stanchion::{Backoff, FallbackLayer, HedgeConfig, HedgeLayer, RetryConfig, RetryLayer};
use tokio::time::{sleep, timeout};
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

type Limited = ConcurrencyLimit<BoxCloneSyncService<u32, (), BoxError>>;

/// A service that takes as many milliseconds as it is asked to, and fails if those are 10.
fn limited(max: usize) -> Limited {
    let service = service_fn(|millis: u32| async move {
        sleep(millis * MS).await;
        if millis == 10 { Err(BoxError::from("broken")) } else { Ok(()) }
    });
    ConcurrencyLimit::new(BoxCloneSyncService::new(service), max)
}

/// All that the service has room for is there to be had.
async fn assert_room_for(inner: &Limited, max: usize) {
    let mut holders = vec![inner.clone(); max];
    for holder in &mut holders {
        timeout(1_000 * MS, holder.ready()).await.expect("there is room").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedged_call_that_has_ended_waits_for_no_copy() {
    let inner = limited(2);
    let layer = HedgeLayer::new(HedgeConfig::new().delay(HedgeDelay::Fixed(10 * MS)));
    let mut service = layer.layer(inner.clone());
    let other = tokio::spawn(inner.clone().oneshot(200));
    sleep(MS).await;
    let mut call = pin!(service.ready().await.unwrap().call(100));
    call.as_mut().await.unwrap();
    drop(service);
    other.await.unwrap().unwrap();
    assert_room_for(&inner, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_retried_call_that_has_ended_waits_for_no_attempt() {
    let inner = limited(1);
    let config = RetryConfig::new().backoff(Backoff::constant(100 * MS)).ready_within(50 * MS);
    let mut service = RetryLayer::new(config).layer(inner.clone());
    let mut call = pin!(service.ready().await.unwrap().call(10));
    let other = tokio::spawn(inner.clone().oneshot(1_000));
    call.as_mut().await.unwrap_err();
    drop(service);
    other.await.unwrap().unwrap();
    assert_room_for(&inner, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_fallback_was_not_ready_waits_for_it_no_more() {
    let inner = limited(1);
    let layer = FallbackLayer::service(inner.clone()).keep(|millis: &u32| *millis).ready_within(50 * MS);
    let other = tokio::spawn(inner.clone().oneshot(1_000));
    sleep(MS).await;
    let service = layer.layer(service_fn(|_: u32| ready(Err::<(), _>(BoxError::from("broken")))));
    let mut call = pin!(service.oneshot(10));
    call.as_mut().await.unwrap_err();
    other.await.unwrap().unwrap();
    assert_room_for(&inner, 1).await;
}
