//! What layers know of requests and their responses.
//!
//! Most layers take any request and any answer. Some do better if they know more: how long the caller is going to
//! wait, whether a request may be sent twice and how, what an answer asks of whoever would try again. A *protocol*
//! tells them, through five traits. `RequestContext` has defaults for every method:
//!
//! | trait | tells |
//! |---|---|
//! | [`RequestContext`] | deadline, timeouts, number of the attempt, and [`CallAttributes`]: how much the call matters, on whose behalf it is made |
//! | [`Replay`] | how to send a request again |
//! | [`Classify`](crate::classify::Classify) | the outcome of a call |
//! | [`CarryGuard`](crate::classify::CarryGuard) | how long a call goes on after the headers of its response |
//! //! | [`WrapBody`] | what follows the headers of a response, such as a body, and how to limit the time it takes |
//!
//! [`AnyRequest`] is the protocol of all requests that can be cloned, where every error is a failure, and repeating is up to
//! whoever puts the layer there. With the feature `http` there is `http::Http` for requests of the `http` crate. For requests
//! of your own write the traits on a type of your own, or take [`clone_with`] and a closure for the outcome:
//!
//! ```
//! use stanchion::classify::Outcome;
//! use stanchion::protocol::clone_with;
//! use stanchion::{RetryConfig, RetryLayer};
//!
//! struct Query { text: String, writes: bool }
//!
//! let layer = RetryLayer::new(RetryConfig::new())
//!     .protocol(clone_with(|query: &Query| {
//!         (!query.writes).then(|| Query { text: query.text.clone(), writes: false })
//!     }))
//!     .classify(|result: Result<&Vec<u8>, &std::io::Error>| match result {
//!         Ok(_) => Outcome::success(),
//!         Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Outcome::ignored(),
//!         Err(_) => Outcome::failure(),
//!     });
//! # let _ = layer;
//! ```

mod any_request;
mod attributes;
mod with;
mod wrap_body;

pub use any_request::{AnyRequest, CloneWith, clone_with};
pub use attributes::{CallAttributes, Criticality, Partition, Tenant};
pub use with::{Classified, WithAttributes};
pub use wrap_body::{BodyTimer, WrapBody};

use std::time::Duration;

use crate::deadline::Deadline;

/// Which attempt at a call a request is. Layers that send more than one put it into each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Attempt {
    /// Counted from 1 by a retry layer; 0 if there is none.
    pub number: u32,
    /// Counted from 1 by a hedge layer among the copies of this attempt; 0 is the original.
    pub hedge: u32,
}

impl Attempt {
    pub(crate) const fn numbered(number: u32) -> Self {
        Self { number, hedge: 0 }
    }
}

/// Timeouts for one request, in place of those that are configured in the layers that it passes.
///
/// ```
/// use std::time::Duration;
///
/// use stanchion::protocol::Timeouts;
///
/// let timeouts = Timeouts::new().total(Duration::from_secs(5));
/// assert_eq!((timeouts.total, timeouts.attempt), (Some(Duration::from_secs(5)), None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timeouts {
    /// The timeout of the call as a whole. Default: that of the layer.
    pub total: Option<Duration>,
    /// The timeout of each attempt. Default: that of the layer.
    pub attempt: Option<Duration>,
}

impl Timeouts {
    /// Returns timeouts that leave all to the layers.
    #[must_use]
    pub const fn new() -> Self {
        Self { total: None, attempt: None }
    }

    /// Sets the timeout of the call as a whole; a [`Duration`], or an option of one.
    #[must_use]
    pub fn total(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.total = timeout.into();
        self
    }

    /// Sets the timeout of each attempt; a [`Duration`], or an option of one.
    #[must_use]
    pub fn attempt(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.attempt = timeout.into();
        self
    }
}

/// Reads from a request what was said about it, and writes to it what layers have to say.
pub trait RequestContext<Req> {
    /// The moment by which the caller wants an answer.
    #[inline]
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        let _ = request;
        None
    }

    /// Says by when an answer is wanted.
    #[inline]
    fn set_deadline(&self, request: &mut Req, deadline: Deadline) {
        let _ = (request, deadline);
    }

    /// The timeouts that this request asks for.
    #[inline]
    fn timeouts(&self, request: &Req) -> Timeouts {
        let _ = request;
        Timeouts::default()
    }

    /// Which attempt this is.
    #[inline]
    fn attempt(&self, request: &Req) -> Option<Attempt> {
        let _ = request;
        None
    }

    /// Says which attempt this is.
    #[inline]
    fn set_attempt(&self, request: &mut Req, attempt: Attempt) {
        let _ = (request, attempt);
    }

    /// Returns how much the request matters, on whose behalf it is made, and by when an answer is wanted. Default: nothing
    /// is known but the [deadline](Self::deadline).
    #[inline]
    fn attributes(&self, request: &Req) -> CallAttributes {
        CallAttributes { deadline: self.deadline(request), ..CallAttributes::new() }
    }

    /// Returns `true` if executing the request twice does no harm. Default: `true` for every request. Override it if some of
    /// your requests write.
    #[inline]
    fn is_idempotent(&self, request: &Req) -> bool {
        let _ = request;
        true
    }
}

/// Sends a request more than once.
pub trait Replay<Req> {
    /// What the service inside is called with: `Req`, unless something must travel with it.
    type Request;
    /// What is kept of a request while it is under way.
    type Saved;

    /// Makes the first request, and keeps what it takes to make another if `is_wanted`.
    fn save(&self, request: Req, is_wanted: bool) -> (Self::Request, Option<Self::Saved>);

    /// Makes another one; `None` if that cannot be done.
    fn replay(&self, kept: &mut Self::Saved) -> Option<Self::Request>;
}
