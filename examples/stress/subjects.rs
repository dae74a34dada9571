//! What is put under stress: each layer alone, and all of them together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stanchion::adaptive_limit::Aimd;
use stanchion::admission::{AdmissionHandle, Limit, MinRemaining, Snapshot};
use stanchion::circuit_breaker::{CircuitBreakerHandle, Readiness};
use stanchion::hedge::HedgeDelay;
use stanchion::rate_limit::Quota;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, Budget, BudgetConfig, BulkheadConfig, BulkheadLayer,
    CallAttributes, CircuitBreakerConfig, CircuitBreakerLayer, Criticality, Deadline, FallbackLayer,
    HedgeConfig, HedgeLayer, Partition, PartitionConfig, PriorityShares, QueueDiscipline, RateLimitConfig,
    RateLimitLayer, RetryConfig, RetryLayer, StaleConfig, Tenant, ThrottleConfig, ThrottleLayer,
    TimeoutConfig, TimeoutLayer, Window,
};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use crate::books::{Listener, Told};
use crate::service::{Book, Wild};

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

pub(crate) type Erased = BoxCloneSyncService<u32, u32, BoxError>;
type Operate = dyn Fn(&mut fastrand::Rng) + Send + Sync;
type Check = dyn Fn() -> Vec<String> + Send + Sync;

/// A layer or a stack, with the books of the services below it.
#[derive(Clone)]
pub(crate) struct Subject {
    name: &'static str,
    make: Arc<dyn Fn() -> Erased + Send + Sync>,
    operate: Arc<Operate>,
    /// What is wrong when nothing is under way any more.
    check: Arc<Check>,
    book: Arc<Book>,
    told: Arc<Told>,
}

/// A call, or a part of one: some callers ask whether the service is ready and leave.
pub(crate) async fn call(service: &mut Erased, mut random: fastrand::Rng) -> Result<u32, BoxError> {
    let ready = service.ready().await?;
    if random.u8(..) < 8 {
        return Ok(0);
    }
    ready.call(random.u32(..)).await
}

impl Subject {
    fn new<L, S>(name: &'static str, layer: impl FnOnce(Listener) -> L) -> Self
    where
        L: Layer<Wild, Service = S> + Send + Sync + 'static,
        S: Service<u32, Response = u32, Error = BoxError, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let (book, told) = (Arc::new(Book::default()), Arc::new(Told::default()));
        let (layer, below) = (layer(Listener(Arc::clone(&told))), Arc::clone(&book));
        let make = move || BoxCloneSyncService::new(layer.layer(Wild::new(&below)));
        let (operate, check) = (Arc::new(|_: &mut fastrand::Rng| {}), Arc::new(Vec::new));
        Self { name, make: Arc::new(make), operate, check, book, told }
    }

    fn operated(self, operate: impl Fn(&mut fastrand::Rng) + Send + Sync + 'static) -> Self {
        Self { operate: Arc::new(operate), ..self }
    }

    fn checked(self, check: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { check: Arc::new(check), ..self }
    }

    pub(crate) fn service(&self) -> Erased {
        (self.make)()
    }

    pub(crate) fn operate(&self, random: &mut fastrand::Rng) {
        (self.operate)(random);
    }

    /// Whether the books are balanced, now that nobody calls any more.
    pub(crate) async fn balance(&self) -> bool {
        self.book.behaves.store(true, Ordering::SeqCst);
        let mut wrong = (self.check)();
        let mut expect = |what: &str, found: &dyn fmt::Debug, is_right: bool| {
            if !is_right {
                wrong.push(format!("{what}: {found:?}"));
            }
        };
        let in_flight = self.book.in_flight();
        expect("calls of the service that never ended", &in_flight, in_flight == 0);
        let unready = self.book.unready.load(Ordering::SeqCst);
        expect("calls of a service that was not ready", &unready, unready == 0);
        let under_way = self.told.under_way();
        expect("gauges of calls in flight and queued", &under_way, under_way == [0, 0]);
        let began = self.book.began.load(Ordering::SeqCst);
        expect("calls of the service", &began, began > 1_000);
        println!(
            "{:34} {began:9} calls of the service{}",
            self.name,
            if wrong.is_empty() { "" } else { ", WRONG:" }
        );
        for wrong in &wrong {
            println!("    {wrong}");
        }
        wrong.is_empty()
    }
}

pub(crate) fn subjects() -> Vec<Subject> {
    vec![
        breaker("circuit breaker", Readiness::Reject),
        breaker("circuit breaker, pending", Readiness::Pending),
        bulkhead("bulkhead"),
        waiting_bulkhead("bulkhead that waits"),
        backpressure("bulkhead with backpressure"),
        adaptive("adaptive limit that waits"),
        rate_limit("rate limit that waits, by key"),
        throttle("throttle"),
        timeout("timeout, with readiness"),
        retry("retry"),
        hedge("hedge"),
        stale("fallback"),
        stack("all of them"),
    ]
}

