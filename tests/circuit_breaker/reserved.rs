//! A trial call that is reserved in `poll_ready`, and a task that asks while that is done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Readiness};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service, service_fn};

use super::{Failure, SECOND};

type PollReady = Box<dyn FnMut(&mut Context<'_>) -> Poll<Result<(), Failure>> + Send>;

/// A task that asks again as soon as it is woken, the first time, and counts how often it is woken after that.
#[derive(Default)]
struct AsksAtOnce {
    poll_ready: Mutex<Option<PollReady>>,
    woken: AtomicUsize,
}

impl Wake for AsksAtOnce {
    fn wake(self: Arc<Self>) {
        let poll_ready = self.poll_ready.lock().expect("no test panics with it").take();
        if let Some(mut poll_ready) = poll_ready {
            let waker = Waker::from(Arc::clone(&self));
            assert_pending!(poll_ready(&mut Context::from_waker(&waker)));
            // The service goes on waiting.
            std::mem::forget(poll_ready);
        } else {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn poll_ready_of(layer: &CircuitBreakerLayer) -> PollReady {
    let mut service = layer.layer(service_fn(|()| async { Ok::<_, Failure>(()) }));
    Box::new(move |cx| service.poll_ready(cx))
}

#[tokio::test(start_paused = true)]
async fn a_task_that_asks_while_a_trial_call_is_reserved_is_woken_when_that_call_is_never_made() {
    let config = CircuitBreakerConfig::new().probes(1);
    for config in [config.clone().probe_timeout(10 * SECOND), config.without_probe_timeout()] {
        let layer = CircuitBreakerLayer::new(config).readiness(Readiness::Pending);
        layer.handle().trip_for(SECOND);
        let (mut one, mut other) = (poll_ready_of(&layer), poll_ready_of(&layer));
        let task = Arc::new(AsksAtOnce::default());
        assert_pending!(other(&mut Context::from_waker(&Waker::from(Arc::clone(&task)))));
        tokio::time::advance(SECOND).await;
        *task.poll_ready.lock().unwrap() = Some(other);
        assert_ready_ok!(one(&mut Context::from_waker(Waker::noop())));
        assert!(task.poll_ready.lock().unwrap().is_none(), "the other task has asked again");
        task.woken.store(0, Ordering::Relaxed);
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(task.woken.load(Ordering::Relaxed), 1);
    }
}
