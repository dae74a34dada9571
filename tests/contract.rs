//! What all layers have in common. A new middleware adds its line here before anything else is written
//! about it; what it promises beyond that has a file of its own.

#![allow(clippy::disallowed_methods, reason = "a test guards against waiting for ever, and spawns")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/contract.rs"]
mod promises;

use std::future::{Pending, ready};
use std::time::Duration;

use promises::Request;
use stanchion::adaptive_limit::{Aimd, Algorithm, Gradient2, Vegas};
use stanchion::circuit_breaker::{Permit, Readiness};
use stanchion::classify::Asking;
use stanchion::fallback::{Answer, Failure, Reply};
use stanchion::hedge::HedgeDelay;
use stanchion::protocol::{CloneWith, clone_with};
use stanchion::rate_limit::{Quota, SharedQuota, UnitCost, Waits};
use stanchion::retry::Standard;
use stanchion::timeout::{Covers, Limit, MinRemaining, Scope};
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, BulkheadLayer, CircuitBreakerConfig,
    CircuitBreakerHandle, CircuitBreakerLayer, Error, FallbackLayer, HedgeConfig, HedgeLayer,
    RateLimitConfig, RateLimitLayer, RetryConfig, RetryLayer, StaleConfig, ThrottleConfig, ThrottleLayer,
    TimeoutConfig, TimeoutLayer,
};
use tower::layer::util::Identity;
use tower::service_fn;

/// `contract!(name, makes a layer)`: one module with a test for each promise.
///
/// The layer must bear five failed calls in a row, and admit two calls at a time. With a third argument it is
/// also tested while it refuses: a function that is given the layer, makes it refuse all calls, and returns a
/// guard whose drop makes it admit them again.
///
/// `contract!(answers name, ..)` is for layers that hold answers of a type, and so cannot be put around services with
/// others; `contract!(clones name, ..)` for layers that call the service more than once or later, and so need clones of
/// it.
macro_rules! contract {
    ($kind:ident $name:ident, $make:expr $(, $refuse:expr)?) => {
        mod $name {
            use super::*;

            contract!(@for_all [$make]);
            $(contract!(@refusing [$make, $refuse]);)?
        }
    };
    ($name:ident, $make:expr $(, $refuse:expr)?) => {
        mod $name {
            #[allow(unused_imports, reason = "not every line needs them")]
            use super::*;

            contract!(@for_all [$make]);
            contract!(@promises [$make];
                inner_request_and_answer_may_be_neither_send_nor_clone
                request_answer_and_error_may_borrow
                inner_may_borrow
            );
            $(contract!(@refusing [$make, $refuse]);)?
        }
    };
    (@refusing $arguments:tt) => {
        contract!(@promises $arguments;
            refuses_without_polling_an_inner_that_is_stuck
            all_services_of_all_clones_refuse_together
            a_refused_call_may_be_dropped
            who_waits_is_woken_when_calls_are_admitted
            a_refusal_does_not_use_up_the_readiness_of_the_inner
        );
    };
    (@for_all $arguments:tt) => {
        contract!(@promises $arguments;
            inner_is_called_only_once_it_is_ready
            inner_that_is_not_ready_holds_the_layer_back_and_wakes_it
            the_last_task_that_polled_is_the_one_that_is_woken
            poll_ready_may_be_repeated
            a_ready_service_may_be_dropped_without_a_call
            a_clone_of_a_ready_service_works_beside_it
            ten_thousand_clones_work_and_leave_nothing_behind
            answers_and_errors_pass_unchanged
            a_failed_poll_ready_passes_unchanged_and_is_survived
            a_pending_call_is_woken_and_may_move_to_another_task
            a_call_dropped_at_any_poll_gives_everything_back
            a_panic_in_call_is_survived
            a_panic_in_the_future_is_survived
            a_panic_in_poll_ready_is_survived
            a_layer_is_send_and_sync_as_its_inner_is
        );
    };
    (@promises $arguments:tt; $($promise:ident)*) => {
        $(contract!(@promise $promise $arguments);)*
    };
    (@promise $promise:ident [$make:expr $(, $refuse:expr)?]) => {
        #[tokio::test(start_paused = true)]
        async fn $promise() {
            $crate::promises::$promise(|| $make $(, $refuse)?).await;
        }
    };
}

