//! Classes, shares, and those who are turned away.

use std::sync::Arc;

use super::{Told, Waiter, assert_all_free, kept};
use crate::base::clock::Timestamp;
use crate::base::sync::both;
use crate::primitives::semaphore::owner::{ASK, permits as new_permits, set_now, set_shares};
use crate::primitives::semaphore::{Ask, Permit, Permits, Share, Shed};

const LOW: Ask = Ask { class: 0, ..ASK };
const HIGH: Ask = Ask { class: 100, ..ASK };

/// Half of the limit for the lowest class.
fn halves(class: u8) -> Share {
    if class == 0 { Share::parts(1 << 15) } else { Share::WHOLE }
}

/// `limit` permits, one of which is out.
fn one_is_out(limit: u32, max_queued: usize) -> (Arc<Permits>, Permit<Permits>) {
    let permits = new_permits(limit, max_queued);
    let held = permits.try_acquire().expect("it is free");
    (permits, held)
}

fn waits(permits: &Arc<Permits>, ask: Ask) -> Waiter {
    Waiter::or_permit(permits, ask).err().expect("it waits")
}

#[test]
fn a_higher_class_overtakes_while_a_permit_comes_back_and_nobody_is_forgotten() {
    loom::model(|| {
        let (permits, held) = one_is_out(2, 2);
        set_shares(halves);
        let low = waits(&permits, LOW);
        let overtaking = Arc::clone(&permits);
        let (theirs, ours) = kept();
        both(
            move || drop(held),
            move || *theirs.lock().expect("nobody panics") = Waiter::or_permit(&overtaking, HIGH).ok(),
        );
        let high = ours.lock().expect("nobody panics").take().expect("there is room for it");
        assert_eq!(permits.counts().0 + u32::try_from(permits.queued()).expect("few"), 2);
        drop(high);
        drop(low.has_permit());
        assert_all_free(&permits, 2);
    });
}

#[test]
fn one_who_is_displaced_while_a_permit_comes_back_has_it_or_is_told() {
    loom::model(|| {
        let (permits, held) = one_is_out(1, 1);
        let low = waits(&permits, LOW);
        let displacing = Arc::clone(&permits);
        let (theirs, ours) = kept();
        both(
            move || drop(held),
            move || *theirs.lock().expect("nobody panics") = Some(Waiter::or_permit(&displacing, HIGH)),
        );
        let low_is_told = || match low.told() {
            Told::Served(permit) => drop(permit),
            Told::Shed(why) => assert_eq!(why, Shed::Displaced),
        };
        match ours.lock().expect("nobody panics").take().expect("it was left") {
            Ok(permit) => {
                drop(permit);
                low_is_told();
            }
            Err(high) => {
                low_is_told();
                drop(high.has_permit());
            }
        }
        assert_all_free(&permits, 1);
    });
}

/// Somebody who would be late by now.
fn late(permits: &Arc<Permits>) -> Waiter {
    let late = waits(permits, Ask { deadline: Timestamp(1), ..LOW });
    set_now(2);
    late
}

#[test]
fn one_who_leaves_while_it_is_turned_away_gives_back_nothing() {
    loom::model(|| {
        let (permits, held) = one_is_out(1, 2);
        let late = late(&permits);
        both(move || drop(held), move || drop(late));
        assert_all_free(&permits, 1);
    });
}

#[test]
fn one_who_asks_while_it_is_turned_away_is_told_so_once() {
    loom::model(|| {
        let (permits, held) = one_is_out(1, 2);
        let mut late = late(&permits);
        let (theirs, ours) = kept();
        both(
            move || drop(held),
            move || {
                let told = late.ask();
                *theirs.lock().expect("nobody panics") = Some((late, told));
            },
        );
        let (late, told) = ours.lock().expect("nobody panics").take().expect("it was left");
        let told = if told.is_some() { told } else { Some(late.told()) };
        assert!(matches!(told, Some(Told::Shed(Shed::Late))));
        assert_all_free(&permits, 1);
    });
}

#[test]
fn one_who_begins_to_wait_while_the_last_is_turned_away_is_not_overlooked() {
    loom::model(|| {
        let (permits, held) = one_is_out(1, 3);
        let late = late(&permits);
        let waiting = Arc::clone(&permits);
        let (theirs, ours) = kept();
        both(
            move || drop(held),
            move || {
                // The second waits if the first has a permit, which is given back then.
                let (first, second) = (Waiter::or_permit(&waiting, HIGH), Waiter::or_permit(&waiting, HIGH));
                let (first, second) = (first.err(), second.err());
                *theirs.lock().expect("nobody panics") = Some((first, second));
            },
        );
        let (first, second) = ours.lock().expect("nobody panics").take().expect("both were left");
        for waiter in [first, second].into_iter().flatten() {
            drop(waiter.has_permit());
        }
        assert!(matches!(late.told(), Told::Shed(Shed::Late)));
        assert_all_free(&permits, 1);
    });
}

#[test]
fn a_limit_that_grows_serves_a_low_class_within_its_share() {
    loom::model(|| {
        let (permits, held) = one_is_out(2, 2);
        set_shares(halves);
        let low = waits(&permits, LOW);
        let (growing, overtaking) = (Arc::clone(&permits), Arc::clone(&permits));
        let (theirs, ours) = kept();
        both(
            move || {
                growing.limit_to(6);
                Permits::grant(&*growing);
            },
            move || *theirs.lock().expect("nobody panics") = Waiter::or_permit(&overtaking, HIGH).ok(),
        );
        let high = ours.lock().expect("nobody panics").take().expect("there is room for it");
        assert_eq!(permits.counts(), (3, 6));
        drop((held, high));
        drop(low.has_permit());
        assert_all_free(&permits, 6);
    });
}

#[test]
fn one_who_begins_to_wait_while_its_share_grows_is_served() {
    loom::model(|| {
        let (permits, held) = one_is_out(2, 1);
        set_shares(halves);
        let (growing, waiting) = (Arc::clone(&permits), Arc::clone(&permits));
        let (theirs, ours) = kept();
        both(
            move || {
                set_shares(|_| Share::WHOLE);
                Permits::grant(&*growing);
            },
            move || *theirs.lock().expect("nobody panics") = Waiter::or_permit(&waiting, LOW).err(),
        );
        if let Some(low) = ours.lock().expect("nobody panics").take() {
            drop(low.has_permit());
        }
        drop(held);
        assert_all_free(&permits, 2);
    });
}
