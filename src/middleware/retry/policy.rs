use std::future::{Future, Ready};

use crate::classify::{Classify, Outcome};
use crate::deadline::Deadline;
use crate::protocol::{Attempt, Replay, RequestContext};

/// The facts about a request that a retry layer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The time by which the caller wants a response. No attempt starts after it, and no wait
    /// extends past it.
    pub deadline: Option<Deadline>,
    /// `true` if executing the request twice does no harm.
    pub is_idempotent: bool,
    /// `true` if an outer layer retries the request as well.
    pub is_nested: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { deadline: None, is_idempotent: true, is_nested: false }
    }
}

/// Creates the requests of a call's attempts.
pub trait Attempts<Req> {
    /// The request type of the inner service.
    type Request;
    /// The saved state of a call, from its first attempt to its last.
    type Saved;

    /// Returns the first request. If not `is_repeatable`, it will be the only one.
    fn begin(&self, request: Req, is_repeatable: bool) -> (Self::Request, Self::Saved);

    /// Returns the facts about the request. Called after an attempt has failed.
    fn facts(&self, kept: &Self::Saved) -> Facts {
        let _ = kept;
        Facts::default()
    }

    /// Returns the request of attempt `number`, counted from 1, or `None` if it cannot be created.
    fn replay(&self, kept: &mut Self::Saved, number: u32) -> Option<Self::Request>;

    /// Updates a request from [`replay`](Self::replay) when it is sent. Less time is left after the
    /// waits than when it was created.
    fn start(&self, kept: &Self::Saved, request: &mut Self::Request) {
        let _ = (kept, request);
    }
}

/// Decides what the result of an attempt means.
///
/// [`Standard`] uses a [protocol](crate::protocol), which is enough for most cases. Implement your
/// own policy if the decision depends on earlier attempts of the same call, which it can store in
/// [`Saved`](Attempts::Saved). The number of attempts, the budget and the deadline are enforced by
/// the layer under every policy.
pub trait RetryPolicy<Req, Res, E>: Attempts<Req> {
    /// The future of a wait that the policy chooses.
    type Wait: Future<Output = ()>;

    /// Returns the outcome of an attempt, and may change the result that is returned. Not called
    /// for rejections by inner layers. The call is retried only if the outcome is
    /// [`retryable`](Outcome::retryable).
    fn classify(&self, kept: &mut Self::Saved, result: &mut Result<Res, E>) -> Outcome;

    /// Returns a wait that replaces the configured one or the server's. Called once everything else
    /// allows the attempt. The deadline cuts the wait off.
    fn wait(&self, kept: &mut Self::Saved) -> Option<Self::Wait> {
        let _ = kept;
        None
    }
}

/// The default policy, which uses a [protocol](crate::protocol).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard<P>(P);

impl<P> Standard<P> {
    /// Creates a policy that uses `protocol`.
    pub const fn new(protocol: P) -> Self {
        Self(protocol)
    }

    pub(super) const fn protocol(&self) -> &P {
        &self.0
    }

    pub(super) fn into_protocol(self) -> P {
        self.0
    }
}

/// The saved state of a call under the [`Standard`] policy.
#[derive(Debug)]
pub struct Saved<K> {
    request: Option<K>,
    facts: Facts,
}

impl<P, Req> Attempts<Req> for Standard<P>
where
    P: RequestContext<Req> + Replay<Req> + RequestContext<<P as Replay<Req>>::Request>,
{
    type Request = <P as Replay<Req>>::Request;
    type Saved = Saved<<P as Replay<Req>>::Saved>;

    #[inline]
    fn begin(&self, request: Req, is_repeatable: bool) -> (Self::Request, Self::Saved) {
        let facts = Facts {
            deadline: self.0.deadline(&request),
            is_idempotent: self.0.is_idempotent(&request),
            is_nested: self.0.attempt(&request).is_some_and(|attempt| attempt.number > 0),
        };
        let (mut request, kept) = self.0.save(request, is_repeatable);
        self.0.set_attempt(&mut request, Attempt::numbered(1));
        if let Some(deadline) = facts.deadline {
            self.0.set_deadline(&mut request, deadline);
        }
        (request, Saved { request: kept, facts })
    }

    fn facts(&self, kept: &Self::Saved) -> Facts {
        kept.facts
    }

    fn replay(&self, kept: &mut Self::Saved, number: u32) -> Option<Self::Request> {
        let mut request = self.0.replay(kept.request.as_mut()?)?;
        self.0.set_attempt(&mut request, Attempt::numbered(number));
        Some(request)
    }

    fn start(&self, kept: &Self::Saved, request: &mut Self::Request) {
        if let Some(deadline) = kept.facts.deadline {
            self.0.set_deadline(request, deadline);
        }
    }
}

impl<P, Req, Res, E> RetryPolicy<Req, Res, E> for Standard<P>
where
    Self: Attempts<Req>,
    P: Classify<Res, E>,
{
    type Wait = Ready<()>;

    #[inline]
    fn classify(&self, _: &mut Self::Saved, result: &mut Result<Res, E>) -> Outcome {
        let result: &Result<Res, E> = result;
        self.0.classify(result.as_ref())
    }
}
