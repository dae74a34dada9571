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

use super::{Entry, InFlight};
use crate::base::clock::{Now, Timestamp};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

proptest! {
    #[test]
    fn calls_are_overdue_when_their_whole_cohort_is(
        limit in 0..600_u64,
        steps in prop::collection::vec((0..100_u64, prop::option::of(0..50_usize), prop::bool::weighted(0.05)), 1..200),
    ) {
        let (limit, ms) = (limit * MS, |ms: u64| ms * MS);
        let in_flight = InFlight::new(Duration::from_nanos(limit), 0);
        let width = limit.div_ceil(6).max(10 * MS);
        let (mut era, mut now, mut flying, mut old) = (0, 0, Vec::new(), Vec::new());
        for (gap, end, next_era) in steps {
            now += ms(gap);
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

fn enter(in_flight: &InFlight, era: u64, now: u64) -> Entry {
    let now = Timestamp(now);
    in_flight.enter(era, in_flight.cohort(era, now), &Now::at(now, 0))
}

/// The numbers of cohorts repeat, and must not do so within years, however short the limit is.
#[test]
fn a_call_that_has_just_begun_is_not_overdue_whatever_the_limit() {
    let limits = [0, 1, 6, 1_000, MS, 59 * MS, SECOND, u64::MAX];
    for limit in limits.map(Duration::from_nanos) {
        for gap in [SECOND, 34 * SECOND, 40 * SECOND, 70 * SECOND, 86_400 * SECOND, 365 * 86_400 * SECOND] {
            let in_flight = InFlight::new(limit, 0);
            for round in 0..8 {
                let now = round * gap;
                // Of each cohort one, which lasts no longer than a call that was just begun may.
                let entry = enter(&in_flight, 0, now);
                assert_eq!(in_flight.overdue(0, Timestamp(now)), 0, "{limit:?}, {gap} ns, round {round}");
                in_flight.leave(0, entry, Timestamp(now));
            }
        }
    }
}

#[test]
fn a_call_that_hangs_is_overdue_also_with_the_shortest_limit() {
    for limit in [0, 1, MS] {
        let in_flight = InFlight::new(Duration::from_nanos(limit), 0);
        let start = 40 * SECOND;
        let entry = enter(&in_flight, 0, start);
        assert_eq!(in_flight.overdue(0, Timestamp(start + 9 * MS)), 0);
        assert_eq!(in_flight.overdue(0, Timestamp(start + 20 * MS)), 1);
        in_flight.leave(0, entry, Timestamp(start));
        assert_eq!(in_flight.overdue(0, Timestamp(start + 30 * MS)), 0);
    }
}

/// Its 16 bits of the version are those of an instance that came 65,536 changes of the limit later.
#[test]
fn a_call_that_was_counted_elsewhere_is_not_given_back_here() {
    let before = InFlight::new(Duration::from_secs(1), 7);
    let foreign = enter(&before, 0, 0);
    let in_flight = InFlight::new(Duration::from_secs(1), 7);
    in_flight.begin(0, Timestamp(3_600 * SECOND));
    let _hanging = enter(&in_flight, 0, 3_600 * SECOND);
    let later = 3_610 * SECOND;
    for round in 0..8 {
        let entry = enter(&in_flight, 0, later + round * SECOND / 6);
        in_flight.leave(0, entry, Timestamp(later + round * SECOND / 6));
    }
    assert_eq!(in_flight.overdue(0, Timestamp(later + 2 * SECOND)), 1);
    in_flight.leave(0, foreign, Timestamp(0));
    assert_eq!(in_flight.overdue(0, Timestamp(later + 2 * SECOND)), 1, "this one still hangs");
}
