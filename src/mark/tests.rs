//! What is known of an error by the mark that it leaves.

use std::future::{Future, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Cause, Watched, mark};

const CAUSES: [Cause; 3] = [Cause::Failed, Cause::TimedOut, Cause::Refused];

/// Delivers these one after the other, one for each poll, and fails with the last poll.
fn delivers(causes: &[Option<Cause>]) -> Cause {
    let mut left = causes.iter();
    let service = poll_fn(|_| {
        if let Some(cause) = left.next().copied().flatten() {
            cause.deliver();
        }
        if left.as_slice().is_empty() { Poll::Ready(Err::<(), _>("broken")) } else { Poll::Pending }
    });
    let mut watched = pin!(Watched::new(service));
    loop {
        if let Poll::Ready((_, cause)) = watched.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return cause;
        }
    }
}

#[test]
fn an_error_of_which_no_layer_has_told_is_the_services_own() {
    Cause::Refused.deliver();
    assert_eq!(mark().cause_since(), Cause::Failed);
    assert_eq!(delivers(&[None]), Cause::Failed);
    assert_eq!(delivers(&[None, None, None]), Cause::Failed);
}

#[test]
fn an_error_is_what_the_last_layer_that_handed_it_out_says() {
    for first in CAUSES {
        assert_eq!(delivers(&[Some(first)]), first);
        for last in CAUSES {
            assert_eq!(delivers(&[Some(first), Some(last)]), last);
            let before = mark();
            first.deliver();
            last.deliver();
            assert_eq!(before.cause_since(), last);
        }
    }
}

#[test]
fn an_error_that_is_held_back_for_some_polls_is_still_known() {
    for cause in CAUSES {
        assert_eq!(delivers(&[Some(cause), None, None]), cause);
        assert_eq!(delivers(&[None, Some(cause), None]), cause);
        assert_eq!(mark().cause_since_or(cause), cause);
    }
}

#[test]
fn what_happens_between_two_polls_or_in_another_thread_is_not_the_services() {
    let mut polls = 0;
    let service = poll_fn(|_| {
        polls += 1;
        std::thread::scope(|scope| scope.spawn(|| Cause::Refused.deliver()).join()).unwrap();
        if polls < 3 { Poll::Pending } else { Poll::Ready(Err::<(), _>("broken")) }
    });
    let mut watched = pin!(Watched::new(service));
    let cause = loop {
        if let Poll::Ready((_, cause)) = watched.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            break cause;
        }
        Cause::TimedOut.deliver();
    };
    assert_eq!(cause, Cause::Failed);
}

#[test]
fn an_answer_passes() {
    let polled = pin!(Watched::new(ready(Ok::<_, ()>(7)))).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready((Ok(7), _))));
}
