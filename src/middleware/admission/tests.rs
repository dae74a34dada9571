//! Shares, headroom and what calls usually have left, by example and against exact fractions.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::panic,
    reason = "a test may fail"
)]

use proptest::prelude::*;

use super::config::Terms;
use super::usual::Usual;
use super::{AdmissionConfig, Criticality, MinRemaining, PriorityShares};
use crate::primitives::semaphore::Permits;

const NAMED: [Criticality; 3] = [Criticality::SHEDDABLE, Criticality::DEFAULT, Criticality::CRITICAL];

fn terms(default: f64, sheddable: f64) -> Terms {
    Terms::new(PriorityShares::NONE.default(default).sheddable(sheddable), false, false)
}

/// How many calls may be under way, of `limit`, with one of `criticality`.
fn room(terms: Terms, criticality: Criticality, limit: u64) -> u64 {
    terms.share(criticality).of(limit)
}

fn rooms(terms: Terms, limit: u64) -> [u64; 3] {
    NAMED.map(|criticality| room(terms, criticality, limit))
}

#[test]
fn a_share_of_a_limit_is_rounded_up_and_only_if_it_is_no_whole_number() {
    for (default, sheddable, limit, expected) in [
        (0.8, 0.5, 10, [5, 8, 10]),
        (0.8, 0.5, 5, [3, 4, 5]),
        (0.8, 0.5, 100, [50, 80, 100]),
        (0.8, 0.5, 64, [32, 52, 64]),
        (0.9, 0.1, 10, [1, 9, 10]),
        (0.7, 0.3, 10, [3, 7, 10]),
        (0.6, 0.2, 5, [1, 3, 5]),
        (0.99, 0.01, 100, [1, 99, 100]),
        (0.999, 0.001, 1000, [1, 999, 1000]),
        (0.8, 0.5, 11, [6, 9, 11]),
        (0.8, 0.5, 3, [2, 3, 3]),
        (0.8, 0.5, 2, [1, 2, 2]),
        (0.8, 0.5, 1, [1, 1, 1]),
        (0.8, 0.5, 0, [0, 0, 0]),
        (1.0, 0.5, 9, [5, 9, 9]),
        (1.0, 1.0, 9, [9, 9, 9]),
    ] {
        assert_eq!(rooms(terms(default, sheddable), limit), expected, "{default} and {sheddable} of {limit}");
    }
}

#[test]
fn the_smallest_share_is_one_and_the_largest_limit_overflows_nothing() {
    let tiny = terms(f64::MIN_POSITIVE, f64::MIN_POSITIVE);
    assert_eq!(rooms(tiny, 1), [1, 1, 1]);
    assert_eq!(rooms(tiny, 1000), [1, 1, 1000]);
    let max = u64::from(Permits::MAX);
    assert_eq!(rooms(tiny, max), [32768, 32768, max], "one of 65,536 parts is the smallest");
    assert_eq!(rooms(terms(1.0, 1.0), max), [max; 3]);
    assert_eq!(rooms(terms(1.0, 0.5), max), [max / 2 + 1, max, max]);
}

#[test]
fn a_level_between_two_has_a_share_between_theirs() {
    let terms = terms(0.8, 0.4);
    for (level, expected) in
        [(0, 40), (5, 44), (10, 48), (25, 60), (45, 76), (50, 80), (55, 82), (60, 84), (75, 90), (99, 100)]
    {
        assert_eq!(room(terms, Criticality::level(level), 100), expected, "level {level}");
    }
    assert_eq!(room(terms, Criticality::level(99), 1000), 996);
    assert_eq!(room(terms, Criticality::level(255), 1000), 1000, "there is no higher level");
}

#[test]
fn a_share_that_is_kept_leaves_the_marks_alone_and_they_it() {
    let headroom = PriorityShares::NONE.default(0.5).sheddable(0.25);
    for (measured, told) in [(false, false), (false, true), (true, false), (true, true)] {
        let terms = Terms::new(headroom, measured, told);
        assert_eq!((terms.are_measured(), terms.are_told()), (measured, told));
        assert_eq!(rooms(terms, 100), [25, 50, 100]);
        let plain = Terms::new(PriorityShares::NONE, measured, told);
        assert_eq!((plain.are_measured(), plain.are_told()), (measured, told));
        assert_eq!(rooms(plain, 100), [100; 3]);
    }
    assert_eq!(Terms::new(PriorityShares::NONE, false, false), Terms(0), "which is what a call looks for");
    for (parted, exempting) in [(false, true), (true, false), (true, true)] {
        let terms = Terms(0).parted(parted).exempting(exempting);
        assert_eq!((terms.are_parted(), terms.are_exempting()), (parted, exempting));
        assert_eq!((terms.are_measured(), terms.are_told(), rooms(terms, 9)), (false, false, [9; 3]));
        assert!(!terms.are_same_for_all());
    }
}

