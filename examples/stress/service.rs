//! A service that does all that a service may do, and keeps a book of it.

#![allow(clippy::disallowed_methods, clippy::panic, reason = "a service that panics and takes real time")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{BoxError, Service};

/// What a panic of the service carries.
struct Planned;

/// Lets the panics that are planned pass without a word.
pub(crate) fn silence_planned_panics() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            otherwise(info);
        }
    }));
}

/// A future whose panics are an answer: `None`.
pub(crate) struct Caught<F>(pub(crate) Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(panic) if panic.is::<Planned>() => Poll::Ready(None),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What happened in all services of a subject.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) began: AtomicU64,
    /// With an answer, an error or a panic, or dropped.
    pub(crate) ended: AtomicU64,
    /// Times a service was asked whether it is ready, and failed or panicked.
    pub(crate) failed_to_be_ready: AtomicU64,
    /// Calls of a service that had not said that it is ready.
    pub(crate) unready: AtomicU64,
    /// Services behave from now on.
    pub(crate) behaves: std::sync::atomic::AtomicBool,
}

impl Book {
    pub(crate) fn in_flight(&self) -> u64 {
        let ended = self.ended.load(Ordering::SeqCst);
        self.began.load(Ordering::SeqCst) - ended
    }
}

#[derive(Debug)]
pub(crate) struct Wild {
    book: Arc<Book>,
    random: fastrand::Rng,
    is_ready: bool,
}

impl Wild {
    pub(crate) fn new(book: &Arc<Book>) -> Self {
        Self { book: Arc::clone(book), random: fastrand::Rng::new(), is_ready: false }
    }

    /// One time in `of`, as long as it need not behave.
    fn once_in(&mut self, of: u32) -> bool {
        self.random.u32(..of) == 0 && !self.book.behaves.load(Ordering::Relaxed)
    }
}

impl Clone for Wild {
    fn clone(&self) -> Self {
        Self::new(&self.book)
    }
}

/// A call is in the book from when it begins until it is dropped.
struct Entry(Arc<Book>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Service<u32> for Wild {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.once_in(10_000) {
            self.book.failed_to_be_ready.fetch_add(1, Ordering::SeqCst);
            panic_any(Planned);
        }
        if self.once_in(5_000) {
            self.book.failed_to_be_ready.fetch_add(1, Ordering::SeqCst);
            return Poll::Ready(Err("cannot connect".into()));
        }
        if !self.is_ready && self.once_in(8) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        if !std::mem::take(&mut self.is_ready) {
            self.book.unready.fetch_add(1, Ordering::SeqCst);
        }
        self.book.began.fetch_add(1, Ordering::SeqCst);
        let entry = Entry(Arc::clone(&self.book));
        if self.once_in(5_000) {
            panic_any(Planned);
        }
        let (behaves, fate) = (self.book.behaves.load(Ordering::Relaxed), self.random.u8(..));
        let wait = Duration::from_micros(self.random.u64(0..2_000));
        Box::pin(async move {
            let _entry = entry;
            match fate {
                _ if behaves => Ok(request),
                0..=127 => Ok(request),
                128..=159 => Err("broken".into()),
                160..=199 => {
                    tokio::time::sleep(wait).await;
                    Ok(request)
                }
                200..=219 => {
                    tokio::time::sleep(wait).await;
                    Err("broken, and late".into())
                }
                220..=229 => std::future::pending().await,
                230..=249 => {
                    tokio::task::yield_now().await;
                    Ok(request)
                }
                250..=253 => Err(std::io::Error::other("reset").into()),
                _ => panic_any(Planned),
            }
        })
    }
}
