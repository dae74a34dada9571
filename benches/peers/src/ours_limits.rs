//! The layers of stanchion that bound what a service is sent.

use std::time::Duration;

use stanchion::rate_limit::Quota;
use stanchion::{BulkheadConfig, BulkheadLayer, RateLimitLayer, ThrottleConfig, ThrottleLayer};
use tower::{Layer, Service, service_fn};

use crate::measure::Tower;
use crate::ours::Error;
use crate::row::{Expect::*, *};
use crate::service::{echo, fail};

pub fn rows() -> Vec<Row> {
    [rate_limits(), bulkheads(), throttles()].into_iter().flatten().collect()
}

fn admits<S: Service<u64> + Clone + Send + 'static>(name: &'static str, service: S) -> Row {
    Row::new(name, Success, Tower(service))
}

fn refuses<S: Service<u64> + Clone + Send + 'static>(name: &'static str, service: S) -> Row {
    Row::new(name, Refusal, Tower(service))
}

fn rate_limits() -> Vec<Row> {
    // One each nanosecond: never refuses, whatever the machine.
    let plenty = || Quota::per_second(1_000_000_000);
    let hourly = || Quota::per(1, Duration::from_secs(3_600)).burst(1);
    let spent = RateLimitLayer::new(hourly());
    let _ = spent.handle().try_take(1);
    let by_key = |quota| RateLimitLayer::keyed(quota, |req: &u64| Some(req & 1));
    let keys_spent = by_key(hourly());
    for key in 0..2_u64 {
        let _ = keys_spent.handle().try_take_for(&key, 1);
    }
    vec![
        admits(OURS_RATE, RateLimitLayer::new(plenty()).layer(service_fn(echo::<Error>))),
        admits(OURS_RATE_BY_KEY, by_key(plenty()).layer(service_fn(echo::<Error>))),
        admits(OURS_RATE_WAITS, RateLimitLayer::new(plenty()).waits().layer(service_fn(echo::<Error>))),
        refuses(OURS_RATE_REFUSED, spent.layer(service_fn(echo::<Error>))),
        refuses(OURS_KEY_REFUSED, keys_spent.layer(service_fn(echo::<Error>))),
    ]
}

fn bulkheads() -> Vec<Row> {
    let config = BulkheadConfig::new();
    let full = BulkheadLayer::new(config.clone().max_in_flight(1));
    // For good.
    std::mem::forget(full.handle().try_acquire());
    vec![
        admits(OURS_BULKHEAD, BulkheadLayer::new(config.clone()).layer(service_fn(echo::<Error>))),
        admits(
            OURS_BULKHEAD_WAITS,
            BulkheadLayer::waiting(config.clone().max_queued(64)).layer(service_fn(echo::<Error>)),
        ),
        admits(OURS_BACKPRESSURE, BulkheadLayer::backpressure(config).layer(service_fn(echo::<Error>))),
        refuses(OURS_FULL, full.layer(service_fn(echo::<Error>))),
    ]
}

/// Of no other crate is one known. What it refuses it refuses by chance: of a service that fails always, nearly all.
fn throttles() -> Vec<Row> {
    let throttle = || ThrottleLayer::new(ThrottleConfig::new().max_ratio(1.0));
    vec![
        admits("**stanchion**, throttle", throttle().layer(service_fn(echo::<Error>))),
        refuses("**stanchion**, throttle, nearly all rejected", throttle().layer(service_fn(fail::<Error>))),
    ]
}