#[test]
fn headroom_takes_shares_that_fall_with_the_level() {
    use super::config::Mode;
    let field = |default: f64, sheddable: f64| {
        let headroom = PriorityShares::NONE.default(default).sheddable(sheddable);
        let config = AdmissionConfig { headroom, ..AdmissionConfig::new() };
        config.validate_for(Mode::Refuse).map_err(|error| error.field())
    };
    for (default, sheddable) in [(1.0, 1.0), (0.5, 0.5), (1.0, f64::MIN_POSITIVE), (1e-300, 1e-300)] {
        assert_eq!(field(default, sheddable), Ok(()), "{default} and {sheddable}");
    }
    for wrong in [0.0, -0.0, -1.0, 1.0 + f64::EPSILON, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(field(wrong, wrong), Err("headroom.default"), "{wrong}");
        assert_eq!(field(1.0, wrong), Err("headroom.sheddable"), "{wrong}");
    }
    assert_eq!(field(0.5, 0.500_001), Err("headroom.sheddable"));
    assert_eq!(PriorityShares::RECOMMENDED, PriorityShares::NONE.default(0.8).sheddable(0.5));
    assert_eq!(
        AdmissionConfig::default().headroom,
        PriorityShares::NONE,
        "nothing is kept unless somebody says so"
    );
    assert_eq!(AdmissionConfig::default().min_remaining, MinRemaining::Fixed(std::time::Duration::ZERO));
}

#[test]
fn what_is_usual_begins_with_the_first_and_follows_by_sixteenths() {
    let usual = Usual::default();
    assert_eq!(usual.get(), 0);
    usual.record(1600);
    assert_eq!(usual.get(), 1600);
    usual.record(0);
    assert_eq!(usual.get(), 1500);
    usual.record(3100);
    assert_eq!(usual.get(), 1500 - 93 + 193);
    for _ in 0..1000 {
        usual.record(u64::MAX);
    }
    assert!(usual.get() > u64::MAX / 2, "it saturates");
}

proptest! {
    /// With exact fractions: no less than the share, less than one call more, and at most the next smaller 65,536th less.
    #[test]
    fn a_share_is_that_of_a_fraction(
        default in 0.0001..=1.0_f64,
        part in 0.0001..=1.0_f64,
        level in 0..=100_u8,
        limit in 0..60_000_u64,
    ) {
        let sheddable = default * part;
        let terms = terms(default, sheddable);
        let share = match f64::from(level) {
            above if above >= 50.0 => default + (1.0 - default) * (above - 50.0) / 50.0,
            below => sheddable + (default - sheddable) * below / 50.0,
        };
        let (exact, room) = (share * limit as f64, room(terms, Criticality::level(level), limit) as f64);
        // Two 65,536ths: one for each of the numbers on whose line it is.
        let fineness = 2.0 / 65_536.0 * limit as f64;
        prop_assert!(room < exact + 1.0, "{room} of {limit}, which is more than {exact}");
        prop_assert!(room + fineness >= exact, "{room} of {limit}, which is less than {exact}");
        prop_assert!(limit == 0 || room >= 1.0);
    }

    #[test]
    fn a_higher_level_may_use_no_less(
        default in 0.0..=1.0_f64,
        part in 0.0..=1.0_f64,
        limit in 0..=Permits::MAX,
    ) {
        let default = default.max(f64::MIN_POSITIVE);
        let terms = terms(default, (default * part).max(f64::MIN_POSITIVE));
        let rooms: Vec<_> =
            (0..=100).map(|level| room(terms, Criticality::level(level), u64::from(limit))).collect();
        prop_assert!(rooms.is_sorted());
        prop_assert_eq!(rooms.last(), Some(&u64::from(limit)));
    }
}
