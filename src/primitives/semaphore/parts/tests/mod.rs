//! Parts of a limit by example, and against lists kept by hand.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail"
)]

use std::cmp::Reverse;
mod starved;

use std::sync::Arc;

use proptest::prelude::*;
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};

use super::slot::{Fraction, Part, Slot};
use crate::primitives::semaphore::owner::{ASK, permits, set_shares};
use crate::primitives::semaphore::word::Share;
use crate::primitives::semaphore::{Acquire, Ask, Owner, Permit, Permits};

/// So many thousandths of a limit.
fn thousandths(kept: &[u32]) -> Box<[Fraction]> {
    kept.iter().map(|kept| Fraction::new(f64::from(*kept) / 1000.0)).collect()
}

fn parted(limit: u32, max_queued: usize, kept: &[u32]) -> Arc<Permits> {
    let permits = Arc::into_inner(permits(limit, max_queued)).unwrap();
    Arc::new(permits.parted(thousandths(kept)))
}

/// A permit of a part, which it leaves before it comes back.
struct Held(Arc<Permits>, usize, #[allow(dead_code, reason = "it is dropped")] Permit<Permits>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave(Part::at(self.1));
    }
}

fn take_of_class(permits: &Arc<Permits>, part: usize, class: u8) -> Option<Held> {
    let permit = Permit::try_acquire_of(permits, Part::at(part), permits.share(class))?;
    Some(Held(Arc::clone(permits), part, permit))
}

fn take(permits: &Arc<Permits>, part: usize) -> Option<Held> {
    take_of_class(permits, part, ASK.class)
}

/// The permit of one who is served.
#[track_caller]
fn served(permits: &Arc<Permits>, part: usize, waiter: &mut Spawn<Acquire<Permits>>) -> Held {
    Held(Arc::clone(permits), part, assert_ready!(waiter.poll()).unwrap())
}

fn waiter(permits: &Arc<Permits>, part: usize) -> Spawn<Acquire<Permits>> {
    let mut waiter = task::spawn(permits.acquire_for(Ask { part: Part::at(part), ..ASK }).unwrap());
    assert_pending!(waiter.poll());
    waiter
}

/// How many of a part there are, until there is no room for another.
fn all(permits: &Arc<Permits>, part: usize) -> Vec<Held> {
    std::iter::from_fn(|| take(permits, part)).collect()
}

#[test]
fn a_fraction_of_a_limit_is_rounded_up_and_only_if_it_is_no_whole_number() {
    for (share, limit, expected) in [
        (0.3, 10, 3),
        (0.7, 10, 7),
        (0.3, 20, 6),
        (0.7, 20, 14),
        (0.1 + 0.2, 10, 3),
        (0.1, 1_000_000, 100_000),
        (0.25, 9, 3),
        (1.0, Permits::MAX, Permits::MAX),
        (f64::MIN_POSITIVE, 1, 1),
        (f64::MIN_POSITIVE, Permits::MAX, 1),
        (0.5, 0, 0),
        (0.0, Permits::MAX, 0),
        (-1.0, 10, 0),
        (f64::INFINITY, 10, 10),
        (f64::NAN, 10, 0),
    ] {
        assert_eq!(Fraction::new(share).of(limit), expected, "{share} of {limit}");
    }
}

#[test]
fn what_is_kept_is_there_whatever_others_have_and_the_rest_is_for_whoever_comes() {
    let permits = parted(10, 0, &[300, 200]);
    let others = all(&permits, 2);
    assert_eq!(others.len(), 5, "of no part");
    assert!(!permits.has_room() && permits.has_room_in_parts(), "for some");
    let (first, second) = (all(&permits, 0), all(&permits, 1));
    assert_eq!((first.len(), second.len()), (3, 2));
    assert_eq!((permits.counts(), permits.has_room_in_parts()), ((10, 10), false));
    drop(others);
    assert_eq!(all(&permits, 0).len(), 5);
    drop(second);
    assert_eq!(all(&permits, 0).len(), 5, "two are kept for the second");
    drop(first);
    assert_eq!(all(&permits, 1).len(), 7, "three are kept for the first");
}

