use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::pass::{Refusal, Verdict};
use super::permit::Permit;
use super::shared::Shared;
use super::waiters::Place;
use crate::base::clock::BoxedTimer;

/// Waits for a circuit to let a call through: for its time to come, or for somebody to change it.
#[derive(Debug)]
pub(super) struct Waiting {
    shared: Arc<Shared>,
    place: Place,
    timer: BoxedTimer,
}

impl Waiting {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), place: Place::default(), timer: BoxedTimer::new() }
    }

    /// A permit for a trial call, or none if the circuit lets all calls through by now.
    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Option<Permit>> {
        // Before the circuit is asked, or a change just after the answer would wake nobody.
        self.shared.waiters.wait(&mut self.place, cx.waker());
        loop {
            let now = self.shared.now();
            if self.shared.circuit.is_passing() {
                return Poll::Ready(None);
            }
            let wait = match self.shared.reserve(&now) {
                Ok(pass) if pass.slot().is_some() => {
                    return Poll::Ready(Some(Permit::new(&self.shared, pass)));
                }
                // It has just begun to pass calls, and no call has begun.
                Ok(pass) => {
                    self.shared.circuit.settle(&pass, Verdict::Ignored, None, &now);
                    return Poll::Ready(None);
                }
                Err(Refusal::Open { wait }) => wait,
                Err(Refusal::Recovering) => return Poll::Ready(None),
            };
            let until = now.get().after(Duration::from_nanos(wait));
            if wait == Refusal::ENDLESS || self.timer.poll(cx, self.shared.clock.instant(until)).is_pending()
            {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiters.leave(&self.place);
    }
}
