//! The formula by its published vectors, the counts against a list, and configurations of every kind.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod dating;
mod list;
mod share;

use std::time::Duration;

use proptest::prelude::*;

use super::state::{End, Measures, Rule, Sent, Tally};
use super::{ThrottleConfig, ThrottleLayer};
use crate::base::clock::{Now, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Now<'static> {
    Now::at(Timestamp(millis * 1_000_000), 0)
}

fn plain() -> ThrottleConfig {
    ThrottleConfig::new().min_requests(0).max_ratio(1.0)
}

fn ratio(config: &ThrottleConfig, sent: u64, accepted: u64) -> f64 {
    Rule::new(config).ratio(Tally { sent, accepted, refused: 0 })
}

/// A call that is sent whatever the odds.
fn send(measures: &Measures, millis: u64) -> Sent {
    measures.admit(|| Rule::new(&plain()), &at(millis), || 0.999_999).unwrap()
}

fn tally(measures: &Measures, millis: u64) -> (u64, u64, u64) {
    let Tally { sent, accepted, refused } = measures.tally(Timestamp(millis * 1_000_000));
    (sent, accepted, refused)
}

#[track_caller]
fn assert_ratios(config: &ThrottleConfig, vectors: &[(u64, u64, f64)]) {
    for (sent, accepted, expected) in vectors {
        let found = ratio(config, *sent, *accepted);
        assert!((found - expected).abs() < 1e-6, "{sent} sent, {accepted} accepted: {found}, not {expected}");
    }
}

#[test]
fn the_book_s_ratios() {
    let vectors = [
        (100, 100, 0.0),
        (100, 50, 0.0),
        (100, 40, 0.198_020),
        (100, 25, 0.495_050),
        (100, 0, 0.990_099),
        (1_000, 100, 0.799_201),
    ];
    assert_ratios(&plain(), &vectors);
}

/// Its admission control has a threshold for the share that is accepted, the inverse of ours.
#[test]
fn envoy_s_ratios() {
    let config = plain().headroom(1.0 / 0.95).max_ratio(0.8);
    assert_ratios(&config, &[(100, 95, 0.0), (100, 90, 0.052_110), (100, 50, 0.468_994), (100, 0, 0.8)]);
}

#[test]
fn failsafe_s_ratios() {
    let config = plain().headroom(1.0 / 0.9).max_ratio(0.9);
    assert_ratios(&config, &[(120, 90, 0.165_289), (1_000, 10, 0.9)]);
}

#[test]
fn few_requests_are_never_refused() {
    let config = plain().min_requests(10);
    assert_ratios(&config, &[(9, 0, 0.0), (10, 0, 10.0 / 11.0)]);
}

#[test]
fn own_refusals_are_requests_if_they_are_to_be() {
    let tally = Tally { sent: 100, accepted: 50, refused: 99 };
    assert!(Rule::new(&plain()).ratio(tally) < 1e-9);
    let counting = Rule::new(&plain().counts_refusals(true)).ratio(tally);
    assert!((counting - 99.0 / 200.0).abs() < 1e-9, "{counting}");
    let few = Tally { sent: 1, accepted: 0, refused: 9 };
    assert!(Rule::new(&plain().counts_refusals(true).min_requests(10)).ratio(few) > 0.9);
}

#[test]
fn a_call_counts_when_it_has_ended() {
    let measures = Measures::new(WINDOW, 0);
    for (end, expected) in [
        (End::Accepted, (1, 1, 0)),
        (End::Rejected, (2, 1, 0)),
        (End::NotSent, (2, 1, 0)),
        (End::Cancelled, (2, 1, 0)),
    ] {
        let sent = send(&measures, 0);
        measures.end(sent, end, &at(0));
        assert_eq!(tally(&measures, 0), expected, "{end:?}");
    }
}

