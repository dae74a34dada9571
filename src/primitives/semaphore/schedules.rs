//! Permits under shuttle: schedules of several threads, tried at random. A wake-up that is lost is a deadlock.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use shuttle::future::block_on;
use shuttle::thread::yield_now;

use super::owner::{ASK, permits as new_permits, set_now, set_shares};
use super::{Ask, Permits, QueueDiscipline, Share, Shed};
use crate::base::clock::Timestamp;
use crate::base::sync::{all, explore};

type Thread = Box<dyn FnOnce() + Send>;

/// Permits, and how many are at work with one.
#[derive(Clone)]
struct Place {
    permits: Arc<Permits>,
    at_work: Arc<AtomicUsize>,
    most: usize,
}

impl Place {
    /// `limit` is never more than `most`.
    fn new(limit: u32, most: usize, max_queued: usize) -> Self {
        Self { permits: new_permits(limit, max_queued), at_work: Arc::default(), most }
    }

    /// A thread that works, so many times.
    fn worker(&self, ask: Ask, times: usize) -> Thread {
        let place = self.clone();
        Box::new(move || {
            for _ in 0..times {
                assert_eq!(place.work(ask), Some(Ok(())), "there is a place for everybody");
            }
        })
    }

    /// Four threads that work once, and another.
    fn workers_and(&self, other: impl FnOnce() + Send + 'static) -> [Thread; 5] {
        let [a, b, c, d] = [of(0, 1), of(0, 2), of(50, 1), of(100, 1)].map(|ask| self.worker(ask, 1));
        [a, b, c, d, Box::new(other)]
    }

    /// None: there was no place.
    fn work(&self, ask: Ask) -> Option<Result<(), Shed>> {
        let permit = match self.permits.try_acquire_for(ask.class) {
            Some(permit) => permit,
            None => match block_on(self.permits.acquire_for(ask)?) {
                Ok(permit) => permit,
                Err(why) => return Some(Err(why)),
            },
        };
        assert!(self.at_work.fetch_add(1, Ordering::Relaxed) < self.most, "too many at a time");
        yield_now();
        self.at_work.fetch_sub(1, Ordering::Relaxed);
        drop(permit);
        Some(Ok(()))
    }

    /// One that asks once, and leaves whether it has a permit or not.
    fn passer_by(&self, ask: Ask) -> Thread {
        let permits = Arc::clone(&self.permits);
        Box::new(move || {
            let Some(acquire) = permits.acquire_for(ask) else { return };
            let mut acquire = pin!(acquire);
            let _ = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            yield_now();
        })
    }

    fn assert_at_rest(&self) {
        assert_eq!((self.permits.counts().0, self.permits.queued()), (0, 0));
        assert!(self.permits.has_room(), "a mark was left");
    }
}

const fn of(class: u8, tenant: u64) -> Ask {
    Ask { class, tenant, ..ASK }
}

fn halves(class: u8) -> Share {
    if class == 0 { Share::parts(1 << 15) } else { Share::WHOLE }
}

#[test]
fn everybody_has_a_permit_in_the_end() {
    for limit in [1, 2] {
        explore(move || {
            let place = Place::new(limit, limit as usize, 9);
            set_shares(halves);
            let asks = [of(0, 1), of(0, 2), of(50, 1), of(50, 1), of(100, 1)];
            all(asks.map(|ask| place.worker(ask, 2)));
            place.assert_at_rest();
        });
    }
}

#[test]
fn one_who_sleeps_over_its_turn_keeps_nobody_waiting_and_has_a_permit_in_the_end() {
    explore(|| {
        let place = Place::new(1, 1, 9);
        let (sleeper, clock) = (place.clone(), || {
            for now in 1..9 {
                set_now(now * 50_000_000);
                yield_now();
            }
        });
        let sleeps = move || {
            let mut acquire = Box::pin(sleeper.permits.acquire_for(of(50, 1)).expect("there is a place"));
            let _ = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|permit| drop(permit));
            yield_now();
        };
        let [one, other] = [of(50, 2), of(0, 1)].map(|ask| place.worker(ask, 2));
        all([one, other, Box::new(clock) as Thread, Box::new(sleeps)]);
        place.assert_at_rest();
    });
}

#[test]
fn who_leaves_takes_nothing_along() {
    explore(|| {
        let place = Place::new(1, 1, 9);
        let ask = of(50, 1);
        all([
            place.worker(ask, 2),
            place.worker(of(50, 2), 1),
            place.worker(of(0, 1), 1),
            place.passer_by(ask),
            place.passer_by(of(100, 1)),
        ]);
        place.assert_at_rest();
    });
}

#[test]
fn a_limit_that_changes_forgets_nobody() {
    explore(|| {
        let place = Place::new(2, 3, 9);
        set_shares(halves);
        let permits = Arc::clone(&place.permits);
        let resizer = move || {
            for limit in [0, 3, 1] {
                permits.limit_to(limit);
                Permits::grant(&*permits);
                yield_now();
            }
        };
        all(place.workers_and(resizer));
        place.assert_at_rest();
        assert_eq!(place.permits.counts().1, 1);
    });
}

#[test]
fn a_share_that_changes_forgets_nobody() {
    explore(|| {
        let place = Place::new(2, 2, 9);
        set_shares(|_| Share::parts(0));
        let permits = Arc::clone(&place.permits);
        let opener = move || {
            set_shares(halves);
            Permits::grant(&*permits);
            yield_now();
            set_shares(|_| Share::WHOLE);
            Permits::grant(&*permits);
        };
        all(place.workers_and(opener));
        place.assert_at_rest();
    });
}

/// Somebody who takes whatever comes.
fn anybody(place: &Place, ask: Ask, allowed: &'static [Shed]) -> Thread {
    let place = place.clone();
    Box::new(move || {
        if let Some(Err(why)) = place.work(ask) {
            assert!(allowed.contains(&why), "{ask:?} was {why:?}");
        }
    })
}

#[test]
fn who_is_displaced_or_late_is_told_and_takes_nothing_along() {
    explore(|| {
        let place = Place::new(1, 1, 2);
        let hurried = Ask { deadline: Timestamp(5), ..of(50, 1) };
        all([
            anybody(&place, of(0, 1), &[Shed::Displaced]),
            anybody(&place, hurried, &[Shed::Displaced, Shed::Late]),
            anybody(&place, Ask { tenant: 2, ..hurried }, &[Shed::Displaced, Shed::Late]),
            anybody(&place, of(100, 1), &[]),
            place.passer_by(hurried),
            Box::new(|| set_now(9)),
        ]);
        place.assert_at_rest();
    });
}

#[test]
fn who_has_waited_for_too_long_is_told_and_takes_nothing_along() {
    let time = std::time::Duration::from_nanos;
    for discipline in [
        QueueDiscipline::AdaptiveLifo { target: time(1), interval: time(2) },
        QueueDiscipline::ControlledDelay { target: time(1), interval: time(2) },
    ] {
        explore(move || {
            let place = Place::new(1, 1, 9);
            place.permits.queue_by(9, discipline);
            const OVERDUE: &[Shed] = &[Shed::Overdue(1), Shed::Overdue(2)];
            let clock = || {
                for now in [1, 4, 5, 9] {
                    set_now(now);
                    yield_now();
                }
            };
            let waiting = (0..5).map(|_| anybody(&place, ASK, OVERDUE));
            all(waiting.chain([Box::new(clock) as Thread]));
            place.assert_at_rest();
        });
    }
}
