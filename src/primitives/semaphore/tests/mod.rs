//! Permits by example, and against lists kept by hand.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail"
)]

mod compared;
mod deadlines;
mod disciplines;
mod lanes;
mod naive;
mod rotation;
mod shares;

use std::sync::Arc;

use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};

use super::owner::permits;
use super::{Acquire, Ask, Permit, Permits, QueueDiscipline, Shed};

/// Those who wait for one of some permits, by name.
struct Line {
    permits: Arc<Permits>,
    held: Vec<Permit<Permits>>,
    waiting: Vec<(&'static str, Spawn<Acquire<Permits>>)>,
}

impl Line {
    /// All of the permits are out.
    fn full(limit: u32, max_queued: usize, discipline: QueueDiscipline) -> Self {
        let permits = permits(limit, max_queued);
        permits.queue_by(max_queued, discipline);
        let held = (0..limit).map(|_| permits.try_acquire().unwrap()).collect();
        Self { permits, held, waiting: Vec::new() }
    }

    /// Begins to wait.
    #[track_caller]
    fn waits(&mut self, name: &'static str, ask: Ask) {
        let mut waiter = task::spawn(self.permits.acquire_for(ask).expect("it has a place"));
        assert_pending!(waiter.poll());
        self.waiting.push((name, waiter));
    }

    /// Asks, and has a permit at once.
    #[track_caller]
    fn is_served(&mut self, ask: Ask) {
        let mut waiter = task::spawn(self.permits.acquire_for(ask).expect("there is room"));
        self.held.push(assert_ready!(waiter.poll()).unwrap());
    }

    /// Asks, and may not even wait.
    fn refuses(&self, ask: Ask) -> bool {
        let before = self.permits.queued();
        self.permits.acquire_for(ask).is_none() && self.permits.queued() == before
    }

    fn leaves(&mut self, name: &str) {
        self.waiting.retain(|(other, _)| *other != name);
    }

    /// A permit comes back: what those who wait are told, in the order in which they came.
    fn next(&mut self) -> String {
        drop(self.held.pop().expect("one is out"));
        self.told()
    }

    /// The next one, again and again, until nobody is told anything.
    fn all(&mut self) -> String {
        let mut all = Vec::new();
        while !self.held.is_empty() {
            all.extend(Some(self.next()).filter(|told| !told.is_empty()));
        }
        all.join(" | ")
    }

    /// What those are told who have been woken already.
    fn told(&mut self) -> String {
        let mut told = Vec::new();
        let held = &mut self.held;
        self.waiting.retain_mut(|(name, waiter)| {
            if !waiter.is_woken() {
                assert_pending!(waiter.poll(), "{name} was not woken");
                return true;
            }
            told.push(match assert_ready!(waiter.poll(), "{name} was woken for nothing") {
                Ok(permit) => {
                    held.push(permit);
                    (*name).to_owned()
                }
                Err(Shed::Displaced) => format!("{name} displaced"),
                Err(Shed::Late) => format!("{name} late"),
                Err(Shed::Expired) => format!("{name} expired"),
                Err(Shed::Overdue(patience)) => format!("{name} overdue {patience}"),
            });
            false
        });
        told.join(", ")
    }

    /// Whatever became of them, all is as it was.
    #[track_caller]
    fn ends(self) {
        let Self { permits, held, waiting } = self;
        let limit = permits.counts().1;
        drop((waiting, held));
        assert_eq!((permits.counts(), permits.queued()), ((0, limit), 0));
        assert_eq!(permits.has_room(), limit > 0, "a mark was left");
    }
}

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
    assert!(!waiter.is_woken(), "it hears of it by the grant that follows");
    Permits::grant(&*permits);
    assert!(waiter.is_woken());
}
