//! Calls in flight under loom: every interleaving of a few threads.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use loom::sync::Arc;

use super::InFlight;
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::both;

const COHORT: u64 = 10_000_000;

#[test]
fn calls_that_end_while_their_cohort_makes_room_are_not_overdue() {
    loom::model(|| {
        let in_flight = Arc::new(InFlight::new(Duration::from_millis(60), 0));
        let now = Now::at(Timestamp(0), 0);
        // Eight cohorts of ten milliseconds: the ninth takes the first one's place.
        let first = in_flight.enter(0, 0, &now);
        let (ending, beginning) = (Arc::clone(&in_flight), Arc::clone(&in_flight));
        both(
            move || ending.leave(0, first, Timestamp(0)),
            move || {
                let ninth = beginning.enter(0, 8, &Now::at(Timestamp(8 * COHORT), 0));
                beginning.leave(0, ninth, Timestamp(8 * COHORT));
            },
        );
        assert_eq!(in_flight.overdue(0, Timestamp(100 * COHORT)), 0);
    });
}
