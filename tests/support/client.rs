//! Clients of a server on a socket, behind layers that hold them up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use stanchion::fallback::{Failure, FailureKind};
use stanchion::http::Http;
use stanchion::http::replay_body::ReplayBody;
use stanchion::telemetry::{Action, Event, LayerId};
use stanchion::timeout::{Limit, Scope};
use stanchion::{
    Backoff, Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer,
    FallbackLayer, HedgeConfig, HedgeLayer, RetryConfig, RetryLayer, TimeoutConfig, TimeoutLayer,
};
use tokio::sync::watch;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

pub(crate) type Outgoing = Request<Full<Bytes>>;
/// The layer that retries and the one that hedges each keep what they may send again.
pub(crate) type Sent = Request<ReplayBody<ReplayBody<Full<Bytes>>>>;
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
/// What is at the bottom, whichever client it is.
pub(crate) type Bottom = BoxCloneSyncService<Sent, Answer, BoxError>;

fn boxed<B>(response: Response<B>) -> Answer
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// The client of hyper-util.
pub(crate) fn by_hyper() -> Bottom {
    let client = Client::builder(TokioExecutor::new()).build_http();
    BoxCloneSyncService::new(client.map_response(boxed).map_err(BoxError::from))
}

/// Reqwest, for requests of the `http` crate.
pub(crate) fn by_reqwest() -> Bottom {
    let client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
    let service = service_fn(move |request: Sent| {
        let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
        let client = client.clone();
        async move { Ok(boxed(Response::from(client.execute(request?).await?))) }
    });
    BoxCloneSyncService::new(service)
}

/// What is set in the layers; nothing ends a call or opens the circuit unless it is.
pub(crate) struct Setup {
    /// What answers calls that are refused.
    pub(crate) fallback: Option<&'static str>,
    pub(crate) total: TimeoutConfig,
    pub(crate) retry: RetryConfig,
    pub(crate) hedge: HedgeConfig,
    /// For retries and hedges.
    pub(crate) budget: Budget,
    pub(crate) breaker: CircuitBreakerConfig,
    pub(crate) attempt: TimeoutConfig,
}

const FOR_EVER: Limit = Limit::Fixed(Duration::from_secs(1_000_000));

impl Default for Setup {
    fn default() -> Self {
        Self {
            fallback: None,
            total: TimeoutConfig::new().limit(FOR_EVER),
            retry: RetryConfig::new().backoff(Backoff::constant(Duration::ZERO)),
            hedge: HedgeConfig::new().max_hedges(0),
            budget: Budget::unlimited(),
            breaker: CircuitBreakerConfig::new().min_calls(u32::MAX),
            attempt: TimeoutConfig::new().scope(Scope::Attempt).limit(FOR_EVER),
        }
    }
}

/// A budget of `cap` tokens, and a share of `ratio` of each call from each of two layers.
pub(crate) fn budget(ratio: f64, cap: f64) -> Budget {
    Budget::new(BudgetConfig::new().ratio(ratio).per_second(0.0).cap(cap))
}

/// The whole stack, and what can be seen of it.
#[derive(Clone)]
pub(crate) struct Stack {
    pub(crate) service: BoxCloneSyncService<Outgoing, Answer, BoxError>,
    pub(crate) breaker: CircuitBreakerHandle,
    actions: watch::Receiver<Vec<Action>>,
}

impl Stack {
    #[allow(clippy::result_large_err, reason = "a failure is handed back as it came, with its answer")]
    pub(crate) fn new(setup: Setup, bottom: Bottom) -> Self {
        let seen = Arc::new(watch::Sender::default());
        let actions = seen.subscribe();
        let observer = move |_: &LayerId, event: &Event<'_>| {
            if let Event::Action { action, .. } = event {
                seen.send_modify(|actions: &mut Vec<Action>| actions.push(*action));
            }
        };
        let (retry, hedge) = (RetryLayer::new(setup.retry), HedgeLayer::new(setup.hedge));
        let breaker = CircuitBreakerLayer::new(setup.breaker).name("shop").protocol(Http::new());
        let handle = breaker.handle();
        let fallback =
            FallbackLayer::with(move |(), failure: &Failure<Answer, BoxError>| match setup.fallback {
                Some(text) if failure.kind() == FailureKind::Rejected => {
                    Some(boxed(Response::new(Full::new(text.into()))))
                }
                _ => None,
            });
        let service = ServiceBuilder::new()
            .layer(fallback)
            .map_response(boxed)
            .layer(TimeoutLayer::new(setup.total).protocol(Http::new()))
            .layer(retry.protocol(Http::new()).budget(setup.budget.clone()).observer(observer.clone()))
            .layer(hedge.protocol(Http::new()).budget(setup.budget).observer(observer))
            .layer(breaker)
            .layer(TimeoutLayer::new(setup.attempt).protocol(Http::new()))
            .service(bottom);
        Self { service: BoxCloneSyncService::new(service), breaker: handle, actions }
    }

    /// The head of the answer.
    pub(crate) async fn send(&self, request: Outgoing) -> Result<Answer, BoxError> {
        self.service.clone().oneshot(request).await
    }

    /// A whole call, body and all: its status, and what was in the body.
    pub(crate) async fn call(&self, request: Outgoing) -> Result<(u16, Bytes), BoxError> {
        let answer = self.send(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// What the layers that retry and hedge did.
    pub(crate) fn actions(&self) -> Vec<Action> {
        self.actions.borrow().clone()
    }

    /// Waits until so many attempts are to be repeated.
    pub(crate) async fn has_retried(&self, times: usize) {
        let retries =
            |actions: &Vec<Action>| actions.iter().filter(|action| **action == Action::Retried).count();
        self.actions.clone().wait_for(|actions| retries(actions) >= times).await.unwrap();
    }
}
