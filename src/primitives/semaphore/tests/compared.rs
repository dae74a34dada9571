//! The whole queue against the lists of a naive one.

use std::time::Duration;

use proptest::prelude::*;
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};

use super::naive::{Fate, Naive};
use crate::base::clock::Timestamp;
use crate::primitives::semaphore::owner::{ASK, permits, set_needed, set_now, set_shares};
use crate::primitives::semaphore::word::Share;
use crate::primitives::semaphore::{Acquire, Ask, Permit, Permits, QueueDiscipline, Shed};

/// For classes 0, 1 and 2: so many of 65,536 parts.
const SHARES: [[u64; 3]; 3] = [[65_536; 3], [20_000, 40_000, 65_536], [1, 32_768, 50_000]];

fn share<const WHICH: usize>(class: u8) -> Share {
    Share::parts(SHARES[WHICH][usize::from(class)] as u32)
}

fn set_shares_to(which: usize) {
    set_shares([share::<0>, share::<1>, share::<2>][which]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Takes a permit if nobody waits.
    Try {
        class: u8,
    },
    /// Takes one or waits, perhaps without having been polled.
    Enter {
        class: u8,
        tenant: u64,
        left: Option<u64>,
        is_polled: bool,
    },
    /// One who was told takes note of it.
    Take(usize),
    Return(usize),
    Leave(usize),
    Resize(u32),
    Reconfigure(usize, QueueDiscipline),
    Shares(usize),
    Needed(u64),
    /// Time goes by, or a clock is behind.
    Pass(u64),
    Back(u64),
}

fn discipline() -> impl Strategy<Value = QueueDiscipline> {
    let times =
        || (0..6_u64, 0..25_u64).prop_map(|(a, b)| (Duration::from_nanos(a), Duration::from_nanos(b)));
    prop_oneof![
        Just(QueueDiscipline::OldestFirst),
        times().prop_map(|(target, interval)| QueueDiscipline::AdaptiveLifo { target, interval }),
        times().prop_map(|(target, interval)| QueueDiscipline::ControlledDelay { target, interval }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let enter = (0..3_u8, 0..4_u64, prop::option::weighted(0.3, 0..40_u64), prop::bool::weighted(0.8));
    prop_oneof![
        2 => (0..3_u8).prop_map(|class| Step::Try { class }),
        12 => enter.prop_map(|(class, tenant, left, is_polled)| Step::Enter { class, tenant, left, is_polled }),
        5 => any::<usize>().prop_map(Step::Take),
        6 => any::<usize>().prop_map(Step::Return),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => (0..6_u32).prop_map(Step::Resize),
        1 => ((0..9_usize), discipline()).prop_map(|(max, discipline)| Step::Reconfigure(max, discipline)),
        1 => (0..SHARES.len()).prop_map(Step::Shares),
        1 => (0..12_u64).prop_map(Step::Needed),
        6 => (0..8_u64).prop_map(Step::Pass),
        1 => (30..90_u64).prop_map(Step::Pass),
        1 => (0..4_u64).prop_map(Step::Back),
    ]
}

/// Somebody who waits, or was told and has taken no note of it.
struct Pending {
    id: usize,
    acquire: Spawn<Acquire<Permits>>,
    is_polled: bool,
}

struct Compared {
    permits: std::sync::Arc<Permits>,
    naive: Naive,
    held: Vec<Permit<Permits>>,
    pending: Vec<Pending>,
}

impl Compared {
    fn new(limit: u32, max: usize, discipline: QueueDiscipline) -> Self {
        let permits = permits(limit, max);
        permits.queue_by(max, discipline);
        let naive = Naive::new(limit, max, discipline);
        Self { permits, naive, held: Vec::new(), pending: Vec::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Try { class } => {
                let permit = self.permits.try_acquire_for(class);
                let expected = self.naive.waiting.is_empty() && self.naive.is_there_room(class);
                assert_eq!(permit.is_some(), expected);
                self.naive.out += u64::from(expected);
                self.held.extend(permit);
            }
            Step::Enter { class, tenant, left, is_polled } => self.enter(class, tenant, left, is_polled),
            Step::Take(which) => self.take(which),
            Step::Return(which) if !self.held.is_empty() => {
                self.naive.out -= 1;
                self.naive.grant();
                drop(self.held.swap_remove(which % self.held.len()));
            }
            Step::Leave(which) if !self.pending.is_empty() => {
                let Pending { id, acquire, .. } = self.pending.remove(which % self.pending.len());
                match self.naive.fates[id] {
                    Fate::Waits => self.naive.settle(id, Fate::Shed(Shed::Late)),
                    Fate::Served => {
                        self.naive.out -= 1;
                        self.naive.grant();
                    }
                    Fate::Shed(_) => {}
                }
                drop(acquire);
            }
            Step::Return(_) | Step::Leave(_) => {}
            Step::Resize(limit) => {
                self.naive.limit = u64::from(limit);
                self.permits.limit_to(limit);
                self.grant();
            }
            Step::Reconfigure(max, discipline) => {
                (self.naive.max, self.naive.discipline) = (max, discipline);
                self.permits.queue_by(max, discipline);
                self.grant();
            }
            Step::Shares(which) => {
                self.naive.shares = SHARES[which];
                set_shares_to(which);
                self.grant();
            }
            Step::Needed(needed) => {
                self.naive.needed = needed;
                set_needed(needed);
            }
            Step::Pass(time) => self.clock_says(self.naive.now + time),
            Step::Back(time) => self.clock_says(self.naive.now.saturating_sub(time)),
        }
    }

    fn clock_says(&mut self, now: u64) {
        self.naive.now = now;
        set_now(now);
    }

    fn grant(&mut self) {
        self.naive.grant();
        Permits::grant(&*self.permits);
    }

    fn enter(&mut self, class: u8, tenant: u64, left: Option<u64>, is_polled: bool) {
        let deadline = left.map(|left| self.naive.now + left);
        let ask = Ask { class, tenant, deadline: deadline.map_or(Timestamp::NEVER, Timestamp), ..ASK };
        let acquire = self.permits.acquire_for(ask).map(task::spawn);
        let id = self.naive.fates.len();
        let fate = self.naive.enter(class, tenant, deadline);
        assert_eq!(acquire.is_some(), fate.is_some(), "whether there is a place for {ask:?}");
        let (Some(mut acquire), Some(fate)) = (acquire, fate) else { return };
        if fate == Fate::Served {
            self.held.push(assert_ready!(acquire.poll()).unwrap());
            return;
        }
        if is_polled {
            assert_pending!(acquire.poll());
        }
        self.pending.push(Pending { id, acquire, is_polled });
    }

    fn take(&mut self, which: usize) {
        if self.pending.is_empty() {
            return;
        }
        let which = which % self.pending.len();
        let pending = &mut self.pending[which];
        let fate = self.naive.fates[pending.id];
        pending.is_polled = true;
        if fate == Fate::Waits {
            assert_pending!(pending.acquire.poll());
            return;
        }
        let told = assert_ready!(pending.acquire.poll());
        assert_eq!(told.as_ref().map_or_else(|why| Fate::Shed(*why), |_| Fate::Served), fate);
        self.held.extend(told);
        self.pending.remove(which);
    }

    fn compare(&self) {
        let Naive { out, limit, waiting, .. } = &self.naive;
        assert_eq!(self.permits.counts(), (*out as u32, *limit as u32));
        assert_eq!(self.permits.queued(), waiting.len());
        assert_eq!(self.permits.has_room(), waiting.is_empty() && out < limit);
        for Pending { id, acquire, is_polled } in &self.pending {
            let fate = self.naive.fates[*id];
            assert_eq!(acquire.is_woken(), *is_polled && fate != Fate::Waits, "number {id}: {fate:?}");
        }
    }

    /// All have what they should have in the end: nobody is lost, and nothing is left.
    fn end(mut self) {
        self.step(Step::Shares(0));
        self.step(Step::Resize(1));
        while !(self.pending.is_empty() && self.held.is_empty()) {
            while let Some(told) = self.pending.iter().position(|it| self.naive.fates[it.id] != Fate::Waits) {
                self.take(told);
            }
            self.step(Step::Return(0));
            self.compare();
        }
        assert_eq!((self.permits.counts(), self.permits.queued()), ((0, 1), 0));
        assert!(self.permits.has_room());
    }
}

proptest! {
    #[test]
    fn the_queue_is_that_of_lists(
        limit in 0..4_u32,
        max in 0..9_usize,
        discipline in discipline(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut compared = Compared::new(limit, max, discipline);
        for step in steps {
            compared.step(step);
            compared.compare();
        }
        compared.end();
    }
}
