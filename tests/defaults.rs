//! Every configuration has defaults, which are valid, and a layer of them.

use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, BudgetConfig, BulkheadConfig, BulkheadLayer,
    CircuitBreakerConfig, CircuitBreakerLayer, HedgeConfig, HedgeLayer, RateLimitConfig, RateLimitLayer,
    RetryConfig, RetryLayer, StaleConfig, ThrottleConfig, ThrottleLayer, TimeoutConfig, TimeoutLayer,
};

macro_rules! defaults {
    ($($test:ident, $layer:ident, $config:ident;)*) => {$(
        #[test]
        fn $test() {
            let config = $config::default();
            assert_eq!(config.validate(), Ok(()));
            assert_eq!($layer::default().handle().config(), config);
        }
    )*};
}

defaults! {
    a_circuit_breaker_has_defaults, CircuitBreakerLayer, CircuitBreakerConfig;
    a_timeout_has_defaults, TimeoutLayer, TimeoutConfig;
    a_retry_has_defaults, RetryLayer, RetryConfig;
    a_hedge_has_defaults, HedgeLayer, HedgeConfig;
    a_throttle_has_defaults, ThrottleLayer, ThrottleConfig;
    a_rate_limit_has_defaults, RateLimitLayer, RateLimitConfig;
    a_bulkhead_has_defaults, BulkheadLayer, BulkheadConfig;
    an_adaptive_limit_has_defaults, AdaptiveLimitLayer, AdaptiveLimitConfig;
}

#[test]
fn budgets_and_last_good_answers_have_defaults() {
    assert_eq!(BudgetConfig::default().validate(), Ok(()));
    assert_eq!(StaleConfig::default().validate(), Ok(()));
}
