//! A caller with a steady rate, and what it experiences.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use stanchion::Rejected;
use tokio::task::JoinSet;
use tower::{BoxError, Service, ServiceExt};

use crate::script::Script;
use crate::server::Server;

/// One call every so often: 200 per second.
pub(crate) const PERIOD: Duration = Duration::from_millis(5);

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A good status and a whole body.
    Passed,
    /// The circuit breaker did not let it through.
    Refused,
    /// A 5xx, a timeout, a broken connection, half a body.
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) began: Duration,
    pub(crate) took: Duration,
    end: End,
}

/// One client, and the server it has to itself.
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) server: Arc<Server>,
    script: Script,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    started: usize,
    ended: Vec<Call>,
}

impl Lane {
    pub(crate) async fn new(name: &'static str, script: Script) -> std::io::Result<Arc<Self>> {
        let server = Server::start(script).await?;
        Ok(Arc::new(Self { name, server, script, log: Mutex::default() }))
    }

    /// Calls `service` at a steady rate until the script is over, however long the calls take, and waits for
    /// the last of them.
    pub(crate) async fn drive<S, B>(self: Arc<Self>, service: S) -> anyhow::Result<()>
    where
        S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let uri: Uri = format!("http://{}/receipts", self.server.address()).parse()?;
        let mut calls = JoinSet::new();
        // Ticks that were missed on a busy machine are made up for.
        let mut ticks = tokio::time::interval(PERIOD);
        while !self.script.is_over() {
            ticks.tick().await;
            self.log().started += 1;
            let (lane, service, uri) = (Arc::clone(&self), service.clone(), uri.clone());
            let (began, clock) = (self.script.now(), Instant::now());
            calls.spawn(async move {
                let end = call(service, uri).await;
                lane.log().ended.push(Call { began, took: clock.elapsed(), end });
            });
            while calls.try_join_next().is_some() {}
        }
        while let Some(ended) = calls.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// What became of the calls that `which` chooses.
    pub(crate) fn tally(&self, which: impl Fn(&Call) -> bool) -> Tally {
        Tally::of(self.log().ended.iter().filter(|call| which(call)))
    }

    /// What became of the calls that ended in the last second.
    pub(crate) fn last_second(&self) -> Tally {
        let since = self.script.now().saturating_sub(Duration::from_secs(1));
        self.tally(|call| call.began + call.took >= since)
    }

    pub(crate) fn in_flight(&self) -> usize {
        let log = self.log();
        log.started - log.ended.len()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a call and reads its answer to the end.
async fn call<S, B>(service: S, uri: Uri) -> End
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    let response = match service.oneshot(request).await {
        Ok(response) => response,
        Err(error) if Rejected::find(&*error).is_some() => return End::Refused,
        Err(_) => return End::Failed,
    };
    let is_good = response.status().is_success();
    match response.into_body().collect().await {
        Ok(_) if is_good => End::Passed,
        _ => End::Failed,
    }
}

/// What became of some calls, and how long their callers had to wait, whatever they got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) refused: usize,
    pub(crate) failed: usize,
    pub(crate) waited: Duration,
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

impl Tally {
    fn of<'a>(calls: impl Iterator<Item = &'a Call>) -> Self {
        let mut tally = Self::default();
        let mut waits = Vec::new();
        for call in calls {
            waits.push(call.took);
            tally.waited += call.took;
            match call.end {
                End::Passed => tally.passed += 1,
                End::Refused => tally.refused += 1,
                End::Failed => tally.failed += 1,
            }
        }
        waits.sort_unstable();
        // The smallest wait that at least so many percent of the calls did not exceed.
        let percentile = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100);
            waits.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        tally.p50 = percentile(50);
        tally.p95 = percentile(95);
        tally.p99 = percentile(99);
        tally
    }

    pub(crate) const fn calls(&self) -> usize {
        self.passed + self.refused + self.failed
    }
}
