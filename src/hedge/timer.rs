use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::time::Sleep;

use crate::clock::{Clock, Timestamp};

/// Waits for one moment after another. It is armed when it is first asked, and allocates nothing.
#[pin_project]
#[derive(Debug, Default)]
pub(super) struct Timer {
    #[pin]
    sleep: Option<Sleep>,
    at: Option<Timestamp>,
}

impl Timer {
    /// Ready at `at`, and up to a millisecond later.
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, clock: &Clock, at: Timestamp) -> Poll<()> {
        let mut this = self.project();
        if *this.at != Some(at) {
            this.sleep.set(Some(clock.sleep_until(at)));
            *this.at = Some(at);
        }
        this.sleep.as_pin_mut().map_or(Poll::Ready(()), |sleep| sleep.poll(cx))
    }
}
