//! Retries as they are first written: so many, and nothing that limits them all together.

#![allow(clippy::disallowed_methods, reason = "time is paused")]

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::Error;
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::virtual_server::{Answer, Failed, MILLISECOND, Random, Request, SECOND, times};

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Failed>>>>;

/// Gives up on an attempt after so long a time.
#[derive(Clone, Debug)]
pub(crate) struct Impatient<S>(pub(crate) S, pub(crate) Duration);

impl<S> Service<Request> for Impatient<S>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static>,
{
    type Response = Answer;
    type Error = Failed;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Answering {
        let attempt = timeout(self.1, self.0.call(request));
        Box::pin(async { attempt.await.unwrap_or(Err(Error::Inner(Fault("timed out")))) })
    }
}

/// Calls again after each failure, up to so many times.
#[derive(Clone, Debug)]
pub(crate) struct Naive<S> {
    inner: S,
    retries: u32,
    jitter: Option<Rc<RefCell<Random>>>,
}

impl<S> Naive<S> {
    pub(crate) fn at_once(inner: S, retries: u32) -> Self {
        Self { inner, retries, jitter: None }
    }

    /// Waits before each retry: for any time up to 50 ms, 100 ms, 200 ms and so on until a second.
    pub(crate) fn with_full_jitter(inner: S, retries: u32) -> Self {
        Self { inner, retries, jitter: Some(Rc::new(RefCell::new(Random::of("jitter")))) }
    }
}

impl<S> Service<Request> for Naive<S>
where
    S: Service<Request, Response = Answer, Error = Failed> + Clone + 'static,
{
    type Response = Answer;
    type Error = Failed;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Answering {
        let mut this = self.clone();
        Box::pin(async move {
            loop {
                let result = this.inner.call(request.clone()).await;
                if result.is_ok() || request.attempt == this.retries {
                    return result;
                }
                if let Some(jitter) = &this.jitter {
                    let longest = SECOND.min(50 * MILLISECOND * 2_u32.pow(request.attempt));
                    let wait = times(longest, jitter.borrow_mut().share());
                    sleep(wait).await;
                }
                request.attempt += 1;
            }
        })
    }
}
