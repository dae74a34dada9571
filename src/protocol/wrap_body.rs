use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::{BoxedTimer, instant, instant_after, nanos};
use crate::error::{Reason, Rejected};
use crate::telemetry::{Event, Telemetry};

/// Lets a [timeout](crate::timeout) reach into what follows the head of an answer.
pub trait WrapBody<Res> {
    /// What the caller receives instead of `Res`; the same, if nothing follows.
    type Wrapped;

    /// Puts an answer under watch, if there is one to be kept.
    fn wrap_body(&self, answer: Res, timer: Option<BodyTimer>) -> Self::Wrapped;
}

/// The limits on what follows the head of an answer, such as its body.
///
/// Ask it whenever what follows has been polled.
pub struct BodyTimer {
    policy: &'static str,
    telemetry: Arc<Telemetry>,
    /// The end of the whole, why that is one, and the nanoseconds that were given.
    end: Option<(Instant, Reason, u64)>,
    idle: Option<Duration>,
    /// When nothing may be idle for any longer; unknown while something comes.
    idle_until: Option<Instant>,
    timer: BoxedTimer,
}

impl BodyTimer {
    pub(crate) fn new(
        telemetry: Arc<Telemetry>,
        end: Option<(Instant, Reason, u64)>,
        idle: Option<Duration>,
    ) -> Self {
        let policy = telemetry.name();
        Self { policy, telemetry, end, idle, idle_until: None, timer: BoxedTimer::new() }
    }

    /// Something has come; the refusal if it came too late.
    ///
    /// # Errors
    ///
    /// If the end has passed.
    pub fn progress(&mut self) -> Result<(), Rejected> {
        self.idle_until = None;
        match self.end {
            // What is always there never waits, and so would not be seen by a timer.
            Some((end, reason, limit)) if instant() >= end => Err(self.expired(reason, limit)),
            _ => Ok(()),
        }
    }

    /// Nothing has come; ready when that has been so for too long.
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
        let rejected = Rejected::timeout(reason, self.policy, limit, true);
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}

impl fmt::Debug for BodyTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimer")
            .field("policy", &self.policy)
            .field("end", &self.end)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}
