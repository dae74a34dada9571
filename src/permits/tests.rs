//! Permits by example, and against lists kept by hand.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail"
)]

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};

use super::owner::permits;
use super::{Acquire, Discipline, Permit, Permits};

fn waiter(permits: &Arc<Permits>) -> Spawn<Acquire<Permits>> {
    let mut waiter = task::spawn(permits.acquire().unwrap());
    assert_pending!(waiter.poll());
    waiter
}

#[test]
fn so_many_are_out_and_no_more() {
    let permits = permits(2, 0);
    let out = [permits.try_acquire(), permits.try_acquire()];
    assert!(out.iter().all(Option::is_some));
    assert!(permits.try_acquire().is_none());
    assert!(permits.acquire().is_none(), "there is no queue");
    assert_eq!(permits.counts(), (2, 2));
    drop(out);
    assert!(permits.has_room());
}

#[test]
fn who_waits_is_served_in_order_and_not_overtaken() {
    let permits = permits(1, 2);
    let held = permits.try_acquire().unwrap();
    let (mut first, mut second) = (waiter(&permits), waiter(&permits));
    assert!(permits.acquire().is_none(), "the queue is full");
    drop(held);
    assert!(first.is_woken() && !second.is_woken());
    assert!(permits.try_acquire().is_none(), "it is the first one's");
    drop(assert_ready!(first.poll()).unwrap());
    assert!(second.is_woken());
    drop(assert_ready!(second.poll()).unwrap());
    assert!(permits.has_room());
}

#[test]
fn a_permit_goes_past_one_who_left_before_or_after_it_was_granted() {
    let permits = permits(1, 3);
    let held = permits.try_acquire().unwrap();
    let (left, granted, mut last) = (waiter(&permits), waiter(&permits), waiter(&permits));
    drop(left);
    drop(held);
    assert!(granted.is_woken());
    drop(granted);
    assert!(last.is_woken());
    drop(assert_ready!(last.poll()).unwrap());
    assert_eq!((permits.counts().0, permits.queued()), (0, 0));
}

#[test]
fn one_who_is_not_polled_before_its_turn_has_its_permit_nevertheless() {
    let permits = permits(1, 1);
    let held = permits.try_acquire().unwrap();
    let mut waiter = task::spawn(permits.acquire().unwrap());
    drop(held);
    drop(assert_ready!(waiter.poll()).unwrap());
    assert!(permits.has_room());
}

#[test]
fn the_last_task_that_polled_is_woken() {
    let permits = permits(1, 1);
    let held = permits.try_acquire().unwrap();
    let mut acquire = Box::pin(permits.acquire().unwrap());
    let (mut one, mut other) = (task::spawn(()), task::spawn(()));
    assert_pending!(one.enter(|cx, _| acquire.as_mut().poll(cx)));
    assert_pending!(other.enter(|cx, _| acquire.as_mut().poll(cx)));
    drop(held);
    assert!(other.is_woken() && !one.is_woken());
}

#[test]
fn a_limit_of_any_size_is_cut_to_what_there_can_be() {
    let permits = permits(u32::MAX, usize::MAX);
    assert_eq!(permits.counts(), (0, Permits::MAX));
    let held = permits.try_acquire().unwrap();
    permits.limit_to(0);
    Permits::grant(&*permits);
    assert_eq!(permits.counts(), (1, 0));
    let waiter = waiter(&permits);
    drop(held);
    assert!(!waiter.is_woken());
    permits.limit_to(u32::MAX);
    Permits::grant(&*permits);
    assert!(waiter.is_woken());
}

#[derive(Clone, Debug)]
enum Step {
    Try,
    Acquire,
    Return(usize),
    Leave(usize),
    Resize(u32),
    Allow(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Try),
        5 => Just(Step::Acquire),
        5 => any::<usize>().prop_map(Step::Return),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => (0..5_u32).prop_map(Step::Resize),
        1 => (0..4_usize).prop_map(Step::Allow),
    ];
    prop::collection::vec(step, 1..120)
}

/// What there should be, by two lists.
struct Naive {
    limit: usize,
    max_queued: usize,
    /// The permits that are out, of those who have them in hand.
    out: Vec<Permit<Permits>>,
    /// Those who wait, or have a permit and do not know yet.
    line: VecDeque<(Spawn<Acquire<Permits>>, bool)>,
}

impl Naive {
    fn granted(&self) -> usize {
        self.line.iter().filter(|(_, granted)| *granted).count()
    }

    fn in_flight(&self) -> usize {
        self.out.len() + self.granted()
    }

    fn queued(&self) -> usize {
        self.line.len() - self.granted()
    }

    fn is_free(&self) -> bool {
        self.in_flight() < self.limit && self.queued() == 0
    }

    /// Who should have a permit by now.
    fn grant(&mut self) {
        while self.in_flight() < self.limit && self.queued() > 0 {
            self.line.iter_mut().find(|(_, granted)| !granted).unwrap().1 = true;
        }
    }
}

proptest! {
    #[test]
    fn permits_are_those_of_two_lists(steps in steps()) {
        let permits = permits(2, 2);
        let mut naive = Naive { limit: 2, max_queued: 2, out: Vec::new(), line: VecDeque::new() };
        for step in steps {
            match step {
                Step::Try => {
                    let is_free = naive.is_free();
                    let permit = permits.try_acquire();
                    prop_assert_eq!(permit.is_some(), is_free);
                    naive.out.extend(permit);
                }
                Step::Acquire => {
                    let (is_free, has_place) = (naive.is_free(), naive.queued() < naive.max_queued);
                    let acquire = permits.acquire();
                    prop_assert_eq!(acquire.is_some(), is_free || has_place);
                    if let Some(acquire) = acquire {
                        let mut acquire = task::spawn(acquire);
                        if is_free {
                            naive.out.push(assert_ready!(acquire.poll()).unwrap());
                        } else {
                            assert_pending!(acquire.poll());
                            naive.line.push_back((acquire, false));
                        }
                    }
                }
                // One who has been granted a permit takes it in hand, before any comes back.
                Step::Return(_) if naive.line.front().is_some_and(|(_, granted)| *granted) => {
                    let (mut acquire, _) = naive.line.pop_front().unwrap();
                    naive.out.push(assert_ready!(acquire.poll()).unwrap());
                }
                Step::Return(which) if !naive.out.is_empty() => {
                    let which = which % naive.out.len();
                    drop(naive.out.swap_remove(which));
                }
                Step::Leave(which) if !naive.line.is_empty() => {
                    let which = which % naive.line.len();
                    drop(naive.line.remove(which));
                }
                Step::Return(_) | Step::Leave(_) => {}
                Step::Resize(limit) => {
                    naive.limit = limit as usize;
                    permits.limit_to(limit);
 Permits::grant(&*permits);
                }
                Step::Allow(max) => {
                    naive.max_queued = max;
                    permits.queue_by(max, Discipline::OldestFirst);
                }
            }
            naive.grant();
            prop_assert_eq!(permits.counts(), (naive.in_flight() as u32, naive.limit as u32));
            prop_assert_eq!((permits.queued(), permits.has_room()), (naive.queued(), naive.is_free()));
            for (acquire, granted) in &naive.line {
                prop_assert_eq!(acquire.is_woken(), *granted);
            }
        }
        drop(naive);
        prop_assert_eq!((permits.counts().0, permits.queued()), (0, 0));
    }
}
