//! A body cut up in a given way, and what every attempt to send it has to yield.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use stanchion::http::replay_body::{Replay, ReplayBody, Replayable};

/// The body, as a list of what it does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The lengths of its data frames; `None`: not yet.
    pub(crate) frames: Vec<Option<usize>>,
    pub(crate) end: End,
    /// Whether the body knows its length, and so when it is over.
    pub(crate) is_sized: bool,
    pub(crate) cap: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    AnyRequest,
    Trailers,
    Error,
}

/// What is done with the attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Polls an attempt so many times.
    Poll {
        attempt: usize,
        times: usize,
    },
    DropAttempt(usize),
    Again,
    DropHandle,
}

impl Plan {
    fn length(&self) -> usize {
        self.frames.iter().flatten().sum()
    }

    /// Different at every place.
    fn data(&self) -> Vec<u8> {
        (0..self.length()).map(|place| u8::try_from((place ^ (place >> 8)) % 251).unwrap()).collect()
    }

    fn trailers() -> HeaderMap {
        [(http::header::ETAG, HeaderValue::from_static("1"))].into_iter().collect()
    }

    fn body(&self, data: &Bytes) -> (Planned, Arc<Mutex<Read>>) {
        let read = Arc::default();
        let planned = Planned {
            data: data.clone(),
            frames: self.frames.iter().copied().collect(),
            end: Some(self.end),
            is_sized: self.is_sized,
            read: Arc::clone(&read),
        };
        (planned, read)
    }
}

/// What has been read of the original.
#[derive(Debug, Default)]
struct Read {
    bytes: usize,
    has_ended: bool,
    has_failed: bool,
}

#[derive(Debug)]
struct Planned {
    data: Bytes,
    frames: VecDeque<Option<usize>>,
    /// Taken when it is over.
    end: Option<End>,
    is_sized: bool,
    read: Arc<Mutex<Read>>,
}

impl Body for Planned {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let frame = match self.frames.pop_front() {
            Some(None) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Some(length)) => Some(Ok(Frame::data(self.data.split_to(length)))),
            None => match self.end.take() {
                Some(End::AnyRequest) | None => None,
                Some(End::Trailers) => Some(Ok(Frame::trailers(Plan::trailers()))),
                Some(End::Error) => Some(Err("broke off")),
            },
        };
        let is_over = self.is_end_stream();
        let mut read = self.read.lock().unwrap();
        match &frame {
            Some(Ok(frame)) => {
                read.bytes += frame.data_ref().map_or(0, Bytes::len);
                read.has_ended = is_over || frame.is_trailers();
            }
            Some(Err(_)) => read.has_failed = true,
            None => read.has_ended = true,
        }
        drop(read);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_sized && self.frames.is_empty() && matches!(self.end, Some(End::AnyRequest) | None)
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized { SizeHint::with_exact(self.data.len() as u64) } else { SizeHint::default() }
    }
}

/// Follows the steps and compares each attempt with the plan, and the handle with a naive account of it.
pub(crate) fn follow(plan: &Plan, steps: &[Step]) {
    let whole = plan.data().into();
    let (body, read) = plan.body(&whole);
    let was_empty = body.is_end_stream();
    let was_too_long = plan.is_sized && plan.length() > plan.cap;
    let (first, replay) = ReplayBody::new(body, plan.cap);
    let mut replay = Some(replay);
    let mut attempts = vec![Some(Attempt::new(plan, &whole, first, true))];
    let expected = |attempts: &[Option<Attempt<'_>>]| {
        let read = read.lock().unwrap();
        if was_empty {
            Replayable::Yes
        } else if was_too_long || read.bytes > plan.cap {
            Replayable::TooLong
        } else if read.has_failed {
            Replayable::Broken
        } else if !read.has_ended && attempts.iter().flatten().any(|attempt| attempt.reads_original) {
            Replayable::Sending
        } else {
            Replayable::Yes
        }
    };
    for step in steps {
        match *step {
            Step::Poll { attempt, times } => {
                let among = attempts.len();
                if let Some(Some(attempt)) = attempts.get_mut(attempt % among) {
                    (0..times).for_each(|_| attempt.poll());
                }
            }
            Step::DropAttempt(attempt) => {
                let among = attempts.len();
                attempts.get_mut(attempt % among).map(Option::take);
            }
            Step::Again => {
                if let Some(replay) = &replay {
                    let can = replay.replayable() == Replayable::Yes;
                    let reads_original = !read.lock().unwrap().has_ended && !was_empty;
                    let body = replay.replay();
                    assert_eq!(body.is_some(), can);
                    attempts.extend(body.map(|body| Some(Attempt::new(plan, &whole, body, reads_original))));
                }
            }
            Step::DropHandle => replay = None,
        }
        if let Some(replay) = &replay {
            assert_eq!(replay.replayable(), expected(&attempts), "after {step:?}");
        }
    }
    // Whatever happened, who reads on reads everything.
    attempts.iter_mut().flatten().for_each(Attempt::finish);
    drop(attempts);
    if let Some(last) = replay.as_ref().and_then(Replay::replay) {
        Attempt::new(plan, &whole, last, false).finish();
    }
}

struct Attempt<'a> {
    plan: &'a Plan,
    whole: &'a Bytes,
    body: ReplayBody<Planned>,
    data: Vec<u8>,
    has_trailers: bool,
    has_ended: bool,
    reads_original: bool,
}

impl<'a> Attempt<'a> {
    fn new(plan: &'a Plan, whole: &'a Bytes, body: ReplayBody<Planned>, reads_original: bool) -> Self {
        let (data, has_trailers, has_ended) = (vec![], false, false);
        Self { plan, whole, body, data, has_trailers, has_ended, reads_original }
    }

    fn finish(&mut self) {
        while !self.has_ended {
            self.poll();
        }
        self.poll();
    }

    fn poll(&mut self) {
        let left = (self.whole.len() - self.data.len()) as u64;
        let hint = self.body.size_hint();
        let allowed = hint.lower()..=hint.upper().unwrap_or(u64::MAX);
        assert!(allowed.contains(&left), "{left} bytes are left, the hint is {hint:?}");
        // With trailers, whether there is one may change.
        if self.plan.is_sized && self.plan.end != End::Trailers {
            assert_eq!(hint.exact(), Some(left));
        }
        let was_end = self.body.is_end_stream();
        if self.has_ended && self.plan.end == End::Error {
            return;
        }
        let polled = Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(frame) = polled else {
            assert!(!was_end, "nothing was to come");
            return;
        };
        assert!(!was_end || frame.is_none(), "nothing was to come");
        assert!(!self.has_ended || frame.is_none(), "there is more after the end");
        match frame {
            Some(Ok(frame)) if frame.is_trailers() => {
                assert_eq!(frame.into_trailers().unwrap(), Plan::trailers());
                assert_eq!((self.plan.end, self.has_trailers), (End::Trailers, false));
                self.has_trailers = true;
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap();
                self.data.extend_from_slice(&data);
                assert!(self.whole.starts_with(&self.data), "other data than what was sent");
                assert!(!self.has_trailers, "data after trailers");
            }
            Some(Err(error)) => {
                assert_eq!((error, self.plan.end), ("broke off", End::Error));
                self.end();
            }
            None => {
                assert_eq!(self.has_trailers, self.plan.end == End::Trailers);
                assert_ne!(self.plan.end, End::Error, "it should have broken off");
                self.end();
            }
        }
    }

    fn end(&mut self) {
        assert_eq!(self.data.len(), self.plan.length(), "ended too early");
        self.has_ended = true;
    }
}
