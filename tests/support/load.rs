//! A load that does not wait for answers: calls over a few connections, each at its time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

type Caller = Client<HttpConnector, Empty<Bytes>>;

/// Calls per second, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) rate: u32,
    pub(crate) lasting: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When it was time for the call, after the load began.
    pub(crate) at: Duration,
    /// From then until the whole answer was there, so a call that was sent late is late.
    pub(crate) took: Duration,
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<HeaderValue>,
}

impl Load {
    const CONNECTIONS: usize = 4;

    pub(crate) fn calls(self) -> usize {
        let calls = u128::from(self.rate) * self.lasting.as_millis() / 1_000;
        usize::try_from(calls).unwrap()
    }

    /// Begins all calls, and then runs `rest`. Callers never leave: there is an answer to each call.
    pub(crate) async fn put(self, server: SocketAddr, rest: impl FnOnce()) -> Vec<Answer> {
        // HTTP/2: however many calls there are, a client has one connection.
        let client = || Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let clients: Vec<Caller> = (0..Self::CONNECTIONS).map(|_| client()).collect();
        let begin = Instant::now();
        let mut calls = JoinSet::new();
        for (number, client) in (0..self.calls()).zip(clients.iter().cycle()) {
            let at = Duration::from_secs(1) * u32::try_from(number).unwrap() / self.rate;
            sleep_until(begin + at).await;
            calls.spawn(call(client.clone(), server, begin, at));
        }
        rest();
        let mut answers = Vec::new();
        while let Some(answer) = calls.join_next().await {
            answers.push(answer.unwrap());
        }
        answers.sort_by_key(|answer| answer.at);
        answers
    }
}

async fn call(client: Caller, server: SocketAddr, begin: Instant, at: Duration) -> Answer {
    let response = client.get(format!("http://{server}/work").parse().unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    body.collect().await.unwrap();
    let retry_after = head.headers.get(RETRY_AFTER).cloned();
    Answer { at, took: begin.elapsed() - at, status: head.status, retry_after }
}
