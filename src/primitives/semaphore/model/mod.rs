//! Permits under loom: every interleaving of a few threads.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

mod asleep;
mod lanes;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::owner::{ASK, permits as new_permits};
use super::{Acquire, Ask, Permit, Permits, Shed};
use crate::base::sync::both;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One who waits, and was told so.
struct Waiter {
    acquire: Acquire<Permits>,
    wakes: Arc<Wakes>,
}

/// What somebody was told who waited.
enum Told {
    Served(Permit<Permits>),
    Shed(Shed),
}

impl Waiter {
    /// `None` if there was a permit at once, which is given back when this returns.
    fn of(permits: &Arc<Permits>) -> Option<Self> {
        Self::or_permit(permits, ASK).err()
    }

    fn or_permit(permits: &Arc<Permits>, ask: Ask) -> Result<Permit<Permits>, Self> {
        let acquire = permits.acquire_for(ask).expect("there is a place");
        let mut waiter = Self { acquire, wakes: Arc::new(Wakes::default()) };
        match waiter.ask() {
            Some(Told::Served(permit)) => Ok(permit),
            Some(Told::Shed(why)) => panic!("turned away: {why:?}"),
            None => Err(waiter),
        }
    }

    /// None: it still waits.
    fn ask(&mut self) -> Option<Told> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match pin!(&mut self.acquire).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(permit)) => Some(Told::Served(permit)),
            Poll::Ready(Err(why)) => Some(Told::Shed(why)),
            Poll::Pending => None,
        }
    }

    /// It has been woken, and hears what for.
    fn told(mut self) -> Told {
        assert_eq!(self.wakes.0.load(Ordering::Relaxed), 1, "woken once");
        self.ask().expect("it is not woken for nothing")
    }

    /// It has been woken, and has its permit.
    fn has_permit(self) -> Permit<Permits> {
        match self.told() {
            Told::Served(permit) => permit,
            Told::Shed(why) => panic!("turned away: {why:?}"),
        }
    }
}

fn assert_all_free(permits: &Permits, limit: u32) {
    assert_eq!((permits.counts(), permits.queued()), ((0, limit), 0));
    assert!(permits.has_room(), "a mark was left");
}

/// A place of the last thread in that of the first, to look at when both have ended.
fn kept<T: 'static>() -> (Arc<std::sync::Mutex<Option<T>>>, Arc<std::sync::Mutex<Option<T>>>) {
    let kept = Arc::new(std::sync::Mutex::new(None));
    (Arc::clone(&kept), kept)
}

#[test]
fn who_begins_to_wait_while_the_permit_comes_back_has_it() {
    loom::model(|| {
        let permits = new_permits(1, 1);
        let held = permits.try_acquire().expect("it is free");
        let waiting = Arc::clone(&permits);
        let (theirs, ours) = kept();
        both(move || drop(held), move || *theirs.lock().expect("nobody panics") = Waiter::of(&waiting));
        if let Some(waiter) = ours.lock().expect("nobody panics").take() {
            let permit = waiter.has_permit();
            assert_eq!(permits.counts().0, 1);
            drop(permit);
        }
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_waiter_that_leaves_while_it_is_its_turn_lets_the_next_have_it() {
    loom::model(|| {
        let permits = new_permits(1, 2);
        let held = permits.try_acquire().expect("it is free");
        let (first, second) = (Waiter::of(&permits), Waiter::of(&permits));
        both(move || drop(held), move || drop(first));
        drop(second.expect("it waited").has_permit());
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_last_waiter_that_leaves_while_the_permit_comes_back_leaves_nothing() {
    loom::model(|| {
        let permits = new_permits(1, 1);
        let held = permits.try_acquire().expect("it is free");
        let waiter = Waiter::of(&permits);
        both(move || drop(held), move || drop(waiter));
        assert_all_free(&permits, 1);
    });
}

#[test]
fn two_permits_that_come_back_go_to_two_who_wait() {
    loom::model(|| {
        let permits = new_permits(2, 2);
        let [one, other] = [permits.try_acquire(), permits.try_acquire()];
        let waiters = [Waiter::of(&permits), Waiter::of(&permits)];
        both(move || drop(one), move || drop(other));
        let granted = waiters.map(|waiter| waiter.expect("it waited").has_permit());
        assert_eq!(permits.counts().0, 2);
        drop(granted);
        assert_all_free(&permits, 2);
    });
}

#[test]
fn no_more_are_out_than_allowed() {
    loom::model(|| {
        let permits = new_permits(1, 0);
        let out = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let work = || {
            let (permits, out) = (Arc::clone(&permits), Arc::clone(&out));
            move || {
                if let Some(permit) = permits.try_acquire() {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "two at a time");
                    out.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            }
        };
        both(work(), work());
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_limit_that_grows_while_a_permit_comes_back_serves_who_waits() {
    loom::model(|| {
        let permits = new_permits(1, 2);
        let held = permits.try_acquire().expect("it is free");
        let waiters = [Waiter::of(&permits), Waiter::of(&permits)];
        let growing = Arc::clone(&permits);
        both(
            move || drop(held),
            move || {
                growing.limit_to(2);
                Permits::grant(&*growing);
            },
        );
        let granted = waiters.map(|waiter| waiter.expect("it waited").has_permit());
        assert_eq!(permits.counts().0, 2);
        drop(granted);
        assert_all_free(&permits, 2);
    });
}

#[test]
fn a_limit_that_shrinks_while_a_permit_comes_back_holds_from_then_on() {
    loom::model(|| {
        let permits = new_permits(2, 1);
        let [stays, returns] = [permits.try_acquire(), permits.try_acquire()];
        let waiter = Waiter::of(&permits).expect("it waits");
        let shrinking = Arc::clone(&permits);
        both(
            move || drop(returns),
            move || {
                shrinking.limit_to(1);
                Permits::grant(&*shrinking);
            },
        );
        // Before the limit shrank, or after both had come back.
        let was_before = permits.queued() == 0;
        assert_eq!(permits.counts().0, if was_before { 2 } else { 1 });
        assert!(permits.try_acquire().is_none());
        drop(stays);
        drop(waiter.has_permit());
        assert_all_free(&permits, 1);
    });
}
