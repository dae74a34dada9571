//! Calls that would wait for longer than their deadline allows.

use std::cell::Cell;

use stanchion::Deadline;
use stanchion::protocol::RequestContext;

use super::*;

/// When it is to be answered, and how often that was asked.
#[derive(Clone, Debug, Default)]
struct Asked(Arc<AtomicUsize>);

#[derive(Clone, Copy, Debug)]
struct Due(Option<Deadline>);

impl RequestContext<Due> for Asked {
    fn deadline(&self, request: &Due) -> Option<Deadline> {
        self.0.fetch_add(1, Ordering::Relaxed);
        request.0
    }
}

fn within(left: Duration) -> Due {
    Due(Some(Deadline::after(left)))
}

async fn answer(_: Due) -> Result<(), Failure> {
    Ok(())
}

/// One call each 100 ms, for as long a wait as may be.
fn patient() -> RateLimitConfig {
    RateLimitConfig::new(ten_per_second(1)).max_wait(Duration::MAX)
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_not_end_before_the_deadline_is_refused_at_once() {
    let layer = RateLimitLayer::new(patient()).waits().protocol(Asked::default());
    let mut service = layer.layer(service_fn(answer));
    assert!(call(&mut service, Due(None)).await.is_ok());
    for left in [100 * MS, 60 * MS, Duration::ZERO] {
        let began = Instant::now();
        let rejected = refusal(&mut service, within(left)).await;
        assert_eq!((rejected.reason(), rejected.limit()), (Reason::DeadlineExceeded, Some(left)));
        assert_eq!((rejected.retry_after(), rejected.reached_service()), (None, false));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_for_its_deadline_takes_nothing_of_the_quota() {
    let layer = RateLimitLayer::new(patient()).waits().protocol(Asked::default());
    let mut service = layer.layer(service_fn(answer));
    assert!(call(&mut service, Due(None)).await.is_ok());
    for _ in 0..10 {
        refusal(&mut service, within(60 * MS)).await;
    }
    let began = Instant::now();
    assert!(call(&mut service, Due(None)).await.is_ok());
    assert_eq!(began.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_before_the_deadline_is_waited_for() {
    let mut service =
        RateLimitLayer::new(patient()).waits().protocol(Asked::default()).layer(service_fn(answer));
    assert!(call(&mut service, Due(None)).await.is_ok());
    let began = Instant::now();
    assert!(call(&mut service, within(101 * MS)).await.is_ok());
    assert_eq!(began.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_without_a_deadline_is_told_as_such() {
    let config = patient().max_wait(50 * MS);
    let mut service =
        RateLimitLayer::new(config).waits().protocol(Asked::default()).layer(service_fn(answer));
    assert!(call(&mut service, Due(None)).await.is_ok());
    let rejected = refusal(&mut service, within(20 * MS)).await;
    assert_eq!((rejected.reason(), rejected.retry_after()), (Reason::RateLimited, Some(100 * MS)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_looked_up_only_for_a_call_that_would_wait() {
    let asked = Asked::default();
    let lookups = || asked.0.load(Ordering::Relaxed);
    let layer = || RateLimitLayer::new(ten_per_second(2)).protocol(asked.clone()).cost(|_: &Due| 1);
    let mut refuses = layer().layer(service_fn(answer));
    let mut waits = layer().waits().layer(service_fn(answer));
    for service in [&mut refuses as &mut dyn Calls, &mut waits] {
        assert!(service.made(within(Duration::ZERO)), "whose turn is now");
        assert!(service.made(within(Duration::ZERO)));
    }
    assert!(!refuses.made(within(Duration::ZERO)));
    assert_eq!(lookups(), 0);
    assert!(!waits.made(within(Duration::ZERO)));
    assert_eq!(lookups(), 1);
    let hopeless = RateLimitConfig::new(ten_per_second(1)).max_wait(Duration::ZERO);
    let mut hopeless =
        RateLimitLayer::new(hopeless).waits().protocol(asked.clone()).layer(service_fn(answer));
    assert!(hopeless.made(within(SECOND)) && !hopeless.made(within(SECOND)));
    assert_eq!(lookups(), 1, "no deadline makes it shorter");
}

/// A service whose calls take no time.
trait Calls {
    fn made(&mut self, request: Due) -> bool;
}

impl<S: Service<Due, Error = Failure>> Calls for S {
    fn made(&mut self, request: Due) -> bool {
        let called = task::spawn(call(self, request)).poll();
        assert_ready!(called).is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_has_a_deadline_as_well() {
    let layer = RateLimitLayer::keyed(patient(), |due: &Due| Some(due.0.is_some())).waits();
    let mut service = layer.protocol(Asked::default()).layer(service_fn(answer));
    assert!(call(&mut service, within(MS)).await.is_ok());
    assert_eq!(refusal(&mut service, within(MS)).await.reason(), Reason::DeadlineExceeded);
    let began = Instant::now();
    assert!(call(&mut service, within(SECOND)).await.is_ok());
    assert_eq!(began.elapsed(), 100 * MS);
}

thread_local! {
    static MEANWHILE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// Something happens while the deadline is looked up.
#[derive(Clone, Debug)]
struct Interrupted;

impl RequestContext<Due> for Interrupted {
    fn deadline(&self, request: &Due) -> Option<Deadline> {
        if let Some(happens) = MEANWHILE.take() {
            happens();
        }
        request.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_another_call_has_taken_meanwhile_is_not_blamed_on_the_deadline() {
    let config = patient().max_wait(100 * MS);
    let mut service = RateLimitLayer::new(config).waits().protocol(Interrupted).layer(service_fn(answer));
    assert!(call(&mut service, Due(None)).await.is_ok());
    let mut other = service.clone();
    MEANWHILE.set(Some(Box::new(move || std::mem::forget(other.call(Due(None))))));
    let rejected = refusal(&mut service, within(SECOND)).await;
    assert_eq!((rejected.reason(), rejected.retry_after()), (Reason::RateLimited, Some(200 * MS)));
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn http_requests_bring_their_deadline_along() {
    use stanchion::http::Http;

    let request = |left: Duration| {
        let mut request = http::Request::new(());
        request.extensions_mut().insert(Deadline::after(left));
        request
    };
    let inner = service_fn(|_: http::Request<()>| ready(Ok::<_, Failure>(())));
    let mut service = RateLimitLayer::new(patient()).waits().protocol(Http::new()).layer(inner);
    assert!(call(&mut service, request(MS)).await.is_ok());
    assert_eq!(refusal(&mut service, request(99 * MS)).await.reason(), Reason::DeadlineExceeded);
    assert!(call(&mut service, request(SECOND)).await.is_ok());
}

/// Another one may come between the look at the quota and the wait.
#[tokio::test]
async fn the_quota_is_kept_by_threads_whose_calls_have_deadlines() {
    let config = RateLimitConfig::new(Quota::per(1, SECOND).burst(1)).max_wait(1_000 * SECOND);
    let layer = RateLimitLayer::new(config).waits().protocol(Asked::default());
    let service = layer.layer(service_fn(answer));
    let far = Deadline::after(100 * SECOND);
    let waiting: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let mut service = service.clone();
                let runtime = tokio::runtime::Handle::current();
                scope.spawn(move || {
                    let _entered = runtime.enter();
                    // They are kept, so that nobody gives a turn back.
                    let calls: Vec<_> = (0..100).map(|_| task::spawn(service.call(Due(Some(far))))).collect();
                    calls
                })
            })
            .collect();
        let calls: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        calls.into_iter().filter_map(|mut call| call.poll().is_pending().then_some(())).count()
    });
    assert!((95..=100).contains(&waiting), "{waiting}: one each second, until the deadline");
}
