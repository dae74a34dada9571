use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tower_service::Service;

use super::copies::{Copies, Ended, Failure};
use super::shared::Shared;
use super::state::{Facts, Next, Plan, Race, Verdict};
use crate::base::clock::{Timer, Timestamp};
use crate::protocol::{Attempt, Replay, RequestContext};
use crate::telemetry::Action;

type CopiesOf<S, Req> =
    Copies<<S as Service<Req>>::Future, <S as Service<Req>>::Response, <S as Service<Req>>::Error>;
type FailureOf<S, Req> = Failure<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;
type EndedOf<S, Req> = Ended<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// The state of hedging one call.
#[pin_project]
pub(super) struct Hedging<Req, S, P>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    race: Race,
    protocol: P,
    facts: Facts,
    /// The saved request and the service for further copies, as long as there may be one.
    spare: Option<(P::Saved, S)>,
    #[pin]
    timer: Timer,
    /// The end of the wait for the service's readiness, while a copy waits for it.
    ready_by: Option<Timestamp>,
    /// The copies in flight. Boxed, since few calls are hedged.
    copies: Option<Box<CopiesOf<S, P::Request>>>,
}

impl<Req, S, P> Hedging<Req, S, P>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    #[inline]
    pub(super) fn new(plan: Plan, protocol: P, facts: Facts, spare: Option<(P::Saved, S)>) -> Self {
        Self {
            race: Race::new(plan),
            protocol,
            facts,
            spare,
            timer: Timer::new(),
            ready_by: None,
            copies: None,
        }
    }

    pub(super) const fn hedges(&self) -> u32 {
        self.race.hedges()
    }

    /// Schedules the first copy, because the original, which began at `start`, is not ready at
    /// once.
    #[inline]
    pub(super) fn begin(self: Pin<&mut Self>, start: impl FnOnce() -> Timestamp) {
        let this = self.project();
        if this.race.next() == Next::Unknown {
            this.race.begin(start());
        }
    }

    /// Polls the copies until one has ended.
    #[inline]
    pub(super) fn poll_copies(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<EndedOf<S, P::Request>> {
        self.project().copies.as_mut()?.poll(cx)
    }

    /// Drops the copies after attempt `number`, zero for the original, has returned a good
    /// response.
    pub(super) fn won(self: Pin<&mut Self>, number: u32, shared: &Shared) {
        let Some(copies) = self.project().copies else { return };
        let mut has_lost = number > 0;
        for loser in copies.drop_all() {
            has_lost = true;
            shared.superseded(loser.saturating_add(1));
        }
        if has_lost {
            let action = if number == 0 { Action::OriginalWon } else { Action::HedgeWon };
            shared.telemetry.act(action, number.saturating_add(1), Duration::ZERO);
        }
    }

    /// Records that an attempt has failed. Returns the result of the call, unless another attempt
    /// may still succeed.
    #[cold]
    pub(super) fn failed(
        self: Pin<&mut Self>,
        failure: FailureOf<S, P::Request>,
        shared: &Shared,
    ) -> Option<FailureOf<S, P::Request>> {
        let this = self.project();
        let (_, outcome) = &failure;
        let mut verdict = this.race.failed(*outcome, shared.clock.now());
        if verdict == Verdict::Waits && !this.race.is_in_flight() {
            // Checked before the failure is stored, so that a failure that is returned at once is
            // never boxed.
            match shared.may_send(*this.facts, this.spare.is_some()) {
                Ok(moment) => *this.ready_by = Some(moment),
                Err(action) => {
                    this.race.give_up();
                    verdict = Verdict::Lost(Some(action));
                }
            }
        }
        if this.race.next() == Next::Never {
            *this.spare = None;
        }
        let Verdict::Lost(action) = verdict else {
            let copies = this.copies.get_or_insert_with(|| Box::new(Copies::new()));
            copies.keep(failure);
            if this.race.is_in_flight() {
                copies.drop_response();
            }
            return None;
        };
        if let Some(action) = action {
            shared.telemetry.act(action, this.race.hedges().saturating_add(1), Duration::ZERO);
        }
        match this.copies {
            Some(copies) => {
                copies.keep(failure);
                copies.take_failure()
            }
            None => Some(failure),
        }
    }

    /// Waits until a copy is due, and sends it. Pending for ever if there are no more copies.
    /// Returns the failure of the call if the copy cannot be sent and no attempt is in flight.
    pub(super) fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Option<FailureOf<S, P::Request>>>
    where
        P: RequestContext<P::Request>,
    {
        let this = self.as_mut().project();
        match this.race.next() {
            Next::Unknown | Next::Never => return Poll::Pending,
            Next::At(at) => {
                ready!(this.timer.poll(cx, shared.clock.instant(at)));
                this.race.is_due();
            }
            Next::Now => {}
        }
        let sent = ready!(self.as_mut().poll_send(cx, shared));
        let this = self.project();
        let Err(action) = sent else { return Poll::Ready(None) };
        shared.telemetry.act(action, this.race.hedges().saturating_add(1), Duration::ZERO);
        // This also releases the capacity that the service may hold.
        *this.spare = None;
        Poll::Ready(match this.race.give_up() {
            Verdict::Waits => None,
            Verdict::Lost(_) => this.copies.as_mut().and_then(|copies| copies.take_failure()),
        })
    }

    /// Sends a copy once the service is ready, or returns the reason why it cannot be sent.
    #[cold]
    fn poll_send(self: Pin<&mut Self>, cx: &mut Context<'_>, shared: &Shared) -> Poll<Result<(), Action>>
    where
        P: RequestContext<P::Request>,
    {
        let this = self.project();
        let ready_by = match *this.ready_by {
            Some(moment) => moment,
            None => match shared.may_send(*this.facts, this.spare.is_some()) {
                Ok(moment) => *this.ready_by.insert(moment),
                Err(action) => return Poll::Ready(Err(action)),
            },
        };
        let Some((kept, service)) = this.spare else { return Poll::Ready(Err(Action::NotReplayable)) };
        let Poll::Ready(is_ready) = service.poll_ready(cx) else {
            ready!(this.timer.poll(cx, shared.clock.instant(ready_by)));
            return Poll::Ready(Err(Action::NotReady));
        };
        *this.ready_by = None;
        if is_ready.is_err() {
            return Poll::Ready(Err(Action::NotReady));
        }
        let Some(mut request) = this.protocol.replay(kept) else {
            return Poll::Ready(Err(Action::NotReplayable));
        };
        if !shared.pay() {
            return Poll::Ready(Err(Action::BudgetSpent));
        }
        let attempt = Attempt { number: this.facts.number, hedge: this.race.hedges().saturating_add(1) };
        this.protocol.set_attempt(&mut request, attempt);
        if let Some(deadline) = this.facts.deadline {
            // Less time is left than when the original was sent.
            this.protocol.set_deadline(&mut request, deadline);
        }
        let copies = this.copies.get_or_insert_with(|| Box::new(Copies::new()));
        copies.drop_response();
        shared.telemetry.act(Action::Hedged, attempt.hedge, Duration::ZERO);
        let span = shared.telemetry.attempt(attempt.number.max(1), attempt.hedge);
        let copy = span.run(|| service.call(request));
        copies.send(copy, span, attempt.hedge);
        this.race.hedged(shared.clock.now());
        if this.race.next() == Next::Never {
            *this.spare = None;
        }
        Poll::Ready(Ok(()))
    }
}
