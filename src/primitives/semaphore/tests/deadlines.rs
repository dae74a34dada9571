//! Who is too late to be served.

use super::Line;
use crate::base::clock::Timestamp;
use crate::primitives::semaphore::Ask;
use crate::primitives::semaphore::discipline::QueueDiscipline;
use crate::primitives::semaphore::owner::{ASK, set_needed, set_now};

const FIFO: QueueDiscipline = QueueDiscipline::OldestFirst;

const fn by(deadline: u64) -> Ask {
    Ask { deadline: Timestamp(deadline), ..ASK }
}

#[test]
fn who_has_less_left_than_is_needed_is_turned_away_and_the_next_is_served() {
    let mut line = Line::full(1, 9, FIFO);
    line.waits("late", by(109));
    line.waits("in time", by(110));
    set_now(100);
    set_needed(10);
    assert_eq!(line.next(), "late late, in time");
    line.ends();
}

#[test]
fn who_has_nothing_left_is_late_whatever_is_needed() {
    for (now, told) in [(99, "a"), (100, "a late"), (101, "a late")] {
        let mut line = Line::full(1, 9, FIFO);
        line.waits("a", by(100));
        set_now(now);
        assert_eq!(line.next(), told, "at {now}");
        line.ends();
    }
}

#[test]
fn who_is_late_is_told_when_it_would_be_its_turn() {
    let mut line = Line::full(1, 9, FIFO);
    line.waits("first", ASK);
    line.waits("a", by(10));
    set_now(50);
    assert_eq!(line.next(), "first", "there is no more room");
    assert_eq!(line.next(), "a late");
    assert!(line.permits.has_room());
    line.ends();
}

#[test]
fn all_who_are_late_are_told_at_once() {
    let mut line = Line::full(1, 9, FIFO);
    for name in ["a", "b", "c"] {
        line.waits(name, by(10));
    }
    line.waits("other", Ask { tenant: 1, ..by(10) });
    line.waits("low", Ask { class: 0, ..ASK });
    set_now(11);
    assert_eq!(line.next(), "a late, b late, c late, other late, low");
    line.ends();
}

#[test]
fn nobody_without_a_deadline_is_late_however_much_is_needed() {
    let mut line = Line::full(1, 9, FIFO);
    line.waits("a", ASK);
    line.waits("b", by(u64::MAX - 1));
    set_needed(u64::MAX);
    assert_eq!(line.next(), "a");
    assert_eq!(line.next(), "b late");
    line.is_served(by(0));
    line.waits("c", by(0));
    line.waits("d", ASK);
    set_now(u64::MAX);
    assert_eq!(line.next(), "c late, d");
    line.ends();
}

#[test]
fn a_deadline_that_had_passed_before_is_found_out_at_its_turn() {
    let mut line = Line::full(1, 9, FIFO);
    set_now(100);
    line.waits("a", by(0));
    // The clock of another core.
    set_now(0);
    assert_eq!(line.next(), "a late");
    line.ends();
}

#[test]
fn of_a_busy_lane_the_newest_is_asked_for_its_deadline() {
    use std::time::Duration;
    let newest = QueueDiscipline::AdaptiveLifo { target: Duration::MAX, interval: Duration::ZERO };
    let mut line = Line::full(1, 9, newest);
    line.waits("a", by(5));
    line.waits("b", by(100));
    line.waits("c", by(5));
    set_now(6);
    assert_eq!(line.next(), "b, c late");
    assert_eq!(line.next(), "a late");
    line.ends();
}

#[test]
fn who_has_waited_for_too_long_is_told_that_and_not_that_it_is_late() {
    let mut line = Line::full(1, 9, QueueDiscipline::adaptive_lifo());
    line.waits("a", by(5));
    set_now(200_000_000);
    assert_eq!(line.next(), "a overdue 5000000");
    line.ends();
}
