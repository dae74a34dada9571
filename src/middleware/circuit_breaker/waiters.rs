//! The tasks that wait for a circuit to change.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::base::sync::{Mutex, lock};

/// The wakers of all tasks that wait, in the order in which they came.
///
/// Wakers are foreign code, and the last one of a task owns all that the task does: also a service
/// that waits for the same circuit. So they are cloned, dropped and woken without the lock.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// The place of one task in the queue; none before it has waited.
#[derive(Debug, Default)]
pub(super) struct Place(Option<u64>);

impl Waiters {
    /// Wakes `waker` at the next change, and not the one that was given for this place before.
    pub(super) fn wait(&self, place: &mut Place, waker: &Waker) {
        let waker = waker.clone();
        let before = {
            let mut queue = lock(&self.0);
            let number = *place.0.get_or_insert_with(|| {
                let number = queue.next;
                queue.next = number.wrapping_add(1);
                number
            });
            queue.wakers.insert(number, waker)
        };
        drop(before);
    }

    /// Forgets the task.
    pub(super) fn leave(&self, place: &Place) {
        let waker = place.0.and_then(|number| lock(&self.0).wakers.remove(&number));
        drop(waker);
    }

    /// Wakes all tasks, the first that came first.
    pub(super) fn wake_all(&self) {
        let wakers = mem::take(&mut lock(&self.0).wakers);
        for waker in wakers.into_values() {
            // One that panics must not keep the others asleep.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