contract!(no_layer, Identity::new());
contract!(circuit_breaker, breaker(), held_open);
contract!(circuit_breaker_that_waits, breaker().readiness(Readiness::Pending), held_open);
contract!(circuit_breaker_that_times_calls, timing(), held_open);
contract!(circuit_breaker_that_probes, probing(breaker()), every_slot_taken);
contract!(
    circuit_breaker_that_waits_and_probes,
    probing(breaker().readiness(Readiness::Pending)),
    every_slot_taken
);
contract!(bulkhead, BulkheadLayer::new(two_at_a_time()), full);
contract!(bulkhead_that_is_not_ready, BulkheadLayer::backpressure(two_at_a_time()), full);
contract!(clones bulkhead_that_waits, BulkheadLayer::waiting(two_at_a_time().max_queued(8)), full);
contract!(clones bulkhead_without_a_queue, BulkheadLayer::waiting(two_at_a_time()), full);

const fn two_at_a_time() -> BulkheadConfig {
    BulkheadConfig::new().max_in_flight(2)
}

fn full<W, P>(layer: &BulkheadLayer<W, P>) -> impl Sized + use<W, P> {
    std::iter::from_fn(|| layer.handle().try_acquire().ok()).collect::<Vec<_>>()
}

contract!(adaptive_limit, AdaptiveLimitLayer::new(at_least_two()), limit_reached);
contract!(
    adaptive_limit_by_failures,
    AdaptiveLimitLayer::new(at_least_two().algorithm(Aimd::new())),
    limit_reached
);
contract!(
    adaptive_limit_that_is_not_ready,
    AdaptiveLimitLayer::backpressure(at_least_two().algorithm(Vegas::new())),
    limit_reached
);
contract!(
    clones adaptive_limit_that_waits,
    AdaptiveLimitLayer::waiting(at_least_two().max_queued(8)),
    limit_reached
);
contract!(
    clones adaptive_limit_without_a_queue,
    AdaptiveLimitLayer::waiting(at_least_two().algorithm(Gradient2::new())),
    limit_reached
);

/// Whatever is learned from calls that fail.
const fn at_least_two() -> AdaptiveLimitConfig {
    AdaptiveLimitConfig::new().min_limit(2).initial_limit(2)
}

fn limit_reached<A, W, P>(layer: &AdaptiveLimitLayer<A, W, P>) -> impl Sized + use<A, W, P>
where
    A: Algorithm + Clone + PartialEq + Sync,
{
    std::iter::from_fn(|| layer.handle().try_acquire().ok()).collect::<Vec<_>>()
}

contract!(clones hedge, hedging(HedgeConfig::new().min_samples(1)));
contract!(clones hedge_at_once, hedging(HedgeConfig::new().delay(HedgeDelay::Fixed(Duration::ZERO))));

contract!(clones retry, retrying(|_| None));
contract!(clones retry_that_repeats, retrying(|request| Some(request.again())));

/// The contract's request cannot be cloned.
type CopyRequest = fn(&Request) -> Option<Request>;

/// What is called for a request is counted: so no copy is made of it.
fn hedging(config: HedgeConfig) -> HedgeLayer<Asking<CloneWith<CopyRequest>>> {
    HedgeLayer::new(config).protocol(clone_with(|_| None))
}

fn retrying(copy: CopyRequest) -> RetryLayer<Standard<CloneWith<CopyRequest>>> {
    RetryLayer::new(RetryConfig::new()).protocol(clone_with(copy))
}

contract!(fallback, FallbackLayer::new(Declines));
contract!(fallback_on_rejections, FallbackLayer::new(Declines).on_rejections());
contract!(answers fallback_by_value, FallbackLayer::value(7).on_rejections());
contract!(answers fallback_with_a_function, FallbackLayer::with(|(), _: &Answered| None));
contract!(
    answers fallback_by_a_service_that_fails,
    FallbackLayer::service(service_fn(|()| ready(Err::<u32, _>("failed as well"))))
);
contract!(
    answers fallback_by_the_last_answer,
    FallbackLayer::stale(StaleConfig::new(), |_: &Request| Some(1)).on_rejections()
);

type Answered = Failure<u32, Error<promises::Failed>>;

/// A fallback that has no answer, whatever the call.
#[derive(Clone, Copy, Debug)]
struct Declines;

impl<Saved, Res, E> Answer<Saved, Res, E> for Declines {
    type Future = Pending<Option<Res>>;

