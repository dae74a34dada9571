//! Forwards the load of the inner service, so that every layer can stand under tower's balancer.

use tower::load::Load;

use crate::middleware::admission::{Admission, Limit};
use crate::middleware::circuit_breaker::CircuitBreaker;
use crate::middleware::fallback::Fallback;
use crate::middleware::hedge::Hedge;
use crate::middleware::rate_limit::RateLimit;
use crate::middleware::respond::Respond;
use crate::middleware::retry::Retry;
use crate::middleware::throttle::Throttle;
use crate::middleware::timeout::Timeout;

macro_rules! forward_load {
    ($($service:ident<S $(, $generic:ident $(: $bound:ident)?)*>),* $(,)?) => {$(
        impl<S: Load $(, $generic $(: $bound)?)*> Load for $service<S $(, $generic)*> {
            type Metric = S::Metric;

            fn load(&self) -> Self::Metric {
                self.get_ref().load()
            }
        }
    )*};
}

forward_load!(
    Admission<S, L: Limit, W, P>,
    CircuitBreaker<S, P>,
    Fallback<S, A, K, P>,
    Hedge<S, P>,
    RateLimit<S, K, C, W, P>,
    Respond<S, F>,
    Retry<S, P>,
    Throttle<S, P>,
    Timeout<S, P>,
);
