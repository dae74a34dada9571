//! Clients that call whether or not the calls before have come back, and what became of the calls.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of calls are small"
)]

use std::ops::Range;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::sleep_until;
use tower::{Service, ServiceExt};

use super::{Answer, Random, Request, SECOND, Server};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Calls per second, of all clients together.
    pub(crate) rate: u32,
    pub(crate) lasting: Duration,
    /// Otherwise the calls arrive by chance, as in a Poisson process.
    pub(crate) steady: bool,
    /// Of several that come at the same time.
    stream: u8,
}

impl Traffic {
    pub(crate) fn random(rate: u32, lasting: Duration) -> Self {
        Self { rate, lasting, steady: false, stream: 0 }
    }

    pub(crate) fn steady(rate: u32, lasting: Duration) -> Self {
        Self { rate, lasting, steady: true, stream: 0 }
    }

    /// One of several at the same time, which would come in the same moments otherwise.
    pub(crate) fn named(self, stream: u8) -> Self {
        Self { stream, ..self }
    }

    /// Ends with the last call. Each call is made by one of the clients, at random.
    pub(crate) async fn drive<S>(self, server: &Server, clients: &[S]) -> Calls<S::Error>
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        let mut random = match self.stream {
            0 => Random::of("traffic"),
            stream => Random::of(&format!("traffic {stream}")),
        };
        let (ended, mut ends) = mpsc::unbounded_channel();
        let mean = SECOND / self.rate;
        let begin = server.now();
        let mut next = begin;
        let mut made = 0;
        while next < begin + self.lasting {
            sleep_until(server.at(next)).await;
            let client = usize::try_from(random.number() % clients.len() as u64).unwrap();
            let client = clients.get(client).unwrap().clone();
            let (server, ended) = (server.clone(), ended.clone());
            let start = server.now();
            spawn_local(async move {
                let result = client.oneshot(Request::new(made)).await;
                let _ = ended.send(Call { start, end: server.now(), result });
            });
            made += 1;
            next += if self.steady { mean } else { random.exponential(mean) };
        }
        drop(ended);
        let mut calls = Vec::new();
        while let Some(call) = ends.recv().await {
            calls.push(call);
        }
        assert_eq!(calls.len() as u64, made, "a call has panicked");
        calls.sort_by_key(|call| call.start);
        Calls(calls)
    }
}

#[derive(Debug)]
pub(crate) struct Call<E> {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    pub(crate) result: Result<Answer, E>,
}

/// In the order of their starts, by which all the figures choose.
#[derive(Debug)]
pub(crate) struct Calls<E>(Vec<Call<E>>);

impl<E> Calls<E> {
    pub(crate) fn of(&self, during: Range<Duration>) -> &[Call<E>] {
        let after = |time| self.0.partition_point(|call| call.start < time);
        self.0.get(after(during.start)..after(during.end)).unwrap_or_default()
    }

    /// The share of calls that were answered; 1 if there were none.
    pub(crate) fn success(&self, during: Range<Duration>) -> f64 {
        let calls = self.of(during);
        if calls.is_empty() {
            return 1.0;
        }
        calls.iter().filter(|call| call.result.is_ok()).count() as f64 / calls.len() as f64
    }

    /// How many requests arrived at the server for each call.
    pub(crate) fn amplification(&self, server: &Server, during: Range<Duration>) -> f64 {
        server.arrived(during.clone()) as f64 / self.of(during).len() as f64
    }

    /// The most that [`amplification`](Self::amplification) is in any span of so many whole seconds.
    pub(crate) fn worst(&self, server: &Server, during: Range<Duration>, seconds: u32) -> f64 {
        let spans = spans(during, seconds * SECOND).map(|span| self.amplification(server, span));
        spans.fold(0.0, f64::max)
    }

    /// How long after `trouble` it takes until in each further second this share of the calls is answered.
    /// `None` if that is not so in the last second before `end` either.
    pub(crate) fn recovery(&self, trouble: Duration, end: Duration, share: f64) -> Option<Duration> {
        let bad = spans(trouble..end, SECOND).filter(|second| self.success(second.clone()) < share);
        let well_from = bad.last().map_or(trouble, |second| second.end);
        (well_from + SECOND <= end).then(|| well_from - trouble)
    }

    /// The latency which this share of the answered calls does not exceed, by the times of the server.
    pub(crate) fn quantile(&self, during: Range<Duration>, share: f64) -> Duration {
        let answers =
            self.of(during).iter().filter_map(|call| Some((call.start, call.result.as_ref().ok()?)));
        let mut latencies: Vec<_> = answers.map(|(start, answer)| answer.ready - start).collect();
        latencies.sort_unstable();
        let place = (share * latencies.len() as f64).ceil().max(1.0) as usize - 1;
        latencies.get(place).copied().unwrap_or(Duration::MAX)
    }
}

/// The spans of this length that begin a whole number of seconds after `during` does, and are within it.
fn spans(during: Range<Duration>, length: Duration) -> impl Iterator<Item = Range<Duration>> {
    let starts = std::iter::successors(Some(during.start), |start| Some(*start + SECOND));
    starts.map(move |start| start..start + length).take_while(move |span| span.end <= during.end)
}