    fn answer(&self, _: Saved, failure: Failure<Res, E>) -> Reply<Res, E, Self::Future> {
        Reply::Declined(failure)
    }
}

// It refuses by chance, in `call`, and so makes none of the promises about layers that refuse all calls.
contract!(throttle, ThrottleLayer::new(ThrottleConfig::new()));
contract!(throttle_that_counts_refusals, ThrottleLayer::new(ThrottleConfig::new().counts_refusals(true)));
contract!(rate_limit, RateLimitLayer::new(plenty()));
contract!(answers rate_limit_by_key, RateLimitLayer::keyed(plenty(), |_: &Request| Some(1)).cost(|_: &Request| 2));
// A clone of the service waits, so one is needed.
contract!(clones rate_limit_that_waits, RateLimitLayer::new(plenty()).waits());
contract!(clones rate_limit_at_which_all_calls_wait, all_wait());

fn plenty() -> RateLimitConfig {
    RateLimitConfig::new(Quota::per_second(1_000_000_000))
}

fn all_wait() -> RateLimitLayer<SharedQuota, UnitCost, Waits> {
    let config = RateLimitConfig::new(Quota::per_second(1_000).burst(1)).max_wait(Duration::MAX);
    let layer = RateLimitLayer::new(config).waits();
    assert!(layer.handle().try_take(1).is_ok());
    layer
}

contract!(timeout, TimeoutLayer::new(patient()));
contract!(timeout_with_readiness, TimeoutLayer::new(patient().includes_readiness(true)));
contract!(timeout_by_deadline_only, TimeoutLayer::new(TimeoutConfig::new().limit(Limit::Deadline)));
contract!(timeout_that_measures, measured());
contract!(timeout_of_attempts_over_bodies, TimeoutLayer::new(over_bodies()));

/// Not over in the time that a contract waits.
fn patient() -> TimeoutConfig {
    TimeoutConfig::new().limit(Limit::Fixed(Duration::from_secs(86_400)))
}

fn over_bodies() -> TimeoutConfig {
    patient().scope(Scope::Attempt).covers(Covers::Body).idle(Duration::from_secs(86_400))
}

fn measured() -> TimeoutLayer {
    let limit =
        Limit::Adaptive { quantile: 0.99, factor: 2.0, min: Duration::from_secs(86_400), max: Duration::MAX };
    TimeoutLayer::new(patient().limit(limit).min_remaining(MinRemaining::Measured(0.5)))
}

/// Probes again at once when a trial call has failed, and lends out no more slots than the contract asks for.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().open_for(Duration::ZERO).probes(2)
}

fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config())
}

fn timing() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config().slow_after(Duration::from_secs(1)))
}

fn probing(layer: CircuitBreakerLayer) -> CircuitBreakerLayer {
    layer.handle().trip();
    assert!(layer.handle().probe());
    layer
}

fn held_open(layer: &CircuitBreakerLayer) -> impl Sized + use<> {
    struct Held(CircuitBreakerHandle);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.reset();
        }
    }

    layer.handle().force_open();
    Held(layer.handle())
}

fn every_slot_taken(layer: &CircuitBreakerLayer) -> Vec<Permit> {
    std::iter::from_fn(|| layer.handle().try_acquire().ok()).collect()
}

