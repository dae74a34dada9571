//! User code that a fallback runs (`Clone`, `Eq`, `Drop`) and that calls back into the fallback.

use std::sync::OnceLock;

use stanchion::fallback::StaleHandle;

use super::*;

type Handle = Arc<OnceLock<StaleHandle<Curious, Curious>>>;

/// Inspects the store whenever it is cloned, compared or dropped.
#[derive(Default)]
struct Curious {
    number: u32,
    handle: Handle,
}

impl Curious {
    fn look(&self) {
        if let Some(handle) = self.handle.get() {
            assert!(handle.len() <= 1);
        }
    }
}

impl Clone for Curious {
    fn clone(&self) -> Self {
        self.look();
        Self { number: self.number, handle: Arc::clone(&self.handle) }
    }
}

impl PartialEq for Curious {
    fn eq(&self, other: &Self) -> bool {
        self.look();
        self.number == other.number
    }
}

impl Eq for Curious {}

impl std::hash::Hash for Curious {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.look();
        self.number.hash(state);
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.look();
    }
}

#[tokio::test(start_paused = true)]
async fn responses_and_keys_may_use_the_store_reentrantly() {
    let handle = Handle::default();
    let curious = |number| Curious { number, handle: Arc::clone(&handle) };
    let key = |(key, _): &(u32, Option<u32>)| Some(curious(*key));
    let layer = FallbackLayer::stale(StaleConfig::new().max_keys(1), key);
    let _ = handle.set(layer.handle());
    let service = layer.layer(service_fn(|(_, answer): (u32, Option<u32>)| {
        ready(answer.map(curious).ok_or(Failed::Inner(Fault("failed"))))
    }));
    let call = |key, answer| service.clone().oneshot((key, answer));
    assert_eq!(call(1, Some(10)).await.map(|answer| answer.number), Ok(10));
    assert_eq!(call(1, None).await.map(|answer| answer.number), Ok(10));
    assert_eq!(call(1, Some(11)).await.map(|answer| answer.number), Ok(11));
    assert_eq!(call(2, Some(20)).await.map(|answer| answer.number), Ok(20));
    assert!(call(1, None).await.is_err());
    assert_eq!(call(2, None).await.map(|answer| answer.number), Ok(20));
    layer.handle().clear();
    assert!(call(2, None).await.is_err());
}

type ToReentrant = FallbackLayer<stanchion::fallback::FallbackService<Reentrant>, fn(&Outcome)>;

/// Calls its own fallback whenever it is cloned.
#[derive(Default)]
struct Reentrant {
    layer: Arc<OnceLock<ToReentrant>>,
    clones: Arc<AtomicU32>,
}

impl Clone for Reentrant {
    fn clone(&self) -> Self {
        let is_first = self.clones.fetch_add(1, Ordering::Relaxed) == 0;
        if let Some(layer) = self.layer.get().filter(|_| is_first) {
            let mut nested = task::spawn(layer.layer(backend()).oneshot(failed()));
            assert_pending!(nested.poll(), "it is cloned already");
            assert!(nested.is_woken(), "it tries again");
        }
        Self { layer: Arc::clone(&self.layer), clones: Arc::clone(&self.clones) }
    }
}

impl Service<()> for Reentrant {
    type Response = u32;
    type Error = fmt::Error;
    type Future = std::future::Ready<Result<u32, fmt::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), fmt::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(7))
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_service_may_call_the_fallback_from_clone() {
    let service = Reentrant::default();
    let (layer, clones) = (Arc::clone(&service.layer), Arc::clone(&service.clones));
    let keep: fn(&Outcome) = |_| ();
    assert!(layer.set(FallbackLayer::service(service).keep(keep)).is_ok());
    let layer = layer.get().unwrap();
    for calls in 1..4 {
        assert_eq!(layer.layer(backend()).oneshot(failed()).await, Ok(7));
        assert_eq!(clones.load(Ordering::Relaxed), calls);
    }
}

/// A service that panics is not lost to later calls.
#[tokio::test(start_paused = true)]
async fn a_fallback_service_that_panics_in_clone_serves_the_next_call() {
    struct Fickle(Arc<AtomicU32>);

    impl Clone for Fickle {
        fn clone(&self) -> Self {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) != 0, "not now");
            Self(Arc::clone(&self.0))
        }
    }

    impl Service<()> for Fickle {
        type Response = u32;
        type Error = fmt::Error;
        type Future = std::future::Ready<Result<u32, fmt::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), fmt::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(7))
        }
    }

    let layer = FallbackLayer::service(Fickle(Arc::default())).keep(|_: &Outcome| ());
    let mut first = task::spawn(layer.layer(backend()).oneshot(failed()));
    assert!(catch_unwind(AssertUnwindSafe(|| first.poll())).is_err());
    assert_eq!(layer.layer(backend()).oneshot(failed()).await, Ok(7));
}
