use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::{BoxedTimer, instant, instant_after, nanos};
use crate::error::{Reason, Rejected};
use crate::telemetry::{Event, Telemetry};

/// Extends a [timeout](crate::timeout) to the body of a response.
pub trait WrapBody<Res> {
    /// The response that the caller receives. It is `Res` itself if the response has no body.
    type Wrapped;

    /// Wraps the body of a response in the limits of `timer`, if there are any.
    fn wrap_body(&self, response: Res, timer: Option<BodyTimer>) -> Self::Wrapped;
}

/// The limits on the body of a response.
///
/// Call [`progress`](Self::progress) or [`poll_expired`](Self::poll_expired) each time that the
/// body has been polled.
pub struct BodyTimer {
    layer: &'static str,
    telemetry: Arc<Telemetry>,
    /// The end of the total time, the reason to report then, and the time given in nanoseconds.
    end: Option<(Instant, Reason, u64)>,
    idle: Option<Duration>,
    /// The end of the current gap between two frames; `None` while frames arrive.
    idle_until: Option<Instant>,
    timer: BoxedTimer,
}

impl BodyTimer {
    pub(crate) fn new(
        telemetry: Arc<Telemetry>,
        end: Option<(Instant, Reason, u64)>,
        idle: Option<Duration>,
    ) -> Self {
        let layer = telemetry.name();
        Self { layer, telemetry, end, idle, idle_until: None, timer: BoxedTimer::new() }
    }

    /// Records that a frame has arrived.
    ///
    /// # Errors
    ///
    /// If the total time is over.
    pub fn progress(&mut self) -> Result<(), Rejected> {
        self.idle_until = None;
        match self.end {
            // A body that always has a frame ready is never pending, so its timer is never polled.
            Some((end, reason, limit)) if instant() >= end => Err(self.expired(reason, limit)),
            _ => Ok(()),
        }
    }

    /// Records that no frame is ready, and waits until that has lasted too long or the total time
    /// is over.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Rejected> {
        if let (None, Some(idle)) = (self.idle_until, self.idle) {
            self.idle_until = Some(instant_after(instant(), idle));
        }
        let end = self.end.map(|(end, ..)| end);
        let Some(at) = self.idle_until.into_iter().chain(end).min() else { return Poll::Pending };
        ready!(self.timer.poll(cx, at));
        let (reason, limit) = match (self.end, self.idle) {
            (Some((end, reason, limit)), _) if end == at => (reason, limit),
            (_, Some(idle)) => (Reason::IdleTimeout, nanos(idle)),
            (_, None) => return Poll::Pending,
        };
        Poll::Ready(self.expired(reason, limit))
    }

    fn expired(&self, reason: Reason, limit: u64) -> Rejected {
        let rejected = Rejected::timeout(reason, self.layer, limit, true);
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}

impl fmt::Debug for BodyTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimer")
            .field("layer", &self.layer)
            .field("end", &self.end)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}
