//! The state that all services, clones and calls of one layer share.

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
    pub(super) only_rejections: bool,
    pub(super) telemetry: Telemetry,
}

/// The step of a call after the service has returned.
pub(super) enum Next<Res, E, F> {
    /// The call ends.
    End(Result<Res, E>),
    /// The call waits for the fallback.
    Wait(F, Failure<Res, E>),
}

impl<A, K, P> Shared<A, K, P> {
    // Always inlined, so that the response is not copied to memory to be classified.
    #[inline(always)]
    pub(super) fn next<Saved, Res, E>(&self, saved: Saved, result: Result<Res, E>) -> Next<Res, E, A::Future>
    where
        A: Answer<Saved, Res, E>,
        P: Classify<Res, E>,
    {
        let outcome = self.protocol.classify(result.as_ref());
        if !outcome.is_good() && (!self.only_rejections || outcome.is_rejected()) {
            return self.fall_back(saved, Failure::new(result, outcome));
        }
        if let (Class::Success, true, Ok(answer)) = (outcome.class, outcome.is_good(), &result) {
            self.answer.good(saved, answer);
        }
        Next::End(result)
    }

    #[cold]
    fn fall_back<Saved, Res, E>(&self, saved: Saved, failure: Failure<Res, E>) -> Next<Res, E, A::Future>
    where
        A: Answer<Saved, Res, E>,
    {
        Next::End(match self.answer.answer(saved, failure) {
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

    /// Ends a call with the fallback's response, or with the failure if there is none.
    pub(super) fn end<Res, E>(&self, answer: Option<Res>, failure: Failure<Res, E>) -> Result<Res, E> {
        self.act(if answer.is_some() { Action::FellBack } else { Action::NoFallback });
        answer.map_or_else(|| failure.into_result(), Ok)
    }

    fn act(&self, action: Action) {
        self.telemetry.act(action, 0, Duration::ZERO);
    }
}
