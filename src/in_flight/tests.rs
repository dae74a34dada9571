//! Calls in flight against a list kept by hand.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::InFlight;
use crate::clock::{Now, Timestamp};

proptest! {
    #[test]
    fn calls_are_overdue_when_their_whole_cohort_is(
        limit in 6..600_u64,
        steps in prop::collection::vec((0..100_u64, prop::option::of(0..50_usize), prop::bool::weighted(0.05)), 1..200),
    ) {
        let in_flight = InFlight::new(Duration::from_nanos(limit), 0);
        let width = limit.div_ceil(6);
        let (mut era, mut now, mut flying, mut old) = (0, 0, Vec::new(), Vec::new());
        for (gap, end, next_era) in steps {
            now += gap;
            if next_era {
                era += 1;
                in_flight.begin(era, Timestamp(now));
                old.append(&mut flying);
            }
            match end {
                Some(index) if index < flying.len() => {
                    let (started, entry): (u64, _) = flying.remove(index);
                    in_flight.leave(era, entry, Timestamp(started));
                }
                // Calls of an era that is over may end whenever they like.
                Some(_) if !old.is_empty() => {
                    let (started, entry) = old.remove(0);
                    in_flight.leave(era - 1, entry, Timestamp(started));
                }
                _ => {
                    let cohort = in_flight.cohort(era, Timestamp(now));
                    flying.push((now, in_flight.enter(era, cohort, &Now::at(Timestamp(now), 0))));
                }
            }
            let is_overdue = |(started, _): &&(u64, _)| now >= limit && started / width < (now - limit) / width;
            let overdue = flying.iter().filter(is_overdue).count() as u64;
            prop_assert_eq!(in_flight.overdue(era, Timestamp(now)), overdue, "at {} of {:?}", now, flying);
        }
    }
}
