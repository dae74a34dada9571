//! The load of the service inside, for `tower`'s balancer: a layer that hides it cannot stand under one.

use tower::load::Load;

use crate::circuit_breaker::CircuitBreaker;
use crate::respond::Respond;

macro_rules! forward_load {
    ($($service:ident<S, $generic:ident>),*) => {$(
        impl<S: Load, $generic> Load for $service<S, $generic> {
            type Metric = S::Metric;

            fn load(&self) -> Self::Metric {
                self.get_ref().load()
            }
        }
    )*};
}

forward_load!(CircuitBreaker<S, C>, Respond<S, F>);
