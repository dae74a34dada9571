//! Shares of the limit: who may use how much, and who overtakes whom for it.

use super::Line;
use super::lanes::{FIFO, class, of};
use crate::primitives::semaphore::Permits;
use crate::primitives::semaphore::owner::set_shares;
use crate::primitives::semaphore::word::{Share, Word};

/// A quarter of the limit for class 0, half of it up to 50, all of it above.
fn quarters(class: u8) -> Share {
    Share::parts(match class {
        0 => 1 << 14,
        1..=50 => 1 << 15,
        _ => 1 << 16,
    })
}

#[test]
fn those_of_a_higher_class_overtake_those_who_wait_for_their_share() {
    let mut line = Line::full(0, 9, FIFO);
    set_shares(quarters);
    line.permits.limit_to(4);
    line.is_served(class(0));
    assert!(line.permits.try_acquire_for(0).is_none(), "a quarter of four");
    line.waits("low", class(0));
    assert!(line.permits.try_acquire_for(100).is_none(), "not without a look at who waits");
    line.is_served(class(1));
    assert!(line.permits.try_acquire_for(50).is_none());
    line.waits("middle", class(50));
    line.is_served(class(100));
    line.is_served(class(51));
    assert_eq!(line.permits.counts(), (4, 4));
    line.waits("high", class(100));
    // Three are out, and then two, which is not less than half of four.
    assert_eq!(line.next(), "high");
    assert_eq!([line.next(), line.next()], ["", ""]);
    assert_eq!(line.next(), "middle", "one was out");
    assert_eq!([line.next(), line.next()], ["", "low"], "none was");
    line.ends();
}

#[test]
fn nobody_overtakes_those_of_the_same_class() {
    let mut line = Line::full(1, 9, FIFO);
    line.waits("first", class(50));
    line.waits("second", of(50, 1));
    line.permits.limit_to(2);
    // Both are served by the grant that has to follow, and not by whoever comes before it.
    line.waits("third", of(50, 2));
    line.waits("low", class(49));
    line.is_served(class(51));
    Permits::grant(&*line.permits);
    assert_eq!(line.told(), "");
    assert_eq!(line.all(), "first | second | third | low");
    line.ends();
}

#[test]
fn a_share_that_grows_serves_those_who_wait_already() {
    let mut line = Line::full(0, 9, FIFO);
    set_shares(quarters);
    line.permits.limit_to(4);
    line.is_served(class(0));
    line.waits("a", of(0, 1));
    line.waits("b", of(0, 2));
    set_shares(|_| Share::WHOLE);
    Permits::grant(&*line.permits);
    assert_eq!(line.told(), "a, b", "not only those who come from now on");
    line.ends();
}

#[test]
fn who_leaves_does_not_stand_in_the_way_of_a_share_that_grew() {
    let mut line = Line::full(0, 9, FIFO);
    set_shares(quarters);
    line.permits.limit_to(4);
    line.is_served(class(0));
    line.waits("a", of(0, 1));
    set_shares(|_| Share::WHOLE);
    line.waits("b", of(0, 2));
    Permits::grant(&*line.permits);
    line.leaves("a");
    assert_eq!(line.told(), "b");
    line.ends();
}

#[test]
fn a_limit_that_grows_serves_a_lower_class_only_within_its_share() {
    let mut line = Line::full(0, 9, FIFO);
    set_shares(quarters);
    line.permits.limit_to(4);
    line.is_served(class(0));
    line.waits("a", class(0));
    line.waits("b", class(0));
    for (limit, told) in [(3, ""), (4, ""), (5, "a"), (8, ""), (9, "b"), (1, "")] {
        line.permits.limit_to(limit);
        Permits::grant(&*line.permits);
        assert_eq!(line.told(), told, "with a limit of {limit}");
    }
    line.permits.limit_to(9);
    line.ends();
}

#[test]
fn with_a_limit_of_zero_nobody_is_served_and_all_may_wait() {
    let mut line = Line::full(0, 2, FIFO);
    assert!(line.permits.try_acquire_for(100).is_none());
    line.waits("a", class(0));
    line.waits("b", class(100));
    assert!(line.refuses(class(0)));
    Permits::grant(&*line.permits);
    assert_eq!(line.told(), "");
    line.permits.limit_to(1);
    Permits::grant(&*line.permits);
    assert_eq!(line.told(), "b");
    line.ends();
}

#[test]
fn a_share_is_no_more_than_all_and_of_some_at_least_one() {
    assert_eq!(Share::parts(u32::MAX), Share::WHOLE);
    assert_eq!(Share::parts(1 << 16), Share::WHOLE);
    assert!(Share::parts((1 << 16) - 1) < Share::WHOLE);
    assert_eq!(Share::parts(0).of(1000), 0);
    let half = Share::parts(1 << 15);
    for (limit, of_half, of_least) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 2, 1), (65_537, 32_769, 2)] {
        assert_eq!((half.of(limit), Share::parts(1).of(limit)), (of_half, of_least), "{limit}");
        assert_eq!(Share::WHOLE.of(limit), limit);
    }
    assert_eq!(Share::WHOLE.of(u64::from(u32::MAX)), u64::from(u32::MAX));
}

#[test]
fn a_word_holds_three_things_apart() {
    for limit in [0, 1, 7, Permits::MAX] {
        for out in [0, 1, u64::from(u32::MAX) - 1] {
            for waiting in [false, true] {
                let word = Word::new(limit, out, waiting);
                let read = |word: Word| (word.limit(), word.out(), word.has_waiting());
                assert_eq!(read(word), (u64::from(limit), out, waiting));
                assert_eq!(read(word.with_one_more()), (u64::from(limit), out + 1, waiting));
                assert_eq!(read(word.waiting(true)), (u64::from(limit), out, true));
                assert_eq!(read(word.waiting(false)), (u64::from(limit), out, false));
                let has_room = out < u64::from(limit);
                assert_eq!(
                    (word.has_room(Share::WHOLE), word.is_free(Share::WHOLE)),
                    (has_room, has_room && !waiting)
                );
            }
        }
    }
    assert_eq!(Word::new(u32::MAX, 0, false).limit(), u64::from(Permits::MAX), "no limit is higher");
}