fn breaker_config(random: &mut fastrand::Rng) -> CircuitBreakerConfig {
    let window =
        if random.bool() { Window::calls(random.u32(1..200)) } else { Window::time(random.u32(1..200) * MS) };
    let config = CircuitBreakerConfig::new()
        .window(window)
        .min_calls(random.u32(1..20))
        .failure_ratio(0.3 + random.f64() / 2.0)
        .open_for(random.u32(0..2_000) * US)
        .probes(random.u32(1..5));
    let config = if random.bool() { config.slow_after(random.u32(0..3_000) * US) } else { config };
    let config = if random.bool() { config.probe_timeout(random.u32(1..5_000) * US) } else { config };
    let config = if random.bool() { config.consecutive_failures(random.u32(1..9)) } else { config };
    if random.bool() { config.ramp(random.u32(0..5_000) * US) } else { config }
}

fn operate_breaker(handle: &CircuitBreakerHandle, random: &mut fastrand::Rng) {
    match random.u8(..11) {
        0 => handle.reset(),
        1 => drop(handle.trip()),
        2 => drop(handle.trip_for(random.u32(0..2_000) * US)),
        3 => drop(handle.probe()),
        4 => handle.force_open_for(random.u32(0..2_000) * US),
        5 => handle.disable(),
        6 => handle.observe_only(),
        7 => {
            handle.force_open();
            handle.reset();
        }
        8 => handle.restore(&handle.save()),
        // It may be refused, if what chance made is not valid.
        _ => drop(handle.reconfigure(breaker_config(random))),
    }
}

fn breaker(name: &'static str, readiness: Readiness) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer =
            CircuitBreakerLayer::new(CircuitBreakerConfig::new()).observer(listener).readiness(readiness);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let (operated, book, told) = (handle.clone(), Arc::clone(&subject.book), Arc::clone(&subject.told));
    subject.operated(move |random| operate_breaker(&operated, random)).checked(move || {
        let mut wrong = Vec::new();
        let [began, failed, calls] =
            [&book.began, &book.failed_to_be_ready, &told.calls].map(|count| count.load(Ordering::SeqCst));
        // A service that fails to be ready may do so while the circuit lets no call through.
        if calls < began || calls > began + failed {
            wrong.push(format!("{calls} calls were recorded, of {began} and {failed} that were not ready"));
        }
        wrong.extend(probe_and_close(&handle));
        wrong
    })
}

/// A circuit that is opened probes with as many calls as it should, and closes.
fn probe_and_close(handle: &CircuitBreakerHandle) -> Vec<String> {
    let config = CircuitBreakerConfig::new().probes(3).open_for(Duration::ZERO);
    handle.reconfigure(config).expect("it is valid");
    // It may only observe.
    handle.reset();
    handle.trip_for(Duration::ZERO);
    let probes: Vec<_> = (0..10).filter_map(|_| handle.try_acquire().ok()).collect();
    let mut wrong = Vec::new();
    if probes.len() != 3 {
        wrong.push(format!("{} probes at a time, and not 3", probes.len()));
    }
    for probe in probes {
        probe.finish(stanchion::classify::Outcome::success());
    }
    if handle.try_acquire().is_err() {
        wrong.push(format!("a circuit whose probes went well is {}", handle.state()));
    }
    wrong
}

/// There is room for as many as the limit says, and for no more.
fn no_permit_is_missing<L: Limit>(handle: &AdmissionHandle<L>) -> Vec<String> {
    let mut wrong = Vec::new();
    let Snapshot { in_flight, max_in_flight, queued, .. } = handle.snapshot();
    if (in_flight, queued) != (0, 0) {
        wrong.push(format!("{in_flight} in flight and {queued} queued at rest"));
    }
    let critical = CallAttributes::new().criticality(Criticality::CRITICAL);
    let permits: Vec<_> =
        (0..2 * max_in_flight).map_while(|_| handle.try_acquire_for(&critical).ok()).collect();
    if permits.len() != max_in_flight as usize {
        wrong.push(format!("{} permits of {max_in_flight}", permits.len()));
    }
    wrong
}

fn bulkhead(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer = BulkheadLayer::new(BulkheadConfig::new().max_in_flight(4)).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| operated.resize(random.u32(1..8)).expect("it is valid"))
        .checked(move || no_permit_is_missing(&handle))
}