#[test]
fn a_call_in_flight_counts_once_it_is_late_and_until_it_ends() {
    let measures = Measures::new(WINDOW, 0);
    let (one, other) = (send(&measures, 0), send(&measures, 0));
    assert_eq!(tally(&measures, 5_000), (0, 0, 0));
    assert_eq!(tally(&measures, 6_000), (2, 0, 0));
    assert_eq!(tally(&measures, 60_000), (2, 0, 0), "however old");
    measures.end(one, End::Accepted, &at(60_000));
    assert_eq!(tally(&measures, 60_000), (2, 1, 0));
    measures.end(other, End::NotSent, &at(60_000));
    assert_eq!(tally(&measures, 60_000), (1, 1, 0));
}

#[test]
fn a_cancelled_call_counts_if_it_was_late() {
    let measures = Measures::new(WINDOW, 0);
    let (early, late) = (send(&measures, 0), send(&measures, 0));
    measures.end(early, End::Cancelled, &at(4_999));
    assert_eq!(tally(&measures, 4_999), (0, 0, 0));
    measures.end(late, End::Cancelled, &at(5_000));
    assert_eq!(tally(&measures, 5_000), (1, 0, 0));
    assert_eq!(tally(&measures, 15_000), (0, 0, 0), "and leaves the window");
}

#[test]
fn a_rejection_is_felt_at_once() {
    let rule = Rule::new(&plain().min_requests(2));
    let measures = Measures::new(WINDOW, 0);
    let calls = [send(&measures, 0), send(&measures, 0)];
    assert!(measures.admit(|| rule, &at(0), || 0.0).is_some());
    for call in calls {
        measures.end(call, End::Rejected, &at(0));
    }
    assert!(measures.admit(|| rule, &at(0), || 0.0).is_none());
    assert!(measures.admit(|| rule, &at(0), || 0.67).is_some(), "two of three are refused");
    assert_eq!(tally(&measures, 0), (2, 0, 1));
}

#[test]
fn of_many_calls_the_share_is_found_once_for_some_and_is_off_by_no_more_than_a_64th() {
    const OFF: f64 = 1.0 / 64.0;
    for config in [plain(), plain().headroom(1.0), plain().headroom(10.0), plain().counts_refusals(true)] {
        let (measures, rule) = (Measures::new(WINDOW, 0), Rule::new(&config));
        let (mut found, mut tally) = (0, Tally::default());
        for call in 0..20_000 {
            let exact = rule.ratio(tally);
            let mut admit = |draw| {
                let find = || {
                    found += 1;
                    rule
                };
                measures.admit(find, &at(0), || draw)
            };
            if exact > OFF {
                assert!(admit(exact - OFF).is_none(), "{tally:?} {config:?}");
                tally.refused += 1;
            }
            let sent = admit(rule.ratio(tally) + OFF).unwrap();
            // The share goes up, and then down again.
            let is_accepted = call >= 10_000;
            measures.end(sent, if is_accepted { End::Accepted } else { End::Rejected }, &at(0));
            tally.sent += 1;
            tally.accepted += u64::from(is_accepted);
            assert!(tally.sent >= 50 || rule.changes(tally) == 0, "with few calls it is exact");
        }
        assert!(found < 6_000, "{found} {config:?}");
    }
}

#[test]
fn a_share_is_not_that_of_another_time() {
    let (measures, rule) = (Measures::new(WINDOW, 0), Rule::new(&plain()));
    let admits = |millis| {
        let sent = measures.admit(|| rule, &at(millis), || 0.0);
        sent.map(|sent| measures.end(sent, End::NotSent, &at(millis))).is_some()
    };
    let year = 365 * 86_400_000;
    let call = measures.admit(|| rule, &at(year), || 0.0).unwrap();
    measures.end(call, End::Rejected, &at(year));
    assert!(!admits(year));
    assert!(!admits(year + 9_749), "the 39 buckets after it");
    assert!(admits(year + 10_000));
    assert!(!admits(year + 9_000), "back again");
    assert!(admits(0), "and by a year");
    assert!(admits(u64::MAX / 1_000_000));
    assert!(!admits(year));
}

