//! Atomics and locks: std's, or those of a model checker when the models run.
//!
//! Two loom modes exist because loom stops exploring a thread whose first operation is an atomic load, and
//! every compare-and-swap loop begins with one. `stanchion_loom` models weak memory; `stanchion_loom_rmw`
//! turns each load into a read-modify-write, which gives up weak memory and explores every interleaving.
//! `stanchion_shuttle`, which is set with the first of them since that brings the dependencies, tries schedules at
//! random: for more threads than loom gets through, and without weak memory.

#[cfg(not(stanchion_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};

#[cfg(all(stanchion_loom, not(stanchion_shuttle)))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{Ordering, fence},
};

#[cfg(all(stanchion_loom, not(stanchion_loom_rmw), not(stanchion_shuttle)))]
pub(crate) use loom::sync::atomic::AtomicU64;

#[cfg(all(stanchion_loom, stanchion_loom_rmw))]
pub(crate) use rmw::AtomicU64;

#[cfg(all(stanchion_loom, stanchion_shuttle))]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

/// Locks `mutex` whether or not a panic once poisoned it: what our locks guard is never left half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns `true` if the bug of this name is planted: a wrong step that a model has to notice. One at a time is, by the
/// environment variable `STANCHION_PLANTED_BUG`, and only in models.
macro_rules! planted {
    ($bug:literal) => {
        cfg!(stanchion_loom) && crate::base::sync::is_planted($bug)
    };
}

pub(crate) use planted;

/// Returns `true` if the bug of this name is planted: see [`planted!`].
pub(crate) fn is_planted(bug: &str) -> bool {
    static PLANTED: OnceLock<Option<String>> = OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("STANCHION_PLANTED_BUG").ok()).as_deref() == Some(bug)
}

/// One `T` while a single thread uses it, and several once two threads have collided on it, each for a share
/// of the threads: writers stay apart, and whoever wants a sum goes over all.
#[derive(Debug)]
pub(crate) struct Striped<T> {
    first: T,
    others: OnceLock<Box<[T]>>,
}

impl<T> Striped<T> {
    pub(crate) const fn new(first: T) -> Self {
        Self { first, others: OnceLock::new() }
    }

    /// The place of the calling thread's stripe, given the thread's number.
    #[inline]
    pub(crate) fn place(&self, stripe: usize) -> usize {
        // The number of all stripes is a power of two, and the first is not among the others.
        self.others.get().map_or(0, |others| stripe & others.len())
    }

    #[inline]
    pub(crate) fn at(&self, place: usize) -> &T {
        match place.checked_sub(1) {
            None => &self.first,
            Some(other) => self.others.get().and_then(|others| others.get(other)).unwrap_or(&self.first),
        }
    }

    /// Adds the other stripes, once; there is one for each thread that can run at the same time, and as many
    /// again because threads are dealt out without looking, and no more than sixteen.
    #[cold]
    pub(crate) fn spread(&self, new: impl Fn() -> T) {
        const MOST: usize = 16;
        if self.others.get().is_none() {
            let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            // Two are enough for a model, and each one more costs it dearly.
            let threads = if cfg!(stanchion_loom) { 1 } else { threads };
            let all = threads.saturating_mul(2).next_power_of_two().min(MOST);
            let _ = self.others.set((1..all).map(|_| new()).collect());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(self.others.get().into_iter().flatten())
    }
}

/// The number of the calling thread, for [`Striped::place`].
#[inline]
pub(crate) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const UNSET: usize = usize::MAX;
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(UNSET) };
    }
    // A thread that is being torn down has no local storage any more, and shares the first stripe.
    MINE.try_with(|mine| {
        if mine.get() == UNSET {
            mine.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) & (UNSET >> 1));
        }
        mine.get()
    })
    .unwrap_or(0)
}

/// For models: runs both at the same time, each in a thread of its own, since loom explores a thread that begins
/// with a load only if it was spawned.
#[cfg(all(test, stanchion_loom))]
pub(crate) fn both(one: impl FnOnce() + 'static, other: impl FnOnce() + 'static) {
    let threads = [loom::thread::spawn(one), loom::thread::spawn(other)];
    for thread in threads {
        thread.join().expect("neither panics");
    }
}

/// For models: runs `model` under as many schedules as `STANCHION_SCHEDULES` says, or a few thousand; half of them are
/// random, and half let threads run as long as they can, but for three moments.
#[cfg(all(test, stanchion_shuttle))]
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("STANCHION_SCHEDULES").ok().and_then(|number| number.parse().ok());
    let half = schedules.unwrap_or(6_000) / 2;
    let model = std::sync::Arc::new(model);
    let again = std::sync::Arc::clone(&model);
    shuttle::check_random(move || model(), half);
    shuttle::check_pct(move || again(), half, 3);
}

/// For models: runs them all at the same time, each in a thread of its own.
#[cfg(all(test, stanchion_shuttle))]
pub(crate) fn all(threads: impl IntoIterator<Item = Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(|thread| shuttle::thread::spawn(thread)).collect();
    for thread in threads {
        thread.join().expect("none panics");
    }
}

#[cfg(all(stanchion_loom, stanchion_loom_rmw))]
mod rmw {
    use super::Ordering;

    /// Loom's atomic with every load and every store made a read-modify-write. Stores too, because loom lets a
    /// read-modify-write overtake a plain store that it is not ordered with, and undo it.
    #[derive(Debug)]
    pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, _: Ordering) -> u64 {
            self.0.fetch_add(0, Ordering::AcqRel)
        }

        pub(crate) fn store(&self, value: u64, _: Ordering) {
            self.0.swap(value, Ordering::AcqRel);
        }

        pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.0.swap(value, order)
        }

        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_add(value, order)
        }

        pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_max(value, order)
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.0.compare_exchange(current, new, success, failure)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.0.compare_exchange_weak(current, new, success, failure)
        }
    }
}
