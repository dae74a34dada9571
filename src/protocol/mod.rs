//! Protocols: what layers can read from requests and responses.
//!
//! Most layers accept any request and any response. Some of them do better with more knowledge: how
//! long the caller is willing to wait, whether and how a request may be sent twice, what a response
//! says about retries. A *protocol* provides it through five traits. Every method of
//! `RequestContext` has a default:
//!
//! | trait | provides |
//! |---|---|
//! | [`RequestContext`] | deadline, timeouts, attempt number, and [`CallAttributes`] (criticality, tenant, partition) |
//! | [`Replay`] | a way to send a request again |
//! | [`Classify`](crate::classify::Classify) | the outcome of a call |
//! | [`CarryGuard`](crate::classify::CarryGuard) | the end of a call that goes on after the headers of its response |
//! | [`WrapBody`] | timeouts on the body of a response |
//!
//! [`AnyRequest`] is the protocol of all requests that can be cloned. With it every error is a
//! failure, and whether requests may be repeated is decided where the layer is added. The feature
//! `http` adds `http::Http`, for requests of the `http` crate. For your own requests, implement the
//! traits for a type of your own, or use [`clone_with`] and a closure for the outcome:
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

/// The position of a request among the attempts of its call. Layers that send several requests for
/// one call attach it to each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt, counted from 1 by a retry layer; 0 without one.
    pub number: u32,
    /// The number of the copy within the attempt, counted from 1 by a hedge layer; 0 for the
    /// original request.
    pub hedge: u32,
}

impl Attempt {
    pub(crate) const fn numbered(number: u32) -> Self {
        Self { number, hedge: 0 }
    }
}

/// Timeouts of one request, which replace those that are configured in the layers.
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
    /// The timeout of the call as a whole. Default: the layer's.
    pub total: Option<Duration>,
    /// The timeout of each attempt. Default: the layer's.
    pub attempt: Option<Duration>,
}

impl Timeouts {
    /// Returns timeouts that keep those of the layers.
    #[must_use]
    pub const fn new() -> Self {
        Self { total: None, attempt: None }
    }

    /// Sets the timeout of the call as a whole: a [`Duration`] or an `Option<Duration>`.
    #[must_use]
    pub fn total(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.total = timeout.into();
        self
    }

    /// Sets the timeout of each attempt: a [`Duration`] or an `Option<Duration>`.
    #[must_use]
    pub fn attempt(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.attempt = timeout.into();
        self
    }
}

/// Reads the context of a call from its request, and writes to the request what layers add to it.
pub trait RequestContext<Req> {
    /// Returns the time by which the caller wants a response.
    #[inline]
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        let _ = request;
        None
    }

    /// Writes the time by which a response is wanted to the request.
    #[inline]
    fn set_deadline(&self, request: &mut Req, deadline: Deadline) {
        let _ = (request, deadline);
    }

    /// Returns the timeouts that this request asks for.
    #[inline]
    fn timeouts(&self, request: &Req) -> Timeouts {
        let _ = request;
        Timeouts::default()
    }

    /// Returns the position of this request among the attempts of its call.
    #[inline]
    fn attempt(&self, request: &Req) -> Option<Attempt> {
        let _ = request;
        None
    }

    /// Writes the position among the attempts of the call to the request.
    #[inline]
    fn set_attempt(&self, request: &mut Req, attempt: Attempt) {
        let _ = (request, attempt);
    }

    /// Returns the attributes of the call: criticality, tenant, partition and deadline. Default:
    /// only the [deadline](Self::deadline) is known.
    #[inline]
    fn attributes(&self, request: &Req) -> CallAttributes {
        CallAttributes { deadline: self.deadline(request), ..CallAttributes::new() }
    }

    /// Returns `true` if executing the request twice does no harm. Default: `true` for every
    /// request. Override it if some of your requests have side effects.
    #[inline]
    fn is_idempotent(&self, request: &Req) -> bool {
        let _ = request;
        true
    }
}

/// Sends a request more than once.
pub trait Replay<Req> {
    /// The request type of the inner service. It is `Req`, unless something must travel with the
    /// request.
    type Request;
    /// The saved form of a request while it is in flight.
    type Saved;

    /// Returns the first request, and if `is_wanted` what is needed to send it again.
    fn save(&self, request: Req, is_wanted: bool) -> (Self::Request, Option<Self::Saved>);

    /// Returns another copy of the request, or `None` if it cannot be sent again.
    fn replay(&self, saved: &mut Self::Saved) -> Option<Self::Request>;
}
