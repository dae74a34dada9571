//! Thresholds at which two rules meet.

use super::*;
use crate::middleware::adaptive_limit::algorithm::{Next, Sample};

#[test]
fn aimd_takes_a_window_for_a_bad_one_only_above_its_thresholds() {
    let mut aimd = Aimd::new().max_latency(10 * MS).max_failure_ratio(0.25);
    let window = |latency, failures| {
        let mut sample = Sample::new(latency, 20, 100);
        sample.failures = failures;
        sample
    };
    let mut next = |latency, failures| aimd.next(20.0, &window(latency, failures));
    assert_eq!(next(10 * MS, 25), Next::limit(21.0));
    for (latency, failures) in [(10 * MS + Duration::from_nanos(1), 25), (10 * MS, 26)] {
        assert_eq!(next(latency, failures), Next::limit(18.0));
    }
}
