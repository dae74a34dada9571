//! The measured services, the same for every contestant.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use crate::measure::{Contestant, block_on};

/// What the failing service says. Its own type and not a `BoxError`, which would allocate.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// The service of the successful rows.
pub async fn echo<E>(req: u64) -> Result<u64, E> {
    Ok(req)
}

/// The service of the rows whose fallback is used.
pub async fn fail<E: From<Failed>>(_: u64) -> Result<u64, E> {
    Err(Failed.into())
}

/// Not ready when it is first asked, so that a timer has to be armed.
pub fn pending_once<E>(req: u64) -> impl Future<Output = Result<u64, E>> {
    let mut is_asked = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut is_asked, true) {
            return Poll::Ready(Ok(req));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Fails while the switch is on. Opens a breaker, and then proves that an open one does not let calls through:
/// they would succeed.
pub async fn fragile<E: From<Failed>>(failing: &AtomicBool, req: u64) -> Result<u64, E> {
    if failing.load(Relaxed) { Err(Failed.into()) } else { Ok(req) }
}

/// Makes a breaker around [`fragile`] and opens it with real failures.
///
/// The switch is leaked: a borrow that a `'static` future may hold, a few bytes for each refused row.
pub fn opened<C: Contestant>(make: impl FnOnce(&'static AtomicBool) -> C) -> C {
    let failing = &*Box::leak(Box::new(AtomicBool::new(true)));
    let mut contestant = make(failing);
    block_on(async {
        for req in 0..1_000 {
            contestant.call(req).await;
        }
    });
    failing.store(false, Relaxed);
    contestant
}