fn claim(request: &u32) -> CallAttributes {
    let claim = CallAttributes::new()
        .criticality(Criticality::level((request % 101) as u8))
        .tenant(Tenant::of(request % 7));
    match request % 5 {
        0 => claim.deadline(Deadline::after(request % 2_000 * US)),
        1 => claim.partition(Partition::named("batch")),
        _ => claim,
    }
}

fn admission(random: &mut fastrand::Rng, config: BulkheadConfig) -> BulkheadConfig {
    let discipline = match random.u8(..3) {
        0 => QueueDiscipline::OldestFirst,
        1 => QueueDiscipline::AdaptiveLifo { target: US * 500, interval: 2 * MS },
        _ => QueueDiscipline::ControlledDelay { target: US * 500, interval: 2 * MS },
    };
    let config =
        config.max_queued(random.usize(0..20)).max_wait(random.u32(0..5_000) * US).discipline(discipline);
    let config = if random.bool() { config.headroom(PriorityShares::RECOMMENDED) } else { config };
    if random.bool() { config.min_remaining(MinRemaining::Measured(0.5)) } else { config }
}

fn waiting_bulkhead(name: &'static str) -> Subject {
    let mut handle = None;
    let parts = || [PartitionConfig::new("batch", 0.3)];
    let subject = Subject::new(name, |listener| {
        let config = BulkheadConfig::new().max_in_flight(4).max_queued(8).max_wait(MS).partitions(parts());
        let layer = BulkheadLayer::waiting(config).attributes(claim).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| {
            let config = BulkheadConfig::new().max_in_flight(random.u32(1..8)).partitions(parts());
            drop(operated.reconfigure(admission(random, config)));
        })
        .checked(move || {
            let config = BulkheadConfig::new().max_in_flight(6).max_queued(8).partitions([]);
            drop(handle.reconfigure(config));
            let Snapshot { in_flight, queued, .. } = handle.snapshot();
            let is_at_rest = (in_flight, queued) == (0, 0);
            if is_at_rest {
                Vec::new()
            } else {
                vec![format!("{in_flight} in flight and {queued} queued at rest")]
            }
        })
}

fn backpressure(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        // Each caller may keep a service that has taken a permit ahead of a call.
        let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(20)).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| operated.resize(random.u32(17..30)).expect("it is valid"))
        .checked(move || no_permit_is_missing(&handle))
}

fn adaptive(name: &'static str) -> Subject {
    let mut handle = None;
    let config = |random: &mut fastrand::Rng| {
        AdaptiveLimitConfig::new()
            .algorithm(Aimd::new())
            .min_limit(random.u32(1..3))
            .initial_limit(random.u32(3..6))
            .max_limit(random.u32(6..12))
            .window(random.u32(10..30) * MS)
            .min_calls(random.u32(1..9))
            .max_queued(random.usize(0..9))
    };
    let subject = Subject::new(name, |listener| {
        let layer = AdaptiveLimitLayer::waiting(config(&mut fastrand::Rng::new()))
            .attributes(claim)
            .observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| {
            drop(operated.reconfigure(config(random)));
            let (limit, config) = (operated.snapshot().max_in_flight, operated.config());
            // Another change may have come in between only if there were two operators.
            assert!(limit <= config.max_limit, "a limit of {limit} above {}", config.max_limit);
        })
        .checked(move || no_permit_is_missing(&handle))
}

fn rate_limit(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let config = RateLimitConfig::new(Quota::per_second(100_000).burst(100)).max_wait(2 * MS).max_keys(8);
        let layer =
            RateLimitLayer::keyed(config, |request: &u32| Some(request % 10)).waits().observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| {
            let quota = Quota::per_second(random.u32(1_000..1_000_000)).burst(random.u32(1..200));
            let config =
                RateLimitConfig::new(quota).max_wait(random.u32(0..5_000) * US).max_keys(random.u32(1..12));
            drop(operated.reconfigure(config));
        })
        .checked(move || {
            let keys = handle.keys();
            if keys <= 16 { Vec::new() } else { vec![format!("{keys} keys are held")] }
        })
}

fn throttle(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer = ThrottleLayer::new(ThrottleConfig::new()).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| {
            let config =
                ThrottleConfig::new().window(random.u32(1..500) * MS).headroom(1.0 + random.f64() * 3.0);
            drop(operated.reconfigure(config));
        })
        .checked(move || {
            let snapshot = handle.snapshot();
            if snapshot.accepted <= snapshot.sent { Vec::new() } else { vec![format!("{snapshot:?}")] }
        })
}