#[test]
fn another_rule_is_felt_at_once() {
    let measures = Measures::new(WINDOW, 0);
    let call = send(&measures, 0);
    measures.end(call, End::Rejected, &at(0));
    let admits = |config: &ThrottleConfig| measures.admit(|| Rule::new(config), &at(0), || 0.0).is_some();
    assert!(!admits(&plain()));
    assert!(!admits(&plain().min_requests(2)), "nobody has said that there is another");
    measures.forget_share();
    assert!(admits(&plain().min_requests(2)));
    measures.forget_share();
    assert!(!admits(&plain()));
}

#[test]
fn an_accepted_call_that_took_longer_than_a_bucket_counts_from_its_end() {
    let measures = Measures::new(WINDOW, 0);
    let [idle, busy, late] = [0; 3].map(|millis| send(&measures, millis));
    let other = send(&measures, 2_000);
    measures.end(busy, End::Accepted, &at(3_000));
    assert_eq!(tally(&measures, 2_000), (1, 1, 0));
    measures.end(other, End::Rejected, &at(4_000));
    measures.end(idle, End::Accepted, &at(60_000));
    assert_eq!(tally(&measures, 13_000), (1 + 1, 0, 0), "that of the fourth second, and the one in flight");
    measures.end(late, End::NotSent, &at(13_000));
    assert_eq!(tally(&measures, 14_000), (0, 0, 0));
    assert_eq!(tally(&measures, 69_999), (1, 1, 0));
    assert_eq!(tally(&measures, 70_000), (0, 0, 0));
}

#[test]
fn no_random_number_is_drawn_while_all_calls_pass() {
    let measures = Measures::new(WINDOW, 0);
    let rule = Rule::new(&plain());
    for millis in 0..20_000 {
        let call = measures.admit(|| rule, &at(millis), || panic!("drawn")).unwrap();
        let end = if millis % 2 == 0 { End::Accepted } else { End::Rejected };
        measures.end(call, end, &at(millis));
    }
}

#[test]
fn another_window_begins_with_the_same_counts() {
    let measures = Measures::new(WINDOW, 0);
    let open = send(&measures, 0);
    for end in [End::Accepted, End::Rejected, End::Rejected] {
        let call = send(&measures, 0);
        measures.end(call, end, &at(0));
    }
    let rule = Rule::new(&plain());
    assert!(measures.admit(|| rule, &at(0), || 0.0).is_none());
    let replaced = measures.replaced(2 * WINDOW, Timestamp(9_000_000_000));
    assert_eq!(tally(&replaced, 9_000), (3, 1, 1));
    replaced.end(open, End::NotSent, &at(9_000));
    assert_eq!(tally(&replaced, 9_000), (3, 1, 1), "a call of before was never in flight here");
    assert_eq!(tally(&replaced, 19_999), (3, 1, 1), "none has become older");
    assert_eq!(tally(&replaced, 20_000), (0, 0, 0), "or younger");
    assert_eq!(tally(&measures.replaced(SECOND, Timestamp(9_000_000_000)), 9_000), (0, 0, 0));
}

#[test]
fn what_was_accepted_does_not_leave_long_before_what_was_rejected_soon_after() {
    let measures = Measures::new(WINDOW, 0);
    let calls: Vec<_> = (0..100).map(|_| send(&measures, 0)).collect();
    for (number, call) in calls.into_iter().enumerate() {
        let (end, millis) = if number < 80 { (End::Accepted, 4_000) } else { (End::Rejected, 4_300) };
        measures.end(call, end, &at(millis));
    }
    let rule = Rule::new(&ThrottleConfig::new());
    for millis in (4_300..14_000).step_by(10) {
        let call = measures.admit(|| rule, &at(millis), || 0.0);
        measures.end(call.unwrap_or_else(|| panic!("refused after {millis} ms")), End::NotSent, &at(millis));
    }
}

