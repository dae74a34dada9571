//! Classes, tenants and shares of the limit: who is next, and who loses a place.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use super::Line;
use crate::permits::discipline::Discipline;
use crate::permits::owner::{ASK, set_now, set_shares};
use crate::permits::word::{Share, Word};
use crate::permits::{Ask, Permits};

const FIFO: Discipline = Discipline::OldestFirst;
/// The newest first, once a nanosecond has passed.
const NEWEST: Discipline = Discipline::AdaptiveLifo { target: Duration::MAX, interval: Duration::ZERO };

/// Somebody of this class and tenant.
const fn of(class: u8, tenant: u64) -> Ask {
    Ask { class, tenant, ..ASK }
}

const fn class(class: u8) -> Ask {
    of(class, 0)
}

const fn tenant(tenant: u64) -> Ask {
    of(50, tenant)
}

/// A quarter of the limit for class 0, half of it up to 50, all of it above.
fn quarters(class: u8) -> Share {
    Share::parts(match class {
        0 => 1 << 14,
        1..=50 => 1 << 15,
        _ => 1 << 16,
    })
}

#[test]
fn those_of_a_higher_class_come_first_in_the_order_in_which_they_came() {
    let mut line = Line::full(1, 9, FIFO);
    for (name, ask) in
        [("low", class(0)), ("a", class(50)), ("b", class(50)), ("high", class(100)), ("late", class(51))]
    {
        line.waits(name, ask);
    }
    assert_eq!(line.all(), "high | late | a | b | low");
    line.ends();
}

#[test]
fn tenants_of_a_class_take_turns() {
    let mut line = Line::full(1, 99, FIFO);
    for name in ["a1", "a2", "a3", "a4"] {
        line.waits(name, tenant(7));
    }
    line.waits("b1", tenant(1));
    line.waits("c1", tenant(9));
    line.waits("b2", tenant(1));
    assert_eq!(line.all(), "a1 | b1 | c1 | a2 | b2 | a3 | a4");
    line.ends();
}

#[test]
fn a_tenant_that_comes_back_is_the_last_of_its_class() {
    let mut line = Line::full(1, 99, FIFO);
    line.waits("a1", tenant(1));
    line.waits("b1", tenant(2));
    line.waits("b2", tenant(2));
    assert_eq!(line.next(), "a1");
    line.waits("a2", tenant(1));
    assert_eq!(line.all(), "b1 | a2 | b2", "it had its turn");
    line.ends();
}

#[test]
fn a_tenant_whose_call_leaves_keeps_the_turn_for_its_next() {
    let mut line = Line::full(1, 99, FIFO);
    line.waits("a1", tenant(1));
    line.waits("a2", tenant(1));
    line.waits("b1", tenant(2));
    line.leaves("a1");
    assert_eq!(line.all(), "a2 | b1");
    line.ends();
}

#[test]
fn one_tenant_has_a_lane_in_each_class() {
    let mut line = Line::full(1, 99, FIFO);
    line.waits("low", of(0, 1));
    line.waits("high", of(100, 1));
    line.waits("middle", of(50, 1));
    assert_eq!(line.all(), "high | middle | low");
    line.ends();
}

#[test]
fn each_lane_follows_the_discipline_by_itself() {
    let mut line = Line::full(1, 99, NEWEST);
    line.waits("a1", tenant(1));
    line.waits("a2", tenant(1));
    set_now(5);
    line.waits("b1", tenant(2));
    line.waits("b2", tenant(2));
    // The first lane has been busy for a while, and the second one has not.
    assert_eq!(line.all(), "a2 | b1 | a1 | b2");
    line.ends();
}

#[test]
fn a_full_queue_takes_nobody_who_would_be_the_last() {
    let mut line = Line::full(1, 2, FIFO);
    line.waits("a1", tenant(1));
    line.waits("a2", tenant(1));
    assert!(line.refuses(tenant(1)), "it is the newest of the longest lane");
    assert!(line.refuses(of(49, 2)), "it is of the lowest class");
    assert_eq!(line.told(), "");
    assert_eq!(line.all(), "a1 | a2");
    line.ends();
}

#[test]
fn a_new_tenant_takes_the_place_of_the_newest_of_the_longest_lane() {
    let mut line = Line::full(1, 4, FIFO);
    for name in ["a1", "a2", "a3"] {
        line.waits(name, tenant(1));
    }
    line.waits("b1", tenant(2));
    line.waits("c1", tenant(3));
    assert_eq!(line.told(), "a3 displaced");
    assert_eq!(line.permits.queued(), 4);
    assert_eq!(line.all(), "a1 | b1 | c1 | a2");
    line.ends();
}

