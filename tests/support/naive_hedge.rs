//! Hedging as it is first written: a second attempt after a while, without a budget, and the first result wins.

#![allow(clippy::disallowed_methods, reason = "time is paused")]

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tower::Service;

use crate::virtual_server::{Answer, Failed, Request};

/// After how many calls the delay is chosen anew, from their latencies.
const CALLS: usize = 1_000;

/// Attempts are tasks of their own, and go on when they have lost.
#[derive(Clone, Debug)]
pub(crate) struct Naive<S> {
    inner: S,
    delay: Rc<Cell<Duration>>,
    quantile: Option<f64>,
    /// Of the attempts that won: how long those would have taken that lost is not known.
    latencies: Rc<RefCell<Vec<Duration>>>,
}

impl<S> Naive<S> {
    pub(crate) fn after(inner: S, delay: Duration) -> Self {
        Self { inner, delay: Rc::new(Cell::new(delay)), quantile: None, latencies: Rc::default() }
    }

    /// After the latency that this share of the attempts did not exceed.
    pub(crate) fn at_quantile(inner: S, share: f64) -> Self {
        Self { quantile: Some(share), ..Self::after(inner, Duration::MAX) }
    }

    fn record(&self, latency: Duration) {
        let mut latencies = self.latencies.borrow_mut();
        latencies.push(latency);
        let Some(quantile) = self.quantile.filter(|_| latencies.len() == CALLS) else { return };
        latencies.sort_unstable();
        let mut highest = latencies.drain(..).rev();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below CALLS")]
        let above = (CALLS as f64 * (1.0 - quantile)) as usize;
        self.delay.set(highest.nth(above).unwrap_or_default());
    }
}

impl<S> Service<Request> for Naive<S>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    type Response = Answer;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failed>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut this = self.clone();
        let (won, mut winner) = mpsc::unbounded_channel();
        let mut attempt = move |request| {
            let (start, won) = (Instant::now(), won.clone());
            let attempt = this.inner.call(request);
            spawn_local(async move {
                let _ = won.send((attempt.await, start.elapsed()));
            });
        };
        let this = self.clone();
        Box::pin(async move {
            attempt(request.clone());
            let first = timeout(this.delay.get(), winner.recv()).await;
            let first = match first {
                Ok(first) => first,
                Err(_) => {
                    attempt(request);
                    winner.recv().await
                }
            };
            let (result, latency) = first.expect("an attempt sends its result");
            if result.is_ok() {
                this.record(latency);
            }
            result
        })
    }
}