#[test]
fn a_rejection_long_after_the_latest_call_counts_from_its_end() {
    let measures = Measures::new(WINDOW, 0);
    let calls = [send(&measures, 0), send(&measures, 0)];
    for call in calls {
        measures.end(call, End::Rejected, &at(30_000));
    }
    assert_eq!(tally(&measures, 39_999), (2, 0, 0));
    assert_eq!(tally(&measures, 40_000), (0, 0, 0));
}

#[test]
fn calls_that_were_cut_off_count_while_none_is_accepted() {
    let measures = Measures::new(WINDOW, 0);
    for _ in 0..20 {
        let call = send(&measures, 0);
        measures.end(call, End::CutOff, &at(1_000));
    }
    assert_eq!(tally(&measures, 1_000), (20, 0, 0));
    let call = send(&measures, 2_000);
    measures.end(call, End::Accepted, &at(2_000));
    assert_eq!(tally(&measures, 2_000), (1, 1, 0));
    assert_eq!(tally(&measures, 12_000), (0, 0, 0));
}

fn any_config() -> impl Strategy<Value = ThrottleConfig> {
    let float = || {
        prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            Just(0.0),
            Just(f64::MIN_POSITIVE),
            Just(1.0),
            Just(2.0),
            any::<f64>(),
        ]
    };
    let window = prop_oneof![
        Just(Duration::ZERO),
        Just(SECOND),
        Just(3_600 * SECOND),
        Just(Duration::MAX),
        any::<u64>().prop_map(Duration::from_nanos),
    ];
    let requests = prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    (window, float(), float(), requests, any::<bool>()).prop_map(
        |(window, headroom, ratio, requests, counts)| {
            let config = ThrottleConfig::new().window(window).headroom(headroom).max_ratio(ratio);
            config.min_requests(requests).counts_refusals(counts)
        },
    )
}

proptest! {
    #[test]
    fn a_ratio_is_one_whatever_the_counts(
        config in any_config(),
        sent: u64, accepted: u64, refused: u64,
    ) {
        if config.validate().is_ok() {
            let ratio = Rule::new(&config).ratio(Tally { sent, accepted, refused });
            prop_assert!((0.0..=config.max_ratio).contains(&ratio));
        }
    }

    #[test]
    fn every_configuration_works_or_is_refused_by_name(config in any_config(), times in prop::collection::vec(any::<u64>(), 9)) {
        match ThrottleLayer::try_new(config.clone()) {
            Err(error) => prop_assert!(["window", "headroom", "max_ratio"].contains(&error.field()), "{}", error),
            Ok(_) => {
                let (measures, rule) = (Measures::new(config.window, 0), Rule::new(&config));
                for time in times {
                    let now = Now::at(Timestamp(time), 0);
                    if let Some(sent) = measures.admit(|| rule, &now, || 0.5) {
                        measures.end(sent, End::Rejected, &now);
                    }
                    measures.tally(Timestamp(time));
                }
                prop_assert!(measures.replaced(WINDOW, Timestamp(u64::MAX)).tally(Timestamp(0)).sent < 10);
            }
        }
    }
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    let config = ThrottleConfig::new();
    for (config, message) in [
        (
            config.clone().window(Duration::ZERO),
            "invalid value for `window`: got 0ns, expected a duration from 1 s to 1 hour",
        ),
        (
            config.clone().headroom(0.99),
            "invalid value for `headroom`: got 0.99, expected a number from 1 to 100",
        ),
        (
            config.clone().headroom(f64::NAN),
            "invalid value for `headroom`: got NaN, expected a number from 1 to 100",
        ),
        (
            config.clone().max_ratio(95.0),
            "invalid value for `max_ratio`: got 95.0, expected a number above 0 and at most 1 (0.5 is half; not a percentage)",
        ),
    ] {
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }
    assert_eq!(config.validate(), Ok(()));
}
