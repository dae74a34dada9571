//! The competitors, each by the cheapest way its own documentation offers for an asynchronous call, all with
//! the same thresholds where they have them: half of the calls, 100 of them at least, an hour open.

use std::hint::black_box;
use std::time::Duration;

use failsafe::{FailurePolicy, StateMachine, backoff, failure_policy};
use layered::Execute;
use recloser::{AsyncRecloser, Recloser};
use seatbelt::breaker::{Breaker, BreakerLayer};
use seatbelt::{RecoveryInfo, ResilienceContext};
use tick::Clock;
use tower::{Layer as _, Service, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{
    CircuitBreaker as TrBreaker, CircuitBreakerLayer as TrLayer, DefaultClassifier, SlidingWindowType,
};

use crate::measure::{Contestant, Tower, block_on, drive};
use crate::row::{Expect::*, OURS_COUNT, OURS_OPEN, OURS_TIME, Row};
use crate::service::{Failed, echo, fragile, opened};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

pub fn successes() -> Vec<Row> {
    let tr_count = tower_resilience(SlidingWindowType::CountBased);
    let tr_time = tower_resilience(SlidingWindowType::TimeBased);
    let (seatbelt_own, seatbelt_tower) = (seatbelt(), seatbelt());
    vec![
        Row::with_heap("tower-resilience, 100 calls", Success, move || {
            Tower(tr_count.layer(service_fn(echo::<Failed>)))
        })
        .against(OURS_COUNT),
        Row::with_heap("tower-resilience, 60 s, slow calls, 1,000 held", Success, move || {
            TrFull(tr_time.layer(service_fn(echo::<Failed>)))
        })
        .against(OURS_TIME)
        .one_thread(),
        Row::with_heap("seatbelt, 60 s, own API", Success, move || {
            Layered(seatbelt_own.layer(Execute::new(echo::<Failed>)))
        })
        .against(OURS_TIME),
        Row::with_heap("seatbelt, 60 s, tower", Success, move || {
            Tower(seatbelt_tower.layer(service_fn(echo::<Failed>)))
        })
        .against(OURS_TIME),
        Row::with_heap("recloser, 100 calls", Success, || Reclosing(recloser(), service_fn(echo::<Failed>)))
            .against(OURS_COUNT),
        Row::with_heap("failsafe, consecutive failures", Success, || {
            Failsafe(consecutive(), service_fn(echo::<Failed>))
        })
        .against(OURS_COUNT),
        Row::with_heap("failsafe, EMA over 60 s", Success, || Failsafe(ema(), service_fn(echo::<Failed>)))
            .against(OURS_TIME),
    ]
}

pub fn refusals() -> Vec<Row> {
    let tr = tower_resilience(SlidingWindowType::CountBased);
    vec![
        Row::new(
            "tower-resilience, open",
            Refusal,
            opened(|failing| Tower(tr.layer(service_fn(move |req| fragile::<Failed>(failing, req))))),
        ),
        Row::new(
            "seatbelt, open, own API",
            Refusal,
            opened(|failing| {
                Layered(seatbelt().layer(Execute::new(move |req| fragile::<Failed>(failing, req))))
            }),
        ),
        Row::new(
            "seatbelt, open, tower",
            Refusal,
            opened(|failing| Tower(seatbelt().layer(service_fn(move |req| fragile::<Failed>(failing, req))))),
        ),
        Row::new(
            "recloser, open",
            Refusal,
            opened(|failing| Reclosing(recloser(), service_fn(move |req| fragile::<Failed>(failing, req)))),
        ),
        Row::new(
            "failsafe, open",
            Refusal,
            opened(|failing| Failsafe(consecutive(), service_fn(move |req| fragile::<Failed>(failing, req)))),
        ),
    ]
    .into_iter()
    .map(|row| row.against(OURS_OPEN))
    .collect()
}

// ------------------------------------------------------------------------------------------ tower-resilience

/// Each `.layer()` of it makes a breaker of its own, sharing only the configuration.
pub fn tower_resilience(window: SlidingWindowType) -> TrLayer<DefaultClassifier> {
    let builder = TrLayer::builder()
        .failure_rate_threshold(0.5)
        .minimum_number_of_calls(100)
        .sliding_window_size(100)
        .wait_duration_in_open(HOUR)
        .sliding_window_type(window);
    match window {
        SlidingWindowType::CountBased => builder.build(),
        SlidingWindowType::TimeBased => builder
            .sliding_window_duration(MINUTE)
            .slow_call_duration_threshold(Duration::from_secs(1))
            .slow_call_rate_threshold(0.5)
            .build(),
    }
    .expect("a valid configuration")
}

/// Its time window keeps every call and counts them all at each: the time of a call depends on how many are
/// held. Here 900 to 1,100, put back before each chunk.
#[derive(Clone)]
struct TrFull<S>(TrBreaker<S, DefaultClassifier>);

impl<S> Contestant for TrFull<S>
where
    S: Clone + Send + 'static,
    TrBreaker<S, DefaultClassifier>: Service<u64> + Clone + Send,
{
    async fn call(&mut self, req: u64) -> bool {
        drive(&mut self.0, req).await
    }

    async fn prepare(&mut self) -> Option<u64> {
        // Only a change of state empties the window.
        self.0.force_open().await;
        self.0.reset().await;
        for req in 0..900 {
            self.call(req).await;
        }
        Some(200)
    }
}

// -------------------------------------------------------------------------------------------------- seatbelt

/// Each `.layer()` of it makes a breaker of its own. It has time windows only.
pub fn seatbelt() -> BreakerLayer<u64, Result<u64, Failed>> {
    // The clock wants a runtime for its timers; a breaker only asks it for the time.
    let clock = block_on(async { Clock::new_tokio() });
    Breaker::layer("breaker", &ResilienceContext::new(clock))
        .recovery_with(|answer: &Result<u64, Failed>, _| match answer {
            Ok(_) => RecoveryInfo::never(),
            Err(_) => RecoveryInfo::retry(),
        })
        .rejected_input_error(|_, _| Failed)
        .failure_threshold(0.5)
        .min_throughput(100)
        .sampling_duration(MINUTE)
        .break_duration(HOUR)
}

/// A service by seatbelt's own trait, which has no readiness.
#[derive(Clone)]
pub struct Layered<S>(pub S);

impl<S> Contestant for Layered<S>
where
    S: layered::Service<u64, Out = Result<u64, Failed>> + Clone + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        black_box(self.0.execute(req).await).is_ok()
    }
}

