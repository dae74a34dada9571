//! The throttle under loom: every interleaving of two threads.

use std::time::Duration;

use loom::sync::Arc;

use super::config::ThrottleConfig;
use super::state::{End, Measures, Rule, Sent, Tally};
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::both;

const WINDOW: Duration = Duration::from_secs(10);

fn measures() -> Arc<Measures> {
    Arc::new(Measures::new(WINDOW, 0))
}

fn admit(measures: &Measures, at: u64) -> Option<Sent> {
    let rule = Rule::new(&ThrottleConfig::new().min_requests(2));
    measures.admit(|| rule, &Now::at(Timestamp(at), 0), || 0.0)
}

fn end(measures: &Measures, sent: Sent, end: End) {
    measures.end(sent, end, &Now::at(Timestamp(0), 0));
}

#[test]
fn a_rejection_that_comes_while_the_share_is_found_is_heeded() {
    loom::model(|| {
        let measures = measures();
        let calls = [admit(&measures, 0), admit(&measures, 0)].map(|call| call.expect("all is calm"));
        let [first, second] = calls;
        // One is too few to refuse for, but enough to look.
        end(&measures, first, End::Rejected);
        let (rejecting, looking) = (Arc::clone(&measures), Arc::clone(&measures));
        both(move || end(&rejecting, second, End::Rejected), move || drop(admit(&looking, 0)));
        assert!(admit(&measures, 0).is_none());
    });
}

#[test]
fn a_rejection_that_comes_while_two_find_the_share_is_heeded() {
    loom::model(|| {
        let measures = measures();
        let calls = [admit(&measures, 0), admit(&measures, 0)].map(|call| call.expect("all is calm"));
        let [first, second] = calls;
        end(&measures, first, End::Rejected);
        let (rejecting, looking) = (Arc::clone(&measures), Arc::clone(&measures));
        let rejects = move || {
            drop(admit(&rejecting, 0));
            end(&rejecting, second, End::Rejected);
        };
        both(rejects, move || drop(admit(&looking, 0)));
        assert!(admit(&measures, 0).is_none());
    });
}

#[test]
fn a_rule_that_comes_while_the_share_is_found_is_heeded() {
    loom::model(|| {
        let measures = measures();
        let call = admit(&measures, 0).expect("all is calm");
        end(&measures, call, End::Rejected);
        // What the rule says, as it is read when the share is found.
        let refuses_one = Arc::new(crate::base::sync::AtomicU64::new(0));
        let look = |measures: &Measures, refuses_one: &crate::base::sync::AtomicU64| {
            let rule = || {
                let is_strict = refuses_one.load(crate::base::sync::Ordering::Relaxed) == 1;
                Rule::new(&ThrottleConfig::new().min_requests(if is_strict { 1 } else { 9 }))
            };
            measures.admit(rule, &Now::at(Timestamp(0), 0), || 0.0).is_some()
        };
        let (changing, looking) = (Arc::clone(&measures), Arc::clone(&measures));
        let (strict, read) = (Arc::clone(&refuses_one), Arc::clone(&refuses_one));
        let change = move || {
            strict.store(1, crate::base::sync::Ordering::Relaxed);
            changing.forget_share();
        };
        both(change, move || drop(look(&looking, &read)));
        assert!(!look(&measures, &refuses_one));
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
