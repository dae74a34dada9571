//! Classes and tenants: who is next, and who loses a place.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use super::Line;
use crate::primitives::semaphore::Ask;
use crate::primitives::semaphore::discipline::QueueDiscipline;
use crate::primitives::semaphore::owner::{ASK, set_now};

pub(super) const FIFO: QueueDiscipline = QueueDiscipline::OldestFirst;
/// The newest first, once a nanosecond has passed.
const NEWEST: QueueDiscipline =
    QueueDiscipline::AdaptiveLifo { target: Duration::MAX, interval: Duration::ZERO };

/// Somebody of this class and tenant.
pub(super) const fn of(class: u8, tenant: u64) -> Ask {
    Ask { class, tenant, ..ASK }
}

pub(super) const fn class(class: u8) -> Ask {
    of(class, 0)
}

pub(super) const fn tenant(tenant: u64) -> Ask {
    of(50, tenant)
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
    assert_eq!(told.unwrap_err(), crate::primitives::semaphore::Shed::Displaced);
    drop((displaced, another));
    line.ends();
}

#[test]
fn a_waker_that_panics_costs_the_call_that_woke_it_nothing() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("it is told");
        }
    }
    let line = Line::full(1, 1, FIFO);
    let mut displaced = Box::pin(line.permits.acquire_for(class(0)).unwrap());
    assert!(displaced.as_mut().poll(&mut Context::from_waker(&Arc::new(Bad).into())).is_pending());
    let displaces = line.permits.acquire_for(class(1));
    assert!(displaces.is_some());
    assert_eq!(line.permits.queued(), 1, "the other has its place");
    drop((displaced, displaces));
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
