//! Errors that two layers could report, and the layer whose name they carry.

use super::*;

/// The inner layer gives up for lack of time, and not because the outer limit is over.
#[tokio::test(start_paused = true)]
async fn a_layer_further_in_that_gives_up_before_the_limit_is_over_keeps_its_name() {
    let config = TimeoutConfig::new().limit(Limit::Deadline).min_remaining(MinRemaining::Fixed(60 * SECOND));
    for waits in [Duration::ZERO, SECOND - MS, SECOND] {
        let inner =
            TimeoutLayer::new(config.clone()).name("inner").protocol(Queries).layer(Backend::default());
        let slow = service_fn(move |query: Query| {
            let inner = inner.clone();
            async move {
                sleep(waits).await;
                inner.oneshot(query).await
            }
        });
        let mut outer = after(SECOND).protocol(Queries).layer(slow);
        let result = call(&mut outer, Query::default()).await;
        assert_refused(result, "inner", Reason::DeadlineExceeded, SECOND - waits);
    }
}

#[test]
fn a_layer_of_the_defaults_is_one_of_the_default_configuration() {
    assert_eq!(TimeoutLayer::default().handle().config(), TimeoutConfig::default());
    assert_eq!(TimeoutConfig::default().validate(), Ok(()));
    assert!(TimeoutConfig::new().idle(Duration::ZERO).validate().is_err());
}

/// The inner layer has a deadline that the outer layer does not see.
#[tokio::test(start_paused = true)]
async fn a_layer_further_in_that_cuts_a_call_off_before_the_limit_is_over_keeps_its_name() {
    let inner =
        TimeoutLayer::new(TimeoutConfig::new().limit(Limit::Deadline)).name("inner").protocol(Queries);
    let mut service = after(SECOND).layer(inner.layer(Backend::default()));
    for (left, layer, reason) in
        [(SECOND - MS, "inner", Reason::DeadlineExceeded), (SECOND, "outer", Reason::TotalTimeout)]
    {
        let rejected = rejected(call(&mut service, Query::of(2 * SECOND).within(left)).await);
        assert!(rejected.reached_service());
        assert_eq!((rejected.layer(), rejected.reason(), rejected.limit()), (layer, reason, Some(left)));
    }
}
