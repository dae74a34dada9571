//! Turns that are taken and not used when they come: given up, lost on the way, or late.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Is ready or not, and can be copied or not, as it is told.
#[derive(Debug, Default)]
struct Fickle {
    is_closed: Arc<AtomicBool>,
    is_copied_no_more: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Clone for Fickle {
    fn clone(&self) -> Self {
        assert!(!self.is_copied_no_more.load(Ordering::Relaxed), "it is not to be copied");
        Self {
            is_closed: Arc::clone(&self.is_closed),
            is_copied_no_more: Arc::clone(&self.is_copied_no_more),
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<u32> for Fickle {
    type Response = u32;
    type Error = Failure;
    type Future = Ready<Result<u32, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.is_closed.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, number: u32) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(number))
    }
}

fn waits_long(quota: Quota) -> RateLimitConfig {
    RateLimitConfig::new(quota).max_wait(3_600 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_came_while_the_service_failed_to_get_ready_is_given_back() {
    #[derive(Clone)]
    struct Fails;
    impl Service<u32> for Fails {
        type Response = u32;
        type Error = Failure;
        type Future = Ready<Result<u32, Failure>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            Poll::Ready(Err(Error::Inner(Fault("closed"))))
        }

        fn call(&mut self, _: u32) -> Self::Future {
            panic!("it is not ready")
        }
    }
    let layer = RateLimitLayer::new(waits_long(Quota::per_second(1))).waits();
    let (handle, mut service) = (layer.handle(), layer.layer(Fails));
    assert!(handle.try_take(1).is_ok());
    let waiting = service.call(1);
    assert_eq!(waiting.await, Err(Error::Inner(Fault("closed"))));
    assert_eq!(handle.available(), 1, "nothing was called");
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_waiting_calls_were_cancelled_makes_room_as_soon_as_it_is_idle() {
    for looks_between in [0, 1, 40] {
        let config = waits_long(Quota::per_second(1)).max_keys(1);
        let layer = RateLimitLayer::keyed(config, |key: &u32| Some(*key)).waits();
        let (handle, mut service) = (layer.handle(), layer.layer(service_fn(echo)));
        let mut calls: Vec<_> = (0..3_000).map(|_| task::spawn(service.call(1))).collect();
        for _ in 0..looks_between {
            assert!(handle.try_take_for(&2_u32, 1).is_err(), "there is no room");
        }
        // The last first, so that each gives its turn back.
        while let Some(call) = calls.pop() {
            drop(call);
        }
        advance(2 * SECOND).await;
        assert_eq!(handle.available_for(&1_u32), 1);
        assert!(handle.try_take_for(&2_u32, 1).is_ok(), "after {looks_between} looks");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_long_says_how_soon_to_look_again() {
    let config = waits_long(Quota::per_second(1)).max_keys(1);
    let layer = RateLimitLayer::keyed(config, |key: &u32| Some(*key)).waits();
    let (handle, mut service) = (layer.handle(), layer.layer(service_fn(echo)));
    let _calls: Vec<_> = (0..100).map(|_| task::spawn(service.call(1))).collect();
    for _ in 0..50 {
        let rejected = handle.try_take_for(&2_u32, 1).unwrap_err();
        assert_eq!(rejected.reason(), Reason::TooManyKeys);
        let after = rejected.retry_after().unwrap();
        assert!(after > Duration::ZERO && after <= SECOND, "{after:?}");
        advance(after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_when_it_is_copied_takes_no_turn_along() {
    let fickle = Fickle::default();
    let is_copied_no_more = Arc::clone(&fickle.is_copied_no_more);
    let layer = RateLimitLayer::new(waits_long(Quota::per_second(1))).waits();
    let mut service = layer.layer(fickle);
    assert!(call(&mut service, 1).await.is_ok());
    is_copied_no_more.store(true, Ordering::Relaxed);
    for _ in 0..50 {
        assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(1)))).is_err());
    }
    is_copied_no_more.store(false, Ordering::Relaxed);
    let began = Instant::now();
    assert!(call(&mut service, 1).await.is_ok());
    assert_eq!(began.elapsed(), SECOND);
}

/// What the quota counts are turns: one that has come is kept for as long as the service is not ready.
#[tokio::test(start_paused = true)]
async fn calls_whose_turns_came_while_the_service_was_not_ready_begin_when_it_is() {
    let fickle = Fickle::default();
    let (is_closed, begun) = (Arc::clone(&fickle.is_closed), Arc::clone(&fickle.calls));
    let mut service = RateLimitLayer::new(waits_long(Quota::per_second(1))).waits().layer(fickle);
    assert!(call(&mut service, 0).await.is_ok());
    let mut calls: Vec<_> = (1..=10).map(|number| task::spawn(service.call(number))).collect();
    is_closed.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
        advance(SECOND).await;
    }
    is_closed.store(false, Ordering::Relaxed);
    calls.retain_mut(|call| call.poll().is_pending());
    assert_eq!((begun.load(Ordering::Relaxed), calls.len()), (1 + 5, 5), "those whose turn has come");
}
