//! The load of the service inside, for `tower`'s balancer: a layer that hides it cannot stand under one.

use tower::load::Load;

use crate::admission::{Admission, Limit};
use crate::circuit_breaker::CircuitBreaker;
use crate::fallback::Fallback;
use crate::hedge::Hedge;
use crate::rate_limit::RateLimit;
use crate::respond::Respond;
use crate::retry::Retry;
use crate::throttle::Throttle;
use crate::timeout::Timeout;

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