#[test]
fn a_tenant_with_as_many_as_the_longest_displaces_nobody() {
    let mut line = Line::full(1, 4, FIFO);
    line.waits("a1", tenant(1));
    line.waits("a2", tenant(1));
    line.waits("b1", tenant(2));
    line.waits("c1", tenant(3));
    assert!(line.refuses(tenant(2)), "it would have two, as the other has");
    assert!(line.refuses(tenant(1)));
    line.waits("d1", tenant(4));
    assert_eq!(line.told(), "a2 displaced");
    assert!(line.refuses(tenant(5)), "all have one");
    assert_eq!(line.all(), "a1 | b1 | c1 | d1");
    line.ends();
}

#[test]
fn the_lowest_class_loses_its_place_whatever_its_length() {
    let mut line = Line::full(1, 4, FIFO);
    line.waits("low", of(0, 9));
    for name in ["a1", "a2", "a3"] {
        line.waits(name, tenant(1));
    }
    line.waits("a4", tenant(1));
    assert_eq!(line.told(), "low displaced");
    assert!(line.refuses(tenant(1)));
    line.waits("high", class(100));
    assert_eq!(line.told(), "a4 displaced");
    assert_eq!(line.all(), "high | a1 | a2 | a3");
    line.ends();
}

#[test]
fn of_the_lowest_class_the_longest_lane_loses() {
    let mut line = Line::full(1, 4, FIFO);
    line.waits("a1", of(0, 1));
    line.waits("b1", of(0, 2));
    line.waits("b2", of(0, 2));
    line.waits("c1", of(0, 3));
    line.waits("high", class(100));
    assert_eq!(line.told(), "b2 displaced");
    line.ends();
}

#[test]
fn where_the_newest_is_first_the_oldest_loses() {
    let mut line = Line::full(1, 2, NEWEST);
    line.waits("a1", tenant(1));
    line.waits("a2", tenant(1));
    assert!(line.refuses(tenant(1)), "the oldest is still the first");
    set_now(1);
    line.waits("a3", tenant(1));
    assert_eq!(line.told(), "a1 displaced", "of its own lane");
    line.waits("b1", tenant(2));
    assert_eq!(line.told(), "a2 displaced", "and of another");
    assert_eq!(line.all(), "a3 | b1");
    line.ends();
}

#[test]
fn a_lane_whose_only_one_makes_room_for_its_next_keeps_its_turn_and_stays_busy() {
    let mut line = Line::full(1, 2, NEWEST);
    line.waits("a1", tenant(1));
    line.waits("b1", tenant(2));
    set_now(5);
    line.waits("a2", tenant(1));
    assert_eq!(line.told(), "a1 displaced");
    line.waits("a3", tenant(1));
    assert_eq!(line.told(), "a2 displaced", "the newest is still the first");
    assert_eq!(line.all(), "a3 | b1");
    line.ends();
}

#[test]
fn one_who_is_displaced_before_it_was_polled_is_told_when_it_is() {
    let line = Line::full(1, 1, FIFO);
    let mut displaced = tokio_test::task::spawn(line.permits.acquire_for(class(0)).unwrap());
    let another = line.permits.acquire_for(class(1)).unwrap();
    assert_eq!(line.permits.queued(), 1);
    let told = tokio_test::assert_ready!(displaced.poll());
    assert_eq!(told.unwrap_err(), crate::permits::Shed::Displaced);
    drop((displaced, another));
    line.ends();
}

#[test]
fn a_waker_that_panics_loses_only_the_call_that_woke_it() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("it is told");
        }
    }
    let line = Line::full(1, 1, FIFO);
    let mut displaced = Box::pin(line.permits.acquire_for(class(0)).unwrap());
    assert!(displaced.as_mut().poll(&mut Context::from_waker(&Arc::new(Bad).into())).is_pending());
    let displaces = catch_unwind(AssertUnwindSafe(|| line.permits.acquire_for(class(1))));
    assert!(displaces.is_err());
    assert_eq!(line.permits.queued(), 0, "nobody has that place");
    drop(displaced);
    line.ends();
}

#[test]
fn one_who_was_displaced_may_leave_without_asking() {
    let mut line = Line::full(1, 1, FIFO);
    line.waits("low", class(0));
    line.waits("high", class(1));
    line.leaves("low");
    assert_eq!(line.all(), "high");
    line.ends();
}

#[test]
fn a_queue_without_places_lets_nobody_wait() {
    let mut line = Line::full(1, 0, FIFO);
    assert!(line.refuses(class(100)));
    line.permits.limit_to(2);
    line.is_served(class(0));
    line.ends();
}

#[test]
fn a_queue_that_is_made_smaller_loses_nobody_but_to_another() {
    let mut line = Line::full(1, usize::MAX, FIFO);
    for name in ["a", "b", "c"] {
        line.waits(name, class(50));
    }
    line.permits.queue_by(1, FIFO);
    assert_eq!((line.told(), line.permits.queued()), (String::new(), 3));
    assert!(line.refuses(class(50)));
    line.waits("other", of(50, 1));
    assert_eq!(line.told(), "c displaced");
    line.waits("high", class(100));
    assert_eq!((line.told().as_str(), line.permits.queued()), ("b displaced", 3));
    assert_eq!(line.all(), "high | a | other");
    line.ends();
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
