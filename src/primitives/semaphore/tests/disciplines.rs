//! Each discipline by example, and folly's rule against itself.

use std::time::Duration;

use proptest::prelude::*;

use super::Line;
use crate::base::clock::Timestamp;
use crate::primitives::semaphore::Shed;
use crate::primitives::semaphore::discipline::{End, Memory, QueueDiscipline};
use crate::primitives::semaphore::owner::{ASK, set_now};

const MS: u64 = 1_000_000;
const YEAR: u64 = 365 * 86_400 * 1_000 * MS;
/// 5 ms and 100 ms, as in the sources.
const LIFO: QueueDiscipline = QueueDiscipline::adaptive_lifo();
const CODEL: QueueDiscipline = QueueDiscipline::controlled_delay();

fn ms(ms: u64) -> Timestamp {
    Timestamp(ms * MS)
}

/// Whether somebody who has waited for so many milliseconds is turned away then.
fn gives_up(memory: &mut Memory, discipline: QueueDiscipline, now: u64, waited: u64) -> Option<Shed> {
    memory.gives_up(discipline, false, Timestamp(ms(now).0.saturating_sub(ms(waited).0)), ms(now))
}

#[test]
fn the_usual_times_are_those_of_the_sources() {
    let (target, interval) = (Duration::from_millis(5), Duration::from_millis(100));
    assert_eq!(LIFO, QueueDiscipline::AdaptiveLifo { target, interval });
    assert_eq!(CODEL, QueueDiscipline::ControlledDelay { target, interval });
    assert_eq!(QueueDiscipline::default(), QueueDiscipline::OldestFirst);
}

#[test]
fn the_oldest_first_waits_for_ever() {
    let mut memory = Memory::new(ms(0));
    assert_eq!(memory.next(QueueDiscipline::OldestFirst, false, Timestamp(YEAR)), End::Oldest);
    assert_eq!(memory.gives_up(QueueDiscipline::OldestFirst, false, ms(0), Timestamp(YEAR)), None);
}

#[test]
fn the_newest_is_first_once_there_was_a_queue_for_an_interval() {
    let memory = Memory::new(ms(50));
    for (now, expected) in [(50, End::Oldest), (150, End::Oldest), (151, End::Newest), (9_000, End::Newest)] {
        assert_eq!(memory.next(LIFO, false, ms(now)), expected, "at {now} ms");
    }
    assert_eq!(memory.next(LIFO, false, Timestamp(150 * MS + 1)), End::Newest);
    assert_eq!(memory.next(CODEL, false, ms(9_000)), End::Oldest, "which is another discipline's");
}

#[test]
fn patience_is_an_interval_until_there_was_a_queue_for_one_and_then_the_target() {
    let mut memory = Memory::new(ms(0));
    let overdue = Some(Shed::Overdue(5 * MS));
    for (now, waited, expected) in [
        (100, 100, None),
        (100, 6, None),
        (101, 4, None),
        (101, 5, None),
        (101, 6, overdue),
        (101, 101, overdue),
        (5_000, 5, None),
    ] {
        assert_eq!(gives_up(&mut memory, LIFO, now, waited), expected, "{waited} ms at {now} ms");
    }
    // Clocks of two cores disagree: it came before the first one.
    assert_eq!(memory.gives_up(LIFO, false, ms(0), ms(101)), overdue);
    let mut memory = Memory::new(ms(50));
    assert_eq!(memory.gives_up(LIFO, false, ms(0), ms(100)), None);
    assert_eq!(memory.gives_up(LIFO, false, ms(0), ms(101)), Some(Shed::Overdue(100 * MS)));
}