#[test]
fn parts_that_are_too_small_for_the_limit_go_to_the_first_ones() {
    let permits = parted(2, 0, &[300, 300, 300]);
    assert_eq!([0, 1, 2].map(|part| permits.counts_of(Part::at(part))), [(0, 1), (0, 0), (0, 0)]);
    assert_eq!([2, 3, 0, 0, 1, 1].map(|part| all(&permits, part).len()), [1, 1, 2, 2, 1, 1]);
    permits.limit_to(0);
    assert_eq!([0, 1, 2].map(|part| all(&permits, part).len()), [0, 0, 0]);
}

#[test]
fn those_of_a_part_are_served_while_those_of_another_have_to_wait() {
    let permits = parted(3, 4, &[333, 0]);
    let mut borrowed = all(&permits, 1);
    assert_eq!(borrowed.len(), 2);
    let (other, own) = (waiter(&permits, 1), take(&permits, 0));
    assert!(own.is_none(), "not past one who waits, without a look at the queue");
    let mut own = task::spawn(permits.acquire_for(Ask { part: Part::at(0), ..ASK }).unwrap());
    let own = served(&permits, 0, &mut own);
    let next = waiter(&permits, 0);
    drop(own);
    assert!(next.is_woken() && !other.is_woken(), "it is kept");
    drop(borrowed.pop());
    assert!(other.is_woken());
}

#[test]
fn nobody_overtakes_one_who_is_about_to_be_served_but_those_of_a_higher_class() {
    for kept in [0, 1000] {
        let permits = parted(2, 4, &[kept]);
        let held = all(&permits, 0);
        let first = waiter(&permits, 0);
        permits.limit_to(4);
        let second = waiter(&permits, 0);
        let ask = Ask { part: Part::at(0), class: 100, ..ASK };
        let _higher = served(&permits, 0, &mut task::spawn(permits.acquire_for(ask).unwrap()));
        Permits::grant(&*permits);
        assert!(first.is_woken() && !second.is_woken());
        drop(held);
        assert!(second.is_woken());
    }
}

#[test]
fn one_who_may_not_wait_leaves_no_mark() {
    let permits = parted(1, 0, &[500]);
    let held = take(&permits, 0).unwrap();
    assert!(permits.acquire_for(Ask { part: Part::at(0), ..ASK }).is_none());
    drop(held);
    assert!(take(&permits, 0).is_some());
}

#[test]
fn a_lowered_limit_leaves_what_is_kept_to_its_part_as_soon_as_there_is_any_room() {
    let permits = parted(10, 0, &[300]);
    let mut others = all(&permits, 1);
    permits.limit_to(7);
    assert_eq!((others.len(), permits.counts_of(Part::at(0))), (7, (0, 3)));
    assert!(take(&permits, 0).is_none(), "no more than the limit");
    drop(others.pop());
    assert!(take(&permits, 1).is_none(), "it is not for all");
    let own = take(&permits, 0);
    assert!(own.is_some() && take(&permits, 0).is_none());
}

