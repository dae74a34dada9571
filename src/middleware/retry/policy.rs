use std::future::{Future, Ready};

use crate::classify::{Classify, Outcome};
use crate::deadline::Deadline;
use crate::protocol::{Attempt, Replay, RequestContext};

/// What a retry layer needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The moment by which the caller wants an answer. No attempt begins after it, and no wait goes past it.
    pub deadline: Option<Deadline>,
    /// Whether executing the request twice does no harm.
    pub is_idempotent: bool,
    /// Whether a layer further out tries the request again as well.
    pub is_nested: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { deadline: None, is_idempotent: true, is_nested: false }
    }
}

/// Makes the requests of the attempts at a call.
pub trait Attempts<Req> {
    /// What the service inside is called with.
    type Request;
    /// What is kept of a call from its first attempt to its last.
    type Saved;

    /// Makes the first request. None but that one is going to be needed unless `is_repeatable`.
    fn begin(&self, request: Req, is_repeatable: bool) -> (Self::Request, Self::Saved);

    /// What there is to know of the request. Asked when an attempt has failed.
    fn facts(&self, kept: &Self::Saved) -> Facts {
        let _ = kept;
        Facts::default()
    }

    /// Makes the request of attempt `number`, counted from 1; `None` if that cannot be done.
    fn replay(&self, kept: &mut Self::Saved, number: u32) -> Option<Self::Request>;

    /// Looks at a request made by [`again`](Self::replay) once more when it is sent, after all waits: less time is left
    /// by then.
    fn start(&self, kept: &Self::Saved, request: &mut Self::Request) {
        let _ = (kept, request);
    }
}

/// Decides what an attempt's end means.
///
/// [`Standard`] does so by a [protocol](crate::protocol), which is enough for most. Write a policy of your own where
/// the decision depends on what happened earlier in the same call, which it can write down in what is
/// [`Saved`](Attempts::Saved). How many attempts are made, the budget and the deadline are the layer's concern under
/// every policy.
pub trait RetryPolicy<Req, Res, E>: Attempts<Req> {
    /// A wait of the policy's own.
    type Wait: Future<Output = ()>;

    /// Returns the outcome of an attempt; it may change what is handed out. Rejections by layers of this crate further in
    /// are not put before it. Another attempt is made only if the outcome is [`retryable`](Outcome::retryable).
    fn classify(&self, kept: &mut Self::Saved, result: &mut Result<Res, E>) -> Outcome;

    /// The wait before another attempt, if it is not to be the one that is configured or that a server asked for.
    /// Asked when everything else allows the attempt. It is cut off by the deadline.
    fn wait(&self, kept: &mut Self::Saved) -> Option<Self::Wait> {
        let _ = kept;
        None
    }
}

/// The policy that goes by a [protocol](crate::protocol).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard<P>(P);

impl<P> Standard<P> {
    /// Creates the policy that goes by `protocol`.
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

/// What [`Standard`] keeps of a call.
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
