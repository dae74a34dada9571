//! The moments to which calls are dated, and what another window knows of calls in flight.

use super::*;

#[test]
fn long_calls_are_dated_to_their_end_although_a_short_call_began_in_the_same_bucket() {
    let measures = Measures::new(WINDOW, 0);
    let quick = send(&measures, 0);
    measures.end(quick, End::Accepted, &at(0));
    let long: Vec<_> = (0..20).map(|_| send(&measures, 0)).collect();
    for call in long {
        measures.end(call, End::Accepted, &at(4_001));
    }
    assert_eq!(tally(&measures, 11_000), (20, 20, 0), "they ended seven seconds ago");
    assert_eq!(tally(&measures, 14_250), (0, 0, 0));
}

#[test]
fn a_long_call_that_is_alone_is_dated_to_its_end_if_it_was_polled_before() {
    let measures = Measures::new(WINDOW, 0);
    let quick = send(&measures, 0);
    measures.end(quick, End::Accepted, &at(0));
    let mut long = send(&measures, 0);
    long.wait();
    measures.end(long, End::Accepted, &at(4_001));
    assert_eq!(tally(&measures, 11_000), (1, 1, 0));
}

#[test]
fn a_short_call_does_not_read_the_clock_when_it_ends() {
    let measures = Measures::new(WINDOW, 0);
    let first = send(&measures, 0);
    measures.end(first, End::Accepted, &at(0));
    let second = send(&measures, 10);
    let unread = Now::of(Box::leak(Box::new(crate::base::clock::Clock::start())));
    measures.end(second, End::Accepted, &unread);
    assert!(format!("{unread:?}").contains(&u64::MAX.to_string()), "{unread:?}");
    assert_eq!(tally(&measures, 10), (2, 2, 0));
}

#[test]
fn the_first_call_that_is_accepted_has_the_share_of_calls_that_were_cut_off_forgotten() {
    let measures = Measures::new(3_600 * SECOND, 0);
    let rule = Rule::new(&ThrottleConfig::new());
    let admit = |draw| measures.admit(|| rule, &at(0), || draw);
    for _ in 0..20_000 {
        measures.end(admit(0.999).unwrap(), End::CutOff, &at(0));
    }
    assert!(admit(0.9).is_none());
    let accepted = admit(0.999).unwrap();
    measures.end(accepted, End::Accepted, &at(0));
    assert!(admit(0.0).is_some(), "of one call that counts, one was accepted");
}

#[test]
fn another_window_counts_the_calls_that_were_late_before() {
    let measures = Measures::new(WINDOW, 0);
    let calls = [send(&measures, 0), send(&measures, 0)];
    assert_eq!(tally(&measures, 6_000), (2, 0, 0));
    let replaced = measures.replaced(11 * SECOND, Timestamp(6_000_000_000));
    assert_eq!(tally(&replaced, 7_000), (2, 0, 0));
    let again = replaced.replaced(WINDOW, Timestamp(7_000_000_000));
    assert_eq!(tally(&again, 7_000), (2, 0, 0));
    let [one, other] = calls;
    again.end(one, End::NotSent, &at(8_000));
    assert_eq!(tally(&again, 60_000), (1, 0, 0));
    again.end(other, End::NotSent, &at(60_000));
    assert_eq!(tally(&again, 60_000), (0, 0, 0));
}

#[test]
fn another_window_counts_the_calls_in_flight_once_they_have_taken_half_of_it() {
    let measures = Measures::new(WINDOW, 0);
    let _calls = [send(&measures, 0), send(&measures, 0)];
    let replaced = measures.replaced(40 * SECOND, Timestamp(1_000_000));
    assert_eq!(tally(&replaced, 19_000), (0, 0, 0));
    assert_eq!(tally(&replaced, 21_000), (2, 0, 0));
}