// -------------------------------------------------------------------------------------------------- recloser

fn recloser() -> AsyncRecloser {
    AsyncRecloser::from(Recloser::custom().error_rate(0.5).closed_len(100).open_wait(HOUR).build())
}

#[derive(Clone)]
struct Reclosing<S>(AsyncRecloser, S);

impl<S> Contestant for Reclosing<S>
where
    S: Service<u64, Response = u64, Error = Failed> + Clone + Send + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        match self.1.ready().await {
            Ok(service) => black_box(self.0.call(service.call(req)).await).is_ok(),
            Err(_) => false,
        }
    }
}

// -------------------------------------------------------------------------------------------------- failsafe

fn consecutive() -> StateMachine<impl FailurePolicy + Send + 'static, ()> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(HOUR));
    failsafe::Config::new().failure_policy(policy).build()
}

fn ema() -> StateMachine<impl FailurePolicy + Send + 'static, ()> {
    let policy = failure_policy::success_rate_over_time_window(0.5, 100, MINUTE, backoff::constant(HOUR));
    failsafe::Config::new().failure_policy(policy).build()
}

struct Failsafe<P, S>(StateMachine<P, ()>, S);

// By hand: a derived one would ask for `P: Clone`.
impl<P, S: Clone> Clone for Failsafe<P, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<P, S> Contestant for Failsafe<P, S>
where
    P: FailurePolicy + Send + 'static,
    S: Service<u64, Response = u64, Error = Failed> + Clone + Send + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        let Ok(service) = self.1.ready().await else { return false };
        if !self.0.is_call_permitted() {
            return false;
        }
        let answer = black_box(service.call(req).await);
        match answer {
            Ok(_) => self.0.on_success(),
            Err(_) => self.0.on_error(),
        }
        answer.is_ok()
    }
}
