//! The throttle under loom: every interleaving of two threads.

use std::time::Duration;

use loom::sync::Arc;

use super::config::ThrottleConfig;
use super::state::{End, Measures, Rule, Sent, Tally};
use crate::clock::{Now, Timestamp};
use crate::sync::both;

const WINDOW: Duration = Duration::from_secs(10);
/// Half of the time after which a call is late, since the window of a model has two buckets.
const CALM: u64 = 2_500_000_000;

fn measures() -> Arc<Measures> {
    Arc::new(Measures::new(WINDOW, 0))
}

fn admit(measures: &Measures, at: u64) -> Option<Sent> {
    let rule = Rule::new(&ThrottleConfig::new().min_requests(2));
    measures.admit(&rule, &Now::at(Timestamp(at), 0), || 0.0)
}

fn end(measures: &Measures, sent: Sent, end: End) {
    measures.end(sent, end, &Now::at(Timestamp(0), 0));
}

#[test]
fn a_rejection_that_comes_while_all_is_found_calm_is_heeded_when_the_calm_is_over() {
    loom::model(|| {
        let measures = measures();
        let calls = [admit(&measures, 0), admit(&measures, 0)].map(|call| call.expect("all is calm"));
        let [first, second] = calls;
        // One is too few to refuse for, but enough to look.
        end(&measures, first, End::Rejected);
        let (rejecting, looking) = (Arc::clone(&measures), Arc::clone(&measures));
        both(move || end(&rejecting, second, End::Rejected), move || drop(admit(&looking, 0)));
        assert!(admit(&measures, CALM).is_none());
    });
}

#[test]
fn calls_that_end_together_are_all_counted() {
    loom::model(|| {
        let measures = measures();
        let calls = [admit(&measures, 0), admit(&measures, 0)].map(|call| call.expect("all is calm"));
        let [first, second] = calls;
        let (one, other) = (Arc::clone(&measures), Arc::clone(&measures));
        both(move || end(&one, first, End::Accepted), move || end(&other, second, End::Rejected));
        let expected = Tally { sent: 2, accepted: 1, refused: 0 };
        assert_eq!(measures.tally(Timestamp(0)), expected);
    });
}