#[test]
fn times_without_end_turn_nobody_away_and_times_of_zero_everybody_who_had_to_wait() {
    let long = Duration::MAX;
    for discipline in [
        QueueDiscipline::AdaptiveLifo { target: long, interval: long },
        QueueDiscipline::ControlledDelay { target: long, interval: long },
        QueueDiscipline::ControlledDelay { target: long, interval: Duration::ZERO },
        QueueDiscipline::AdaptiveLifo { target: long, interval: Duration::ZERO },
    ] {
        let mut memory = Memory::new(ms(0));
        for now in [0, 1, 2, YEAR, 500 * YEAR] {
            assert_eq!(
                memory.gives_up(discipline, false, ms(0), Timestamp(now)),
                None,
                "{discipline:?} at {now}"
            );
        }
    }
    let none = Duration::ZERO;
    let mut memory = Memory::new(ms(0));
    let lifo = QueueDiscipline::AdaptiveLifo { target: none, interval: none };
    assert_eq!(memory.gives_up(lifo, false, ms(0), ms(0)), None);
    assert_eq!(memory.gives_up(lifo, false, ms(0), Timestamp(1)), Some(Shed::Overdue(0)));
    let codel = QueueDiscipline::ControlledDelay { target: none, interval: none };
    // The first of each interval is served, and there is one between any two that are a nanosecond apart.
    for now in 0..9 {
        assert_eq!(memory.gives_up(codel, false, ms(0), ms(now)), None);
    }
    assert_eq!(memory.gives_up(codel, false, ms(0), ms(8)), Some(Shed::Overdue(0)));
}

#[test]
fn controlled_delay_turns_away_what_waited_twice_as_long_if_nobody_waited_less_than_the_target() {
    let mut memory = Memory::new(ms(0));
    let overdue = Some(Shed::Overdue(10 * MS));
    for (now, waited, expected) in [
        // The first of the first interval, which ends at 110.
        (10, 10, None),
        (50, 20, None),
        (110, 90, None),
        // The shortest was 10, but the first of an interval is served: it ends at 211.
        (111, 30, None),
        (112, 11, overdue),
        (112, 10, None),
        (150, 4, None),
        (211, 50, overdue),
        // The shortest was 4.
        (212, 50, None),
        (213, 1_000, None),
        // The shortest was 50, and then 5, which is not longer than the target.
        (313, 5, None),
        (314, 50, overdue),
        (414, 50, None),
        (415, 50, None),
    ] {
        assert_eq!(gives_up(&mut memory, CODEL, now, waited), expected, "{waited} ms at {now} ms");
    }
}

/// The rule as folly's `Codel` has it, with an interval of 100 and a target of 5.
struct Folly {
    interval_end: u64,
    reset: bool,
    min: u64,
    overloaded: bool,
}

impl Folly {
    fn drops(&mut self, now: u64, delay: u64) -> bool {
        if now > self.interval_end && !self.reset {
            self.reset = true;
            self.interval_end = now + 100;
            self.overloaded = self.min > 5;
        }
        if self.reset {
            self.reset = false;
            self.min = delay;
            return false;
        }
        if delay < self.min {
            self.min = delay;
        }
        self.overloaded && delay > 10
    }
}

proptest! {
    #[test]
    fn controlled_delay_is_follys_rule(
        start in 0..1_000_u64,
        asked in prop::collection::vec((0..40_u64, prop_oneof![0..14_u64, 0..300_u64]), 1..200),
    ) {
        let mut memory = Memory::new(ms(start));
        let mut folly = Folly { interval_end: start, reset: false, min: 0, overloaded: false };
        let mut now = start;
        for (step, delay) in asked {
            now += step;
            // Nobody has waited since before time began.
            let delay = delay.min(now);
            let dropped = gives_up(&mut memory, CODEL, now, delay).is_some();
            prop_assert_eq!(dropped, folly.drops(now, delay), "{} ms at {} ms", delay, now);
        }
    }
}

fn at(now: u64) {
    set_now(now * MS);
}

#[test]
fn a_queue_that_was_never_empty_for_an_interval_turns_to_its_newest() {
    let mut line = Line::full(1, 9, LIFO);
    line.waits("old", ASK);
    at(60);
    line.waits("second", ASK);
    assert_eq!(line.next(), "old");
    // The second one has kept the queue from being empty.
    at(98);
    for name in ["third", "fourth", "fifth"] {
        line.waits(name, ASK);
    }
    at(100);
    assert_eq!(line.next(), "second");
    at(101);
    assert_eq!(line.next(), "fifth");
    at(104);
    line.waits("sixth", ASK);
    assert_eq!(line.next(), "third overdue 5000000, fourth overdue 5000000, sixth");
    // It is empty now, so that all begins anew.
    line.waits("seventh", ASK);
    line.waits("eighth", ASK);
    at(180);
    assert_eq!(line.next(), "seventh");
    line.ends();
}

