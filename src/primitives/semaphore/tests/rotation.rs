//! Overload that only shows in all lanes together: many tenants with one call each.

use std::time::Duration;

use super::Line;
use super::lanes::{class, tenant};
use crate::primitives::semaphore::discipline::QueueDiscipline;
use crate::primitives::semaphore::owner::set_now;

const MS: u64 = 1_000_000;
/// Targets of 5 ms and intervals of 100 ms.
const LIFO: QueueDiscipline = QueueDiscipline::adaptive_lifo();
const CODEL: QueueDiscipline = QueueDiscipline::controlled_delay();

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn at(now: u64) {
    set_now(now * MS);
}

/// Each 30 ms a tenant of its own begins to wait, and 60 ms later it is served: for more than an
/// interval nobody waits less.
fn many_wait(discipline: QueueDiscipline) -> Line {
    let mut line = Line::full(1, 99, discipline);
    for (now, name) in (0..).zip(NAMES) {
        at(30 * now);
        line.waits(name, tenant(now));
        if now >= 2 {
            assert_eq!(line.next(), NAMES[now as usize - 2], "{discipline:?}");
        }
    }
    line
}

#[test]
fn tenants_with_one_call_each_that_all_wait_too_long_are_overloaded_together() {
    for (discipline, told) in [
        (LIFO, "f overdue 5000000, g overdue 5000000, x"),
        (CODEL, "f overdue 10000000, g overdue 10000000, x"),
    ] {
        let mut line = many_wait(discipline);
        at(200);
        line.waits("x", tenant(100));
        assert_eq!(line.next(), told, "{discipline:?}");
        line.ends();
    }
}

#[test]
fn a_class_with_nobody_left_is_not_overloaded_any_more() {
    for discipline in [LIFO, CODEL] {
        let mut line = many_wait(discipline);
        line.leaves("f");
        line.leaves("g");
        line.waits("x", tenant(100));
        at(200);
        assert_eq!(line.next(), "x", "{discipline:?}");
        line.ends();
    }
}

#[test]
fn the_overload_of_a_class_is_not_that_of_another() {
    for discipline in [LIFO, CODEL] {
        let mut line = many_wait(discipline);
        line.waits("critical", class(100));
        at(200);
        assert_eq!(line.next(), "critical", "{discipline:?}");
        line.ends();
    }
}

#[test]
fn while_all_tenants_are_overloaded_the_newest_call_of_each_comes_first() {
    let mut line = many_wait(LIFO);
    at(200);
    line.waits("old", tenant(100));
    line.waits("new", tenant(100));
    assert_eq!(line.next(), "f overdue 5000000, g overdue 5000000, new");
    line.ends();
}

#[test]
fn while_all_tenants_are_overloaded_a_full_queue_loses_the_oldest_call_of_the_longest_lane() {
    let mut line = many_wait(LIFO);
    line.permits.queue_by(4, LIFO);
    line.waits("old", tenant(100));
    line.waits("new", tenant(100));
    line.waits("other", tenant(101));
    assert_eq!(line.told(), "old displaced");
    line.ends();
}

/// Each is served after 3 ms, which is less than a target and more than half of one.
#[test]
fn tenants_that_are_just_served_in_time_are_overloaded_still() {
    let mut line = Line::full(1, 99, LIFO);
    line.waits("first", tenant(0));
    for call in 1..100 {
        at(3 * call);
        line.waits("each", tenant(call));
        line.next();
    }
    line.waits("old", tenant(100));
    line.waits("new", tenant(100));
    assert_eq!([line.next(), line.next()], ["each", "new"]);
    line.ends();
}

/// Its lane is never empty, but has its turn each 10 ms.
#[test]
fn a_tenant_that_always_has_calls_waiting_does_not_overload_the_others() {
    let discipline = QueueDiscipline::AdaptiveLifo {
        target: Duration::from_millis(100),
        interval: Duration::from_millis(20),
    };
    let mut line = Line::full(1, 99, discipline);
    for call in 0..30 {
        at(10 * call);
        line.waits("busy", tenant(0));
        line.waits("busy", tenant(0));
        line.next();
    }
    line.waits("old", tenant(1));
    line.waits("new", tenant(1));
    assert_eq!([line.next(), line.next()], ["busy", "old"]);
    line.ends();
}