fn timeout_config(random: &mut fastrand::Rng) -> TimeoutConfig {
    let limit = match random.u8(..3) {
        0 => stanchion::timeout::Limit::Fixed(random.u32(1..3_000) * US),
        1 => stanchion::timeout::Limit::Deadline,
        _ => stanchion::timeout::Limit::Adaptive { quantile: 0.9, factor: 2.0, min: 100 * US, max: 5 * MS },
    };
    TimeoutConfig::new().limit(limit).includes_readiness(random.bool())
}

fn timeout(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer = TimeoutLayer::new(TimeoutConfig::new().includes_readiness(true)).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    subject.operated(move |random| drop(handle.reconfigure(timeout_config(random))))
}

fn retry_config(random: &mut fastrand::Rng) -> RetryConfig {
    let backoff = Backoff::exponential(random.u32(0..200) * US).cap(random.u32(200..1_000) * US);
    RetryConfig::new().max_attempts(random.u32(1..5)).backoff(backoff).ready_within(random.u32(0..1_000) * US)
}

/// No more than its cap.
fn is_within_its_cap(budget: &Budget) -> Vec<String> {
    let balance = budget.balance();
    if (0.0..=10.0).contains(&balance) { Vec::new() } else { vec![format!("a budget of {balance}")] }
}

fn small_budget() -> Budget {
    Budget::new(BudgetConfig::new().ratio(0.5).cap(10.0))
}

fn retry(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer = RetryLayer::new(RetryConfig::new()).budget(small_budget()).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| drop(operated.reconfigure(retry_config(random))))
        .checked(move || is_within_its_cap(handle.budget()))
}

fn hedge_config(random: &mut fastrand::Rng) -> HedgeConfig {
    let delay = if random.bool() {
        HedgeDelay::Fixed(random.u32(0..1_000) * US)
    } else {
        HedgeDelay::quantile(0.5 + random.f64() / 3.0)
    };
    HedgeConfig::new().delay(delay).max_hedges(random.u32(0..4)).min_samples(random.u32(1..9))
}

fn hedge(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let layer = HedgeLayer::new(HedgeConfig::new()).budget(small_budget()).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| drop(operated.reconfigure(hedge_config(random))))
        .checked(move || is_within_its_cap(handle.budget()))
}

fn stale(name: &'static str) -> Subject {
    let mut handle = None;
    let subject = Subject::new(name, |listener| {
        let config = StaleConfig::new().max_keys(100).max_age(5 * MS);
        let layer = FallbackLayer::stale(config, |request: &u32| Some(request % 200)).observer(listener);
        handle = Some(layer.handle());
        layer
    });
    let handle = handle.expect("it was set just now");
    let operated = handle.clone();
    subject
        .operated(move |random| {
            if random.u8(..) == 0 {
                operated.clear();
            }
        })
        .checked(move || {
            let held = handle.len();
            if held <= 100 { Vec::new() } else { vec![format!("{held} answers are held")] }
        })
}

fn stack(name: &'static str) -> Subject {
    let mut handles = None;
    let subject = Subject::new(name, |listener| {
        let budget = small_budget();
        let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).observer(listener.clone());
        let bulkhead = BulkheadConfig::new().max_in_flight(8).max_queued(8).max_wait(MS);
        let bulkhead = BulkheadLayer::waiting(bulkhead).observer(listener);
        let timeout = TimeoutLayer::new(TimeoutConfig::new().includes_readiness(true));
        let retry = RetryLayer::new(RetryConfig::new()).budget(budget.clone());
        let hedge = HedgeLayer::new(HedgeConfig::new()).budget(budget);
        handles =
            Some((breaker.handle(), bulkhead.handle(), timeout.handle(), retry.handle(), hedge.handle()));
        ServiceBuilder::new()
            .layer(FallbackLayer::value(0).on_rejections())
            .layer(timeout)
            .layer(retry)
            .layer(hedge)
            .layer(ThrottleLayer::new(ThrottleConfig::new()))
            .layer(RateLimitLayer::new(Quota::per_second(1_000_000)).waits())
            .layer(bulkhead)
            .layer(breaker)
            .layer(TimeoutLayer::per_attempt(3 * MS))
            .into_inner()
    });
    let (breaker, bulkhead, timeout, retry, hedge) = handles.expect("they were set just now");
    let (operated, limited) = (breaker.clone(), bulkhead.clone());
    subject
        .operated(move |random| match random.u8(..5) {
            0 => operate_breaker(&operated, random),
            1 => limited.resize(random.u32(1..16)).expect("it is valid"),
            2 => drop(timeout.reconfigure(timeout_config(random))),
            3 => drop(retry.reconfigure(retry_config(random))),
            _ => drop(hedge.reconfigure(hedge_config(random))),
        })
        .checked(move || {
            let mut wrong = no_permit_is_missing(&bulkhead);
            wrong.extend(probe_and_close(&breaker));
            wrong
        })
}
