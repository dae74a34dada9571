//! Waiters that do not claim what they are granted.

use std::sync::Arc;

use super::{Told, Waiter, assert_all_free, kept};
use crate::base::sync::both;
use crate::primitives::semaphore::granted::Granted;
use crate::primitives::semaphore::owner::{permits as new_permits, set_now};
use crate::primitives::semaphore::{Permit, Permits};

/// A waiter that was granted the only permit, and has not claimed it for too long.
fn sleeper() -> (Arc<Permits>, Waiter) {
    let permits = new_permits(1, 9);
    let held = permits.try_acquire().expect("it is free");
    let sleeper = Waiter::of(&permits).expect("it waits");
    drop(held);
    set_now(crate::base::clock::nanos(Granted::CLAIMED_WITHIN));
    (permits, sleeper)
}

fn served(told: Option<Told>) -> Option<Permit<Permits>> {
    match told {
        Some(Told::Served(permit)) => Some(permit),
        Some(Told::Shed(why)) => panic!("turned away: {why:?}"),
        None => None,
    }
}

#[test]
fn a_grant_that_is_claimed_while_it_is_taken_back_is_one_permit() {
    loom::model(|| {
        let (permits, mut sleeper) = sleeper();
        let asking = Arc::clone(&permits);
        let ((their_sleeper, our_sleeper), (theirs, ours)) = (kept(), kept());
        both(
            move || {
                let told = served(sleeper.ask());
                *their_sleeper.lock().expect("nobody panics") = Some((sleeper, told));
            },
            move || {
                *theirs.lock().expect("nobody panics") =
                    Some(Waiter::or_permit(&asking, crate::primitives::semaphore::owner::ASK));
            },
        );
        let (mut sleeper, claimed) = our_sleeper.lock().expect("nobody panics").take().expect("it was left");
        let other = ours.lock().expect("nobody panics").take().expect("it was left");
        assert_eq!((permits.counts().0, permits.queued()), (1, 1));
        match other {
            Ok(permit) => {
                assert!(claimed.is_none(), "two have it");
                drop(permit);
                drop(served(sleeper.ask()).expect("it comes back"));
            }
            Err(waiter) => {
                drop(claimed.expect("nobody else has it"));
                drop(waiter.has_permit());
            }
        }
        drop(sleeper);
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_sleeper_that_wakes_up_while_the_permit_comes_back_has_it() {
    loom::model(|| {
        let (permits, mut sleeper) = sleeper();
        let held = Waiter::or_permit(&permits, crate::primitives::semaphore::owner::ASK)
            .ok()
            .expect("it is taken back");
        let (theirs, ours) = kept();
        both(
            move || drop(held),
            move || {
                let told = served(sleeper.ask());
                *theirs.lock().expect("nobody panics") = Some((sleeper, told));
            },
        );
        let (mut sleeper, told) = ours.lock().expect("nobody panics").take().expect("it was left");
        drop(told.or_else(|| served(sleeper.ask())).expect("it is forgotten"));
        drop(sleeper);
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_sleeper_that_leaves_while_its_grant_is_taken_back_takes_nothing_along() {
    loom::model(|| {
        let (permits, sleeper) = sleeper();
        let asking = Arc::clone(&permits);
        let (theirs, ours) = kept();
        both(
            move || drop(sleeper),
            move || {
                *theirs.lock().expect("nobody panics") =
                    Some(Waiter::or_permit(&asking, crate::primitives::semaphore::owner::ASK));
            },
        );
        match ours.lock().expect("nobody panics").take().expect("it was left") {
            Ok(permit) => drop(permit),
            Err(waiter) => drop(waiter.has_permit()),
        }
        assert_all_free(&permits, 1);
    });
}
