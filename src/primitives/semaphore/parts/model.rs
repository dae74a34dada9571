//! Parts of a limit under loom: every interleaving of a few threads.

#![allow(clippy::arithmetic_side_effects, reason = "a test may fail")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::slot::{Fraction, Part};
use crate::base::sync::both;
use crate::primitives::semaphore::owner::{ASK, permits};
use crate::primitives::semaphore::word::Share;
use crate::primitives::semaphore::{Acquire, Ask, Permit, Permits};

const FIRST: usize = 0;
/// Of which nothing is kept.
const REST: usize = 1;

/// One is kept for the first part.
fn one_kept_of(limit: u32) -> Arc<Permits> {
    let permits = Arc::into_inner(permits(limit, 2)).expect("it is new");
    Arc::new(permits.parted(Box::new([Fraction::new(1.0 / f64::from(limit))])))
}

/// A permit of a part, which it leaves before it comes back.
struct Held {
    permits: Arc<Permits>,
    part: usize,
    _permit: Permit<Permits>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permits.leave(Part::at(self.part));
    }
}

fn take(permits: &Arc<Permits>, part: usize) -> Option<Held> {
    let _permit = Permit::try_acquire_of(permits, Part::at(part), Share::WHOLE)?;
    Some(Held { permits: Arc::clone(permits), part, _permit })
}

fn enter(permits: &Arc<Permits>, part: usize) -> Acquire<Permits> {
    permits.acquire_for(Ask { part: Part::at(part), ..ASK }).expect("there is a place")
}

fn has_permit(permits: &Arc<Permits>, part: usize, acquire: Acquire<Permits>) -> Held {
    match pin!(acquire).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => {
            let _permit = permit.expect("it is not turned away");
            Held { permits: Arc::clone(permits), part, _permit }
        }
        Poll::Pending => unreachable!("it is forgotten"),
    }
}

#[track_caller]
fn assert_all_free(permits: &Permits, limit: u32, kept: u64) {
    assert_eq!((permits.counts(), permits.queued()), ((0, limit), 0));
    assert_eq!(permits.load().out(), kept, "charged");
    assert!(!permits.load().has_waiting(), "a mark was left");
}

type Place<T> = Arc<std::sync::Mutex<Option<T>>>;

/// A place to put something for the time when both threads have ended.
fn place<T>() -> (Place<T>, Place<T>) {
    let place = Arc::new(std::sync::Mutex::new(None));
    (Arc::clone(&place), place)
}

fn put<T>(place: &Place<T>, value: T) {
    *place.lock().expect("nobody panics") = Some(value);
}

fn take_out<T>(place: &Place<T>) -> T {
    place.lock().expect("nobody panics").take().expect("the thread has put it there")
}

#[test]
fn what_is_kept_is_there_while_others_take_what_they_can() {
    loom::model(|| {
        let permits = one_kept_of(2);
        let (own, other) = (Arc::clone(&permits), Arc::clone(&permits));
        both(
            move || {
                let held = take(&own, FIRST).expect("it is kept");
                assert!(own.counts().0 <= 2);
                drop(held);
                drop(take(&own, FIRST).expect("it is kept"));
            },
            move || {
                let held = [take(&other, REST), take(&other, REST)];
                // None of them, if it sees a charge that is about to go away.
                assert!(held.iter().any(Option::is_none), "it is not for all");
            },
        );
        assert_all_free(&permits, 2, 1);
    });
}

#[test]
fn who_begins_to_wait_while_what_is_kept_comes_back_has_it() {
    loom::model(|| {
        let permits = one_kept_of(2);
        let other = take(&permits, REST).expect("it is free");
        let held = take(&permits, FIRST).expect("it is kept");
        let waiting = Arc::clone(&permits);
        let (theirs, ours) = place();
        both(move || drop(held), move || put(&theirs, enter(&waiting, FIRST)));
        drop(has_permit(&permits, FIRST, take_out(&ours)));
        drop(other);
        assert_all_free(&permits, 2, 1);
    });
}

#[test]
fn a_charge_too_many_comes_back_to_who_waits_for_it() {
    loom::model(|| {
        let permits = one_kept_of(2);
        let held = take(&permits, FIRST).expect("it is kept");
        let (first, other) = (Arc::clone(&permits), Arc::clone(&permits));
        let (their_permit, our_permit) = place();
        let (their_place, our_place) = place();
        both(
            move || put(&their_permit, take(&first, FIRST)),
            move || {
                drop(held);
                put(&their_place, enter(&other, REST));
            },
        );
        // It took what is kept, or it took the other one and was told that somebody waits, or it came too late.
        let taken = take_out(&our_permit);
        let served = has_permit(&permits, REST, take_out(&our_place));
        assert!(permits.counts().0 <= 2);
        drop((taken, served));
        assert_all_free(&permits, 2, 1);
    });
}

#[test]
fn what_is_kept_changes_while_permits_are_taken_and_come_back() {
    loom::model(|| {
        let permits = one_kept_of(2);
        let held = take(&permits, FIRST).expect("it is kept");
        let (using, changing) = (Arc::clone(&permits), Arc::clone(&permits));
        both(
            move || {
                drop(take(&using, FIRST));
                drop(held);
            },
            move || {
                changing.limit_to(4);
                Permits::grant(&*changing);
            },
        );
        assert_all_free(&permits, 4, 2);
    });
}
