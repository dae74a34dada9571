//! Defaults, and what can be checked without a layer.

use stanchion::admission::MinRemaining;
use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer, AdmissionConfig, PartitionConfig};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_layer_by_default_is_one_with_the_default_configuration() {
    assert_eq!(BulkheadLayer::default().handle().config(), BulkheadConfig::default());
    assert_eq!(AdaptiveLimitLayer::default().handle().config(), AdaptiveLimitConfig::default());
}

#[test]
fn a_configuration_says_what_is_wrong_with_it_without_a_layer() {
    assert_eq!(BulkheadConfig::default().validate(), Ok(()));
    assert_eq!(AdmissionConfig::default().validate(), Ok(()));
    for (wrong, field, given) in [
        (config(0), "max_in_flight", "0"),
        (config(u32::MAX), "max_in_flight", "4294967295"),
        (config(1).max_wait(Duration::ZERO), "max_wait", "0ns"),
        (config(1).min_remaining(MinRemaining::Measured(1.0)), "min_remaining", "1.0"),
        (config(1).partitions([PartitionConfig::new("batch", 2.0)]), "partitions.share", "2.0"),
    ] {
        let error = wrong.validate().unwrap_err();
        assert_eq!((error.field(), error.given()), (field, given));
    }
    let waiting = config(1).max_queued(9).admit_exempt(true).partitions([PartitionConfig::new("batch", 0.5)]);
    assert_eq!(waiting.validate(), Ok(()), "a layer that waits may have all of it");
}

#[test]
fn partitions_that_cannot_be_are_named_in_the_error() {
    let [live, batch] = [PartitionConfig::new("live", 0.5), PartitionConfig::new("batch", 0.5)];
    let both = config(9).partitions([live, batch]);
    let error = BulkheadLayer::try_backpressure(both.clone()).unwrap_err();
    assert_eq!((error.field(), error.given()), ("partitions", r#"["live", "batch"]"#));
    let error = BulkheadLayer::new(both).handle().reconfigure(config(9).partitions([batch])).unwrap_err();
    assert_eq!((error.field(), error.given()), ("partitions", r#"["batch"]"#));
}