/// The checks themselves: a layer that breaks a promise does not pass.
mod checks {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Waker};

    use stanchion::Error;
    use tower::{Layer, Service};

    use super::promises::{self, Failed, Probe, Request};

    macro_rules! finds {
        ($test:ident, $fault:ident, $promise:ident, $complaint:literal $(, $refuse:expr)?) => {
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = $complaint)]
            async fn $test() {
                promises::$promise(|| Faulty::new(Fault::$fault) $(, $refuse)?).await;
            }
        };
    }

    finds!(
        a_layer_that_swallows_pending_is_found,
        SwallowsPending,
        inner_is_called_only_once_it_is_ready,
        "to an instance that had not said it is ready"
    );
    finds!(
        a_layer_that_calls_a_fresh_clone_is_found,
        CallsAFreshClone,
        inner_is_called_only_once_it_is_ready,
        "to an instance that had not said it is ready"
    );
    finds!(
        a_layer_that_loses_the_waker_is_found,
        LosesTheWaker,
        inner_that_is_not_ready_holds_the_layer_back_and_wakes_it,
        "not woken"
    );
    finds!(
        a_layer_that_leaks_dropped_calls_is_found,
        LeaksDroppedCalls,
        a_call_dropped_at_any_poll_gives_everything_back,
        "waits for ever"
    );
    finds!(
        a_layer_that_a_panic_poisons_is_found,
        IsPoisonedByAPanic,
        a_panic_in_call_is_survived,
        "PoisonError"
    );
    finds!(
        a_layer_that_forgets_the_inner_is_found,
        ForgetsTheInner,
        a_call_dropped_at_any_poll_gives_everything_back,
        "something of the inner service is still alive"
    );
    finds!(
        a_layer_that_fails_in_poll_ready_is_found,
        FailsInPollReady,
        refuses_without_polling_an_inner_that_is_stuck,
        "poll_ready fails",
        Faulty::refuse
    );
    finds!(
        a_layer_that_asks_the_inner_first_is_found,
        AsksTheInnerFirst,
        refuses_without_polling_an_inner_that_is_stuck,
        "the inner service was asked",
        Faulty::refuse
    );
    finds!(
        a_layer_that_does_not_refuse_is_found,
        LeaksDroppedCalls,
        all_services_of_all_clones_refuse_together,
        "let through",
        Faulty::refuse
    );
    finds!(
        a_layer_that_wakes_nobody_is_found,
        WakesNobody,
        who_waits_is_woken_when_calls_are_admitted,
        "one who waits was not woken",
        Faulty::refuse
    );

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        SwallowsPending,
        CallsAFreshClone,
        LosesTheWaker,
        LeaksDroppedCalls,
        IsPoisonedByAPanic,
        ForgetsTheInner,
        FailsInPollReady,
        AsksTheInnerFirst,
        WakesNobody,
    }

    #[derive(Clone, Debug)]
    struct Faulty {
        fault: Fault,
        refuses: Arc<AtomicBool>,
        calls: Arc<AtomicU32>,
        lock: Arc<Mutex<()>>,
    }

    impl Faulty {
        fn new(fault: Fault) -> Self {
            Self { fault, refuses: Arc::default(), calls: Arc::default(), lock: Arc::default() }
        }

        fn refuse(&self) -> Refusing {
            self.refuses.store(true, Ordering::Relaxed);
            Refusing(Arc::clone(&self.refuses))
        }
    }

    struct Refusing(Arc<AtomicBool>);

    impl Drop for Refusing {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }

    impl Layer<Probe> for Faulty {
        type Service = FaultyService;

        fn layer(&self, inner: Probe) -> FaultyService {
            FaultyService { inner, layer: self.clone() }
        }
    }

    #[derive(Clone, Debug)]
    struct FaultyService {
        inner: Probe,
        layer: Faulty,
    }

    impl Service<Request> for FaultyService {
        type Response = u32;
        type Error = Error<Failed>;
        type Future = Pin<Box<dyn Future<Output = Result<u32, Error<Failed>>> + Send + Sync>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            let refuses = self.layer.refuses.load(Ordering::Relaxed);
            let calls = self.layer.calls.load(Ordering::Relaxed);
            match self.layer.fault {
                Fault::SwallowsPending => Poll::Ready(Ok(())),
                Fault::LosesTheWaker => self.inner.poll_ready(&mut Context::from_waker(Waker::noop())),
                Fault::LeaksDroppedCalls if calls > 3 => Poll::Pending,
                Fault::FailsInPollReady if refuses => Poll::Ready(Err(Error::Inner(Failed(0)))),
                Fault::WakesNobody if refuses => Poll::Pending,
                _ => self.inner.poll_ready(cx),
            }
        }

        fn call(&mut self, request: Request) -> Self::Future {
            let _locked =
                (self.layer.fault == Fault::IsPoisonedByAPanic).then(|| self.layer.lock.lock().unwrap());
            if self.layer.fault == Fault::ForgetsTheInner {
                std::mem::forget(self.inner.clone());
            }
            if self.layer.fault == Fault::CallsAFreshClone {
                return Box::pin(self.inner.clone().call(request));
            }
            let inner = self.inner.call(request);
            let calls = Arc::clone(&self.layer.calls);
            calls.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let answer = inner.await;
                calls.fetch_sub(1, Ordering::Relaxed);
                answer
            })
        }
    }
}
