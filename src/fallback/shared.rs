//! What all services, clones and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Reply};
use super::failure::{Failure, Why};
use super::rule::Rule;
use crate::classify::Class;
use crate::mark::Cause;
use crate::telemetry::{Action, Event, Telemetry};

pub(super) struct Shared<A, K, R> {
    pub(super) answer: Arc<A>,
    pub(super) keep: Arc<K>,
    pub(super) rule: Arc<R>,
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

impl<A, K, R> Shared<A, K, R> {
    #[inline]
    pub(super) fn next<Kept, Res, E>(
        &self,
        kept: Kept,
        result: Result<Res, E>,
        cause: Cause,
    ) -> Next<Res, E, A::Future>
    where
        A: Answer<Kept, Res, E>,
        R: Rule<Res, E>,
    {
        // An answer may come after the refusal of an attempt before it.
        let cause = if result.is_ok() { Cause::Failed } else { cause };
        let class = self.rule.decide(result.as_ref().map_err(|error| (error, Why::from(cause))));
        match (class, result) {
            (Class::Success, Ok(answer)) => {
                self.answer.good(kept, &answer);
                Next::End(Ok(answer))
            }
            (Class::Failure, result) if !self.only_refusals || cause == Cause::Refused => {
                self.fall_back(kept, Failure::new(result, cause))
            }
            (_, result) => Next::End(Failure::new(result, cause).hand_out()),
        }
    }

    #[cold]
    fn fall_back<Kept, Res, E>(&self, kept: Kept, failure: Failure<Res, E>) -> Next<Res, E, A::Future>
    where
        A: Answer<Kept, Res, E>,
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
        answer.map_or_else(|| failure.hand_out(), Ok)
    }

    fn act(&self, action: Action) {
        self.telemetry.act(action, 0, Duration::ZERO);
    }
}