#[test]
fn those_who_have_waited_for_too_long_are_all_told_at_once_and_one_is_served() {
    let mut line = Line::full(1, 9, LIFO);
    for name in ["a", "b", "c"] {
        line.waits(name, ASK);
    }
    at(200);
    line.waits("d", ASK);
    assert_eq!(line.told(), "", "there is no room that they would be in the way of");
    assert_eq!(line.next(), "a overdue 5000000, b overdue 5000000, c overdue 5000000, d");
    line.ends();
}

#[test]
fn everybody_may_be_too_late_and_the_permit_is_free_then() {
    let mut line = Line::full(1, 9, LIFO);
    line.waits("a", ASK);
    line.waits("b", ASK);
    at(300);
    assert_eq!(line.next(), "a overdue 5000000, b overdue 5000000");
    assert!(line.permits.has_room(), "nobody waits any more");
    line.is_served(ASK);
    line.ends();
}

#[test]
fn a_queue_with_controlled_delay_turns_to_shorter_waits() {
    let mut line = Line::full(1, 9, CODEL);
    for name in ["a", "b", "c", "d", "e"] {
        line.waits(name, ASK);
    }
    at(20);
    assert_eq!(line.next(), "a", "the first of an interval");
    at(60);
    assert_eq!(line.next(), "b", "of which nothing was known");
    at(125);
    assert_eq!(line.next(), "c", "the first of the next, in which they wait for too long");
    at(128);
    line.waits("f", ASK);
    at(130);
    assert_eq!(line.next(), "d overdue 10000000, e overdue 10000000, f");
    line.ends();
}

#[test]
fn a_discipline_that_changes_holds_for_those_who_wait() {
    let mut line = Line::full(1, 9, QueueDiscipline::OldestFirst);
    for name in ["a", "b", "c"] {
        line.waits(name, ASK);
    }
    at(50);
    line.permits
        .queue_by(9, QueueDiscipline::AdaptiveLifo { target: Duration::MAX, interval: Duration::ZERO });
    assert_eq!(line.next(), "c");
    line.permits.queue_by(9, QueueDiscipline::OldestFirst);
    assert_eq!(line.next(), "a");
    line.permits
        .queue_by(9, QueueDiscipline::AdaptiveLifo { target: Duration::ZERO, interval: Duration::ZERO });
    assert_eq!(line.next(), "b overdue 0");
    line.ends();
}

#[test]
fn a_clock_that_stands_still_turns_nobody_away() {
    for discipline in [LIFO, CODEL, QueueDiscipline::OldestFirst] {
        let mut line = Line::full(1, 9, discipline);
        at(7);
        for name in ["a", "b", "c"] {
            line.waits(name, ASK);
        }
        assert_eq!(line.all(), "a | b | c", "{discipline:?}");
        line.ends();
    }
}

#[test]
fn a_clock_that_goes_back_turns_nobody_away() {
    for discipline in [LIFO, CODEL, QueueDiscipline::OldestFirst] {
        let mut line = Line::full(1, 9, discipline);
        at(50);
        line.waits("a", ASK);
        at(40);
        line.waits("b", ASK);
        at(30);
        assert_eq!(line.all(), "a | b", "{discipline:?}");
        line.ends();
    }
}

#[test]
fn a_clock_that_jumps_by_a_year_loses_nobody() {
    for (discipline, expected) in [
        (QueueDiscipline::OldestFirst, "a | b | c"),
        (LIFO, "a overdue 5000000, b overdue 5000000, c overdue 5000000"),
        // The wait of the first one says that they wait for too long, and it is to be so for an interval.
        (CODEL, "a | b | c"),
    ] {
        let mut line = Line::full(1, 9, discipline);
        for name in ["a", "b", "c"] {
            line.waits(name, ASK);
        }
        set_now(YEAR);
        assert_eq!(line.all(), expected, "{discipline:?}");
        line.is_served(ASK);
        line.waits("later", ASK);
        set_now(u64::MAX);
        assert!(!line.next().is_empty(), "{discipline:?}");
        line.ends();
    }
}
