//! The layers of stanchion around a circuit breaker, alone and stacked.

use std::time::Duration;

use stanchion::hedge::HedgeDelay;
use stanchion::{FallbackLayer, HedgeConfig, HedgeLayer, RetryConfig, RetryLayer, TimeoutLayer};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::measure::Tower;
use crate::ours::{Error, by_count, by_time};
use crate::row::*;
use crate::service::{echo, fail, pending_once};

const SECOND: Duration = Duration::from_secs(1);

pub fn rows() -> Vec<Row> {
    let hedge = || HedgeLayer::new(HedgeConfig::new());
    let fixed = || HedgeLayer::new(HedgeConfig::new().delay(HedgeDelay::Fixed(SECOND)));
    // Each stack is around a service of its own: a program has one, and where several share their types less is inlined.
    let stack = || ServiceBuilder::new().layer(total()).layer(retry());
    vec![
        row(OURS_RETRY, retry().layer(service_fn(echo::<Error>))),
        row(OURS_TIMEOUT, attempt().layer(service_fn(echo::<Error>))),
        row(OURS_ARMED, attempt().layer(service_fn(pending_once::<Error>))),
        row(OURS_HEDGE, hedge().layer(service_fn(echo::<Error>))),
        row(OURS_FIXED_HEDGE, fixed().layer(service_fn(async |req| echo::<Error>(req).await))),
        row(OURS_HEDGE_ARMED, hedge().layer(service_fn(pending_once::<Error>))),
        row(OURS_FIXED_HEDGE_ARMED, fixed().layer(service_fn(async |req| pending_once::<Error>(req).await))),
        row(OURS_FALLBACK, FallbackLayer::value(0).layer(service_fn(echo::<Error>))),
        row(OURS_FELL_BACK, FallbackLayer::value(0).layer(service_fn(fail::<Error>))),
        row(OURS_STACK, stack().layer(by_count()).layer(attempt()).service_fn(echo::<Error>)),
        row(
            OURS_SLOW_STACK,
            stack()
                .layer(by_time(Some(true)))
                .layer(attempt())
                .service_fn(async |req| echo::<Error>(req).await),
        ),
        row(
            OURS_TIME_STACK,
            stack().layer(by_time(None)).layer(attempt()).service_fn(async |req| echo::<Error>(req).await),
        ),
        row(OURS_SMALL_STACK, stack().layer(attempt()).service_fn(echo::<Error>)),
    ]
}

fn row<S: Service<u64> + Clone + Send + 'static>(name: &'static str, service: S) -> Row {
    Row::new(name, Expect::Success, Tower(service))
}

fn total() -> TimeoutLayer {
    TimeoutLayer::after(10 * SECOND)
}

fn attempt() -> TimeoutLayer {
    TimeoutLayer::per_attempt(SECOND)
}

fn retry() -> RetryLayer {
    RetryLayer::new(RetryConfig::new())
}
