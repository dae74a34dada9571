//! What all services, clones and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Reply};
use super::failure::Failure;
use crate::classify::{Class, Classify};
use crate::telemetry::{Action, Event, Telemetry};

pub(super) struct Shared<A, K, P> {
    pub(super) answer: Arc<A>,
    pub(super) keep: Arc<K>,
    pub(super) protocol: Arc<P>,
    pub(super) only_refusals: bool,
    pub(super) telemetry: Telemetry,
}

/// How a call goes on when the service is done with it.
pub(super) enum Next<Res, E, F> {
    /// It ends.
    End(Result<Res, E>),
    /// It waits for the fallback.
    Wait(F, Failure<Res, E>),
}

impl<A, K, P> Shared<A, K, P> {
    // Always: an answer is not to be put into memory to be looked at.
    #[inline(always)]
    pub(super) fn next<Saved, Res, E>(&self, kept: Saved, result: Result<Res, E>) -> Next<Res, E, A::Future>
    where
        A: Answer<Saved, Res, E>,
        P: Classify<Res, E>,
    {
        let outcome = self.protocol.classify(result.as_ref());
        if !outcome.is_good() && (!self.only_refusals || outcome.is_rejected()) {
            return self.fall_back(kept, Failure::new(result, outcome));
        }
        if let (Class::Success, true, Ok(answer)) = (outcome.class, outcome.is_good(), &result) {
            self.answer.good(kept, answer);
        }
        Next::End(result)
    }

    #[cold]
    fn fall_back<Saved, Res, E>(&self, kept: Saved, failure: Failure<Res, E>) -> Next<Res, E, A::Future>
    where
        A: Answer<Saved, Res, E>,
    {
        Next::End(match self.answer.answer(kept, failure) {
            Reply::Answer(answer) => {
                self.act(Action::FellBack);
                Ok(answer)
            }
            Reply::Stale(answer, age) => {
                if self.telemetry.is_observed() {
                    self.telemetry.emit(&Event::Stale { age });
                }
                self.act(Action::ServedStale);
                Ok(answer)
            }
            Reply::Later(future, failure) => return Next::Wait(future, failure),
            Reply::Declined(failure) => self.end(None, failure),
        })
    }

    /// The end of a call whose fallback is done with it.
    pub(super) fn end<Res, E>(&self, answer: Option<Res>, failure: Failure<Res, E>) -> Result<Res, E> {
        self.act(if answer.is_some() { Action::FellBack } else { Action::NoFallback });
        answer.map_or_else(|| failure.into_result(), Ok)
    }

    fn act(&self, action: Action) {
        self.telemetry.act(action, 0, Duration::ZERO);
    }
}
