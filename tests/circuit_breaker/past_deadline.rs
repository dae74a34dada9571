//! What calls usually take, and what follows from it for a call that its caller's deadline cut off.

use std::future::pending;
use std::time::Duration;

use stanchion::circuit_breaker::{CircuitBreakerHandle, State};
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Reason, Rejected, Window};
use tokio::time::sleep;

use super::SECOND;

const MS: Duration = Duration::from_millis(1);

fn circuit(config: CircuitBreakerConfig) -> CircuitBreakerHandle {
    CircuitBreakerLayer::new(config).handle()
}

fn by_calls() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().window(Window::calls(100))
}

async fn good(handle: &CircuitBreakerHandle, takes: Duration) -> bool {
    let call = async {
        sleep(takes).await;
        Ok::<_, Rejected>(())
    };
    handle.run(call).await.is_ok()
}

/// Returns `true` if the call reached the service.
async fn cut_off_after(handle: &CircuitBreakerHandle, before: Duration, given: Duration) -> bool {
    let call = async {
        sleep(before).await;
        if tokio::time::timeout(given, pending::<()>()).await.is_ok() {
            return Ok(());
        }
        let rejected = Rejected::new(Reason::DeadlineExceeded, "timeout");
        Err(rejected.with_limit(given).with_reached_service(true))
    };
    handle.run(call).await.is_err_and(|error| error.reached_service())
}

async fn cut_off(handle: &CircuitBreakerHandle, given: Duration) -> bool {
    cut_off_after(handle, Duration::ZERO, given).await
}

#[tokio::test(start_paused = true)]
async fn what_was_usual_long_ago_hides_no_hang_of_a_window_of_calls() {
    let handle = circuit(by_calls());
    for (calls, takes) in [(30, 2 * SECOND), (10_000, 10 * MS)] {
        for _ in 0..calls {
            assert!(good(&handle, takes).await);
        }
    }
    for _ in 0..1_000 {
        cut_off(&handle, SECOND).await;
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_become_slower_is_not_cut_off_by_impatient_callers() {
    let handle = circuit(by_calls());
    for (calls, takes) in [(30, 10 * MS), (10_000, 2 * SECOND)] {
        for _ in 0..calls {
            assert!(good(&handle, takes).await);
        }
    }
    for _ in 0..500 {
        assert!(cut_off(&handle, SECOND).await);
        assert!(handle.snapshot().failures <= 1);
        assert!(good(&handle, 2 * SECOND).await);
    }
    assert_eq!(handle.state(), State::Closed);
}

/// As with a retry between the circuit and the timeout: the limit in the error is that of the last attempt.
#[tokio::test(start_paused = true)]
async fn a_call_has_had_the_time_of_all_its_attempts() {
    for at_once in [1, 20] {
        let handle = circuit(CircuitBreakerConfig::new().window(Window::time(100 * SECOND)));
        for _ in 0..20 {
            assert!(good(&handle, SECOND / 2).await);
        }
        for _ in 0..200 / at_once {
            let calls = (0..at_once).map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { cut_off_after(&handle, 800 * MS, 400 * MS).await })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap();
            }
        }
        assert_eq!(handle.state(), State::Open, "{at_once} at once");
    }
}

#[tokio::test(start_paused = true)]
async fn with_slow_calls_switched_on_a_hang_behind_short_deadlines_is_seen() {
    let handle = circuit(CircuitBreakerConfig::new().slow_after(10 * SECOND));
    for _ in 0..100 {
        assert!(good(&handle, 10 * MS).await);
    }
    for _ in 0..1_000 {
        cut_off(&handle, 5 * SECOND / 20).await;
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn impatient_trial_calls_do_not_keep_a_hanging_service_busy() {
    let handle = circuit(CircuitBreakerConfig::new().window(Window::time(100 * SECOND)));
    for _ in 0..30 {
        assert!(good(&handle, 2 * SECOND).await);
    }
    let mut reached = 0;
    for _ in 0..3_600 {
        tokio::join!(sleep(SECOND), async { reached += u32::from(cut_off(&handle, SECOND).await) });
    }
    assert!(reached < 400, "{reached} of 3,600 calls reached the service");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_excuses_as_many_impatient_callers_as_it_makes_trial_calls() {
    let handle = circuit(CircuitBreakerConfig::new().probes(3));
    for _ in 0..20 {
        assert!(good(&handle, 2 * SECOND).await);
    }
    handle.trip_for(Duration::ZERO);
    for call in 0..6 {
        assert!(cut_off(&handle, SECOND).await, "call {call}");
    }
    assert_eq!(handle.state(), State::Open);
}

#[cfg(feature = "http")]
mod with_bodies {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use stanchion::Error;
    use stanchion::http::Http;
    use tokio::time::Sleep;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;

    struct Lasting(Pin<Box<Sleep>>);

    impl Body for Lasting {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.as_mut().poll(cx).map(|()| None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_calls_usually_take_ends_with_the_headers() {
        let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().window(Window::time(100 * SECOND)));
        let handle = layer.handle();
        let layer = layer.protocol(Http::new());
        let service = layer.layer(service_fn(|()| async {
            Ok::<_, Error<Infallible>>(http::Response::new(Lasting(Box::pin(sleep(30 * SECOND)))))
        }));
        for _ in 0..5 {
            let mut body = service.clone().oneshot(()).await.unwrap().into_body();
            while std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some() {}
        }
        for _ in 0..40 {
            cut_off(&handle, 5 * SECOND).await;
        }
        assert_eq!(handle.state(), State::Open);
    }
}