#[test]
fn a_limit_of_any_size_and_shares_of_any_size_work() {
    let permits = parted(u32::MAX, 1, &[1000, 1000]);
    let held = [take(&permits, 0), take(&permits, 1)];
    assert_eq!(held.map(|held| held.is_some()), [true, true]);
    for limit in [0, Permits::MAX, 1, u32::MAX] {
        for kept in [[0, 1000], [1000, 0], [500, 500], [0, 0]] {
            permits.keep(&thousandths(&kept));
            permits.limit_to(limit);
        }
    }
    assert_eq!((permits.counts(), permits.load().out()), ((0, Permits::MAX), 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Try(usize, u8),
    Acquire(usize, u8),
    Return(usize),
    Leave(usize),
    Resize(u32),
    Keep([u32; 2]),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0..3_usize, prop::sample::select(vec![0_u8, 50, 100]));
    let kept = prop::sample::select(vec![[0, 0], [200, 500], [100, 900], [500, 500], [400, 1]]);
    let step = prop_oneof![
        4 => who().prop_map(|(part, class)| Step::Try(part, class)),
        6 => who().prop_map(|(part, class)| Step::Acquire(part, class)),
        6 => any::<usize>().prop_map(Step::Return),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => (0..9_u32).prop_map(Step::Resize),
        1 => kept.prop_map(Step::Keep),
    ];
    prop::collection::vec(step, 1..120)
}

fn share(class: u8) -> Share {
    match class {
        0 => Share::parts(1 << 15),
        50 => Share::parts(3 << 14),
        _ => Share::WHOLE,
    }
}

struct Waiting {
    part: usize,
    class: u8,
    acquire: Spawn<Acquire<Permits>>,
    is_served: bool,
}

/// What there should be, by lists.
struct Naive {
    limit: u64,
    kept: [u32; 2],
    /// The permits in hand, and the part of each.
    out: Vec<Held>,
    /// Those who wait, or have a permit and do not know yet, in the order in which they came.
    line: Vec<Waiting>,
    /// The lanes, the one whose turn comes first before others.
    lanes: Vec<(u8, usize)>,
}

impl Naive {
    fn busy(&self, part: usize) -> u64 {
        let out = self.out.iter().filter(|held| held.1 == part).count();
        (out + self.line.iter().filter(|waiting| waiting.is_served && waiting.part == part).count()) as u64
    }

    fn in_flight(&self) -> u64 {
        [0, 1, 2].map(|part| self.busy(part)).iter().sum()
    }

    fn kept(&self, part: usize) -> u64 {
        let rounded = |kept: u32| (self.limit * u64::from(kept)).div_ceil(1000);
        let [one, other] = self.kept.map(rounded);
        let is_starved = other > 0 && one >= self.limit;
        let is_exhausted = one + other >= self.limit && self.kept.iter().sum::<u32>() < 1000;
        let left = self.limit.saturating_sub(u64::from(is_starved || is_exhausted));
        let first = one.min(left);
        [first, other.min(left - first), 0][part]
    }

    /// Kept, and not in use.
    fn idle(&self) -> u64 {
        [0, 1].map(|part| self.kept(part).saturating_sub(self.busy(part))).iter().sum()
    }

    fn has_room(&self, part: usize, class: u8) -> bool {
        let share = share(class);
        let is_kept = self.busy(part) < share.of(self.kept(part)) && self.in_flight() < self.limit;
        // Those that are charged beyond what is kept, of those that are kept for nobody.
        let charged = self.in_flight() + self.idle();
        let beyond = charged - self.all_kept();
        is_kept || charged < self.limit && beyond < share.of(self.limit - self.all_kept())
    }

    fn all_kept(&self) -> u64 {
        self.kept(0) + self.kept(1)
    }

    fn can_serve(&self, part: usize, class: u8) -> bool {
        let share = share(class);
        share.of(self.kept(part)) > 0 || share.of(self.limit - self.all_kept()) > 0
    }

    fn queued(&self) -> usize {
        self.line.iter().filter(|waiting| !waiting.is_served).count()
    }

    fn serve(&mut self) {
        loop {
            let waits = |lane: &(u8, usize)| {
                self.line.iter().any(|waiting| !waiting.is_served && (waiting.class, waiting.part) == *lane)
            };
            let lanes: Vec<_> = self.lanes.iter().copied().filter(waits).collect();
            self.lanes = lanes;
            let with_room = self.lanes.iter().copied().filter(|(class, part)| self.has_room(*part, *class));
            // The first of those that are equal.
            let Some(lane) = with_room.min_by_key(|(class, _)| Reverse(*class)) else { return };
            let mut line = self.line.iter_mut();
            let next = line.find(|waiting| !waiting.is_served && (waiting.class, waiting.part) == lane);
            next.unwrap().is_served = true;
            self.lanes.retain(|other| *other != lane);
            self.lanes.push(lane);
        }
    }

    fn take(&mut self, permits: &Arc<Permits>, step: Step) {
        match step {
            Step::Try(part, class) => {
                let is_free = self.queued() == 0 && self.has_room(part, class);
                let held = take_of_class(permits, part, class);
                assert_eq!(held.is_some(), is_free);
                self.out.extend(held);
            }
            Step::Acquire(part, class) => {
                let is_free = self.has_room(part, class);
                let ask = Ask { part: Part::at(part), class, ..ASK };
                let Some(acquire) = permits.acquire_for(ask) else {
                    return assert!(!is_free && !self.can_serve(part, class));
                };
                let mut acquire = task::spawn(acquire);
                if is_free {
                    self.out.push(served(permits, part, &mut acquire));
                    return;
                }
                assert!(self.can_serve(part, class));
                assert_pending!(acquire.poll());
                self.line.push(Waiting { part, class, acquire, is_served: false });
                if !self.lanes.contains(&(class, part)) {
                    self.lanes.push((class, part));
                }
            }
            Step::Return(which) => {
                let served = self.line.iter().position(|waiting| waiting.is_served);
                if let Some(served) = served {
                    let mut served = self.line.remove(served);
                    self.out.push(self::served(permits, served.part, &mut served.acquire));
                } else if !self.out.is_empty() {
                    drop(self.out.swap_remove(which % self.out.len()));
                }
            }
            Step::Leave(which) if !self.line.is_empty() => {
                drop(self.line.remove(which % self.line.len()));
            }
            Step::Leave(_) => {}
            Step::Resize(limit) => {
                self.limit = u64::from(limit);
                permits.limit_to(limit);
                Permits::grant(&**permits);
            }
            Step::Keep(kept) => {
                self.kept = kept;
                permits.keep(&thousandths(&kept));
                permits.limit_to(self.limit as u32);
                Permits::grant(&**permits);
            }
        }
    }

    fn check(&self, permits: &Permits) {
        assert_eq!(permits.counts(), (self.in_flight() as u32, self.limit as u32));
        assert_eq!(permits.load().out(), self.in_flight() + self.idle(), "charged");
        assert_eq!(permits.queued(), self.queued());
        assert_eq!(permits.has_room_in_parts(), self.queued() == 0 && self.in_flight() < self.limit);
        for part in 0..3 {
            let counts = (self.busy(part) as u32, self.kept(part) as u32);
            assert_eq!(permits.counts_of(Part::at(part)), counts, "{part}");
        }
        for waiting in &self.line {
            assert_eq!(waiting.acquire.is_woken(), waiting.is_served);
        }
    }
}

proptest! {
    #[test]
    fn parts_are_those_of_lists(steps in steps()) {
        let permits = parted(5, 1000, &[200, 500]);
        set_shares(share);
        let (out, line, lanes) = (Vec::new(), Vec::new(), Vec::new());
        let mut naive = Naive { limit: 5, kept: [200, 500], out, line, lanes };
        for step in steps {
            naive.take(&permits, step);
            naive.serve();
            naive.check(&permits);
        }
        drop(naive);
        assert_eq!((permits.counts().0, permits.queued()), (0, 0));
    }
}

#[test]
fn a_slot_keeps_two_counts_apart() {
    let slot = Slot::new(Permits::MAX, u64::from(Permits::MAX));
    assert_eq!((slot.kept(), slot.out()), (Permits::MAX.into(), Permits::MAX.into()));
    assert!(!slot.has_idle() && Slot::new(3, 2).has_idle());
    assert_eq!((Slot::new(3, 2).charged(), Slot::new(2, 3).charged()), (3, 3));
}
