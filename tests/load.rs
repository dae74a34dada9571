//! Every service tells the load of the one inside, so that each can stand under tower's balancer.

#![cfg(feature = "balance")]

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use stanchion::rate_limit::Quota;
use stanchion::{
    AdaptiveLimitLayer, BulkheadConfig, BulkheadLayer, CircuitBreakerLayer, Error, FallbackLayer, HedgeLayer,
    RateLimitLayer, Rejected, RetryLayer, ThrottleLayer, TimeoutLayer, respond,
};
use tower::load::Load;
use tower::{Layer, Service};

/// An endpoint with a load of its own.
#[derive(Clone)]
struct Endpoint(u32);

impl Load for Endpoint {
    type Metric = u32;

    fn load(&self) -> u32 {
        self.0
    }
}

impl Service<()> for Endpoint {
    type Response = ();
    type Error = Error<std::fmt::Error>;
    type Future = Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn assert_tells_its_load<L>(layer: &L)
where
    L: Layer<Endpoint, Service: Load<Metric = u32> + Service<()>>,
{
    assert_eq!(layer.layer(Endpoint(7)).load(), 7);
}

#[test]
fn every_service_tells_the_load_of_the_one_inside() {
    assert_tells_its_load(&CircuitBreakerLayer::default());
    assert_tells_its_load(&TimeoutLayer::default());
    assert_tells_its_load(&RetryLayer::default());
    assert_tells_its_load(&HedgeLayer::default());
    assert_tells_its_load(&FallbackLayer::value(()));
    assert_tells_its_load(&ThrottleLayer::default());
    assert_tells_its_load(&RateLimitLayer::default());
    assert_tells_its_load(&RateLimitLayer::new(Quota::per_second(1)).waits());
    assert_tells_its_load(&BulkheadLayer::default());
    assert_tells_its_load(&BulkheadLayer::waiting(BulkheadConfig::new()));
    assert_tells_its_load(&BulkheadLayer::backpressure(BulkheadConfig::new()));
    assert_tells_its_load(&AdaptiveLimitLayer::default());
    assert_tells_its_load(&respond(|_: Rejected| ()));
}
