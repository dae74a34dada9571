//! What every layer promises to whoever calls it through tower, as checks that know nothing of the layer.
//!
//! Each `async fn` that is visible to the crate is one promise. It is given a maker of layers, begins with a
//! new one for each check, and puts it around a [`Probe`]: an inner service that writes down what is done to
//! it, and knows what of it is still alive. Time is paused, so a call that waits for ever fails instead.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, Ready, poll_fn, ready};
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project::pin_project;
use stanchion::Error;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service};

/// How often in a row a layer is treated badly, before it has to work again.
const OFTEN: usize = 5;

// The inner service.

/// The error of the [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) u32);

impl std::error::Error for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed with {}", self.0)
    }
}

/// A call: how often its future is not ready yet, and how it ends. Not `Clone`.
#[derive(Debug)]
pub(crate) struct Request {
    polls: u32,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answer(u32),
    Fail(u32),
    Panic,
    /// Does not even get as far as to make a future.
    PanicInCall,
}

impl Request {
    fn new(end: End) -> Self {
        Self { polls: 0, end }
    }

    fn after(self, polls: u32) -> Self {
        Self { polls, ..self }
    }

    /// For layers that call more than once.
    pub(crate) fn again(&self) -> Self {
        Self { ..*self }
    }
}

/// What `poll_ready` of the [`Probe`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Ready,
    Busy,
    Broken(u32),
    Panicking,
}

/// What was done to a [`Probe`] and its clones, and what of them is alive.
#[derive(Debug, Default)]
pub(crate) struct Log {
    mood: Mutex<Mood>,
    waiting: Mutex<Option<Waker>>,
    ready_polls: AtomicUsize,
    calls: AtomicUsize,
    unready_calls: AtomicUsize,
    /// Instances that said they are ready, and were neither called nor dropped since.
    slots: AtomicUsize,
    futures: AtomicUsize,
}

impl Log {
    fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        if let Some(waker) = self.waiting.lock().unwrap().take() {
            waker.wake();
        }
    }

    fn ready_polls(&self) -> usize {
        self.ready_polls.load(Ordering::Relaxed)
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    #[track_caller]
    fn assert_no_unready_call(&self) {
        let unready = self.unready_calls.load(Ordering::Relaxed);
        assert_eq!(
            unready,
            0,
            "{unready} of {} calls to an instance that had not said it is ready",
            self.calls()
        );
    }

    #[track_caller]
    fn assert_no_future_alive(&self) {
        assert_eq!(
            self.futures.load(Ordering::Relaxed),
            0,
            "futures of the inner service that are still alive"
        );
    }
}

/// Counts one more of something for as long as it lives.
#[derive(Debug)]
struct Alive(Arc<Log>, fn(&Log) -> &AtomicUsize);

impl Alive {
    fn new(log: &Arc<Log>, of: fn(&Log) -> &AtomicUsize) -> Self {
        of(log).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(log), of)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// An inner service that objects to a call without readiness. Its clones are not ready.
#[derive(Debug)]
pub(crate) struct Probe {
    log: Arc<Log>,
    slot: Option<Alive>,
}

impl Probe {
    fn new(log: &Arc<Log>) -> Self {
        Self { log: Arc::clone(log), slot: None }
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::new(&self.log)
    }
}

impl Service<Request> for Probe {
    type Response = u32;
    type Error = Error<Failed>;
    type Future = Work;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.log.ready_polls.fetch_add(1, Ordering::Relaxed);
        let mood = *self.log.mood.lock().unwrap();
        match mood {
            Mood::Ready => {
                self.slot.get_or_insert_with(|| Alive::new(&self.log, |log| &log.slots));
                Poll::Ready(Ok(()))
            }
            Mood::Busy => {
                *self.log.waiting.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            }
            Mood::Broken(code) => Poll::Ready(Err(Error::Inner(Failed(code)))),
            Mood::Panicking => panic!("poll_ready of the inner service"),
        }
    }

    fn call(&mut self, request: Request) -> Work {
        self.log.calls.fetch_add(1, Ordering::Relaxed);
        if self.slot.take().is_none() {
            self.log.unready_calls.fetch_add(1, Ordering::Relaxed);
        }
        assert_ne!(request.end, End::PanicInCall, "call of the inner service");
        Work { request, _alive: Alive::new(&self.log, |log| &log.futures), _pinned: PhantomPinned }
    }
}

/// The future of the [`Probe`]; must not be moved once it was polled.
#[pin_project]
#[derive(Debug)]
pub(crate) struct Work {
    request: Request,
    _alive: Alive,
    #[pin]
    _pinned: PhantomPinned,
}

impl Future for Work {
    type Output = Result<u32, Error<Failed>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let request = self.project().request;
        if let Some(left) = request.polls.checked_sub(1) {
            request.polls = left;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match request.end {
            End::Answer(code) => Poll::Ready(Ok(code)),
            End::Fail(code) => Poll::Ready(Err(Error::Inner(Failed(code)))),
            End::Panic | End::PanicInCall => panic!("future of the inner service"),
        }
    }
}

// The layer around it.

/// A layer that fits around the [`Probe`].
pub(crate) trait Subject:
    Layer<Probe, Service: Service<Request, Response = u32, Error = Error<Failed>> + Clone>
{
}

impl<L> Subject for L where
    L: Layer<Probe, Service: Service<Request, Response = u32, Error = Error<Failed>> + Clone>
{
}

/// A layer, what it made, and what the inner service says about it.
struct Setup<L: Subject> {
    layer: L,
    service: L::Service,
    log: Arc<Log>,
}

impl<L: Subject> Setup<L> {
    fn new(make: impl Fn() -> L) -> Self {
        let (layer, log) = (make(), Arc::default());
        let service = layer.layer(Probe::new(&log));
        Self { layer, service, log }
    }

    /// Both the service and a new one of the same layer answer calls.
    async fn works(&mut self) {
        works(&mut self.service, &self.log).await;
        works(&mut self.layer.layer(Probe::new(&self.log)), &self.log).await;
    }

    /// Drops everything, and looks whether it is gone.
    #[track_caller]
    fn finish(self) {
        let Self { layer, service, log } = self;
        drop((layer, service));
        log.assert_no_unready_call();
        log.assert_no_future_alive();
        assert_eq!(log.slots.load(Ordering::Relaxed), 0, "instances that are ready and still alive");
        assert_eq!(Arc::strong_count(&log), 1, "something of the inner service is still alive");
    }
}

/// Fails instead of waiting for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let eternity = Duration::from_secs(86_400);
    tokio::time::timeout(eternity, future).await.expect("waits for ever")
}

async fn is_ready<S: Service<R>, R>(service: &mut S) -> Result<(), S::Error> {
    soon(poll_fn(|cx| service.poll_ready(cx))).await
}

async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    is_ready(service).await?;
    soon(service.call(request)).await
}

async fn works<S>(service: &mut S, log: &Log)
where
    S: Service<Request, Response = u32, Error = Error<Failed>>,
{
    let before = log.calls();
    assert_eq!(call(service, Request::new(End::Answer(41)).after(2)).await, Ok(41), "does not work any more");
    assert_eq!(log.calls(), before + 1, "the inner service was not called exactly once");
    log.assert_no_unready_call();
    log.assert_no_future_alive();
}

/// One poll with the waker of `task`.
fn poll_ready<S: Service<Request>>(
    service: &mut S,
    task: &mut task::Spawn<()>,
) -> Poll<Result<(), S::Error>> {
    task.enter(|cx, _| service.poll_ready(cx))
}

#[track_caller]
fn assert_panics<R>(part: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(part)).is_err(), "the panic did not come through");
}

/// A call that may take time: polled over and over, it would keep paused time from going on.
async fn assert_call_panics<F: Future>(call: impl FnOnce() -> F) {
    let mut call = Box::pin(async { call().await });
    let panics = soon(poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(polled) => polled.map(|_| false),
        Err(_) => Poll::Ready(true),
    }));
    assert!(panics.await, "the panic did not come through");
}

// Readiness.

pub(crate) async fn inner_is_called_only_once_it_is_ready<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    for _ in 0..OFTEN {
        it.works().await;
    }
    it.finish();
}

pub(crate) async fn inner_that_is_not_ready_holds_the_layer_back_and_wakes_it<L: Subject>(
    make: impl Fn() -> L,
) {
    let mut it = Setup::new(make);
    it.log.mood(Mood::Busy);
    let mut task = task::spawn(());
    for _ in 0..OFTEN {
        assert_pending!(poll_ready(&mut it.service, &mut task));
        assert!(!task.is_woken(), "woken while the inner service is not ready");
    }
    it.log.mood(Mood::Ready);
    assert!(task.is_woken(), "not woken though the inner service is ready");
    assert_eq!(assert_ready!(poll_ready(&mut it.service, &mut task)), Ok(()));
    it.works().await;
    it.finish();
}

pub(crate) async fn the_last_task_that_polled_is_the_one_that_is_woken<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    it.log.mood(Mood::Busy);
    let (mut first, mut last) = (task::spawn(()), task::spawn(()));
    assert_pending!(poll_ready(&mut it.service, &mut first));
    assert_pending!(poll_ready(&mut it.service, &mut last));
    it.log.mood(Mood::Ready);
    assert!(last.is_woken());
    assert_eq!(assert_ready!(poll_ready(&mut it.service, &mut last)), Ok(()));
    it.works().await;
    it.finish();
}

pub(crate) async fn poll_ready_may_be_repeated<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    for _ in 0..OFTEN {
        is_ready(&mut it.service).await.unwrap();
    }
    let mut other = it.layer.layer(Probe::new(&it.log));
    works(&mut other, &it.log).await;
    drop(other);
    it.works().await;
    it.finish();
}

pub(crate) async fn a_ready_service_may_be_dropped_without_a_call<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    for _ in 0..OFTEN {
        is_ready(&mut it.service.clone()).await.unwrap();
    }
    it.works().await;
    assert_eq!(it.log.calls(), 2);
    it.finish();
}

pub(crate) async fn a_clone_of_a_ready_service_works_beside_it<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    is_ready(&mut it.service).await.unwrap();
    let mut clone = it.service.clone();
    works(&mut clone, &it.log).await;
    assert_eq!(soon(it.service.call(Request::new(End::Answer(7)))).await, Ok(7));
    it.works().await;
    drop(clone);
    it.finish();
}

pub(crate) async fn ten_thousand_clones_work_and_leave_nothing_behind<L: Subject>(make: impl Fn() -> L) {
    let it = Setup::new(make);
    let mut clones = vec![it.service.clone(); 10_000];
    for clone in &mut clones {
        works(clone, &it.log).await;
    }
    drop(clones);
    it.finish();
}

// Results.

pub(crate) async fn answers_and_errors_pass_unchanged<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    for polls in 0..4 {
        let request = |end| Request::new(end).after(polls);
        assert_eq!(call(&mut it.service, request(End::Answer(polls))).await, Ok(polls));
        let failed = Error::Inner(Failed(polls));
        assert_eq!(call(&mut it.service, request(End::Fail(polls))).await, Err(failed));
    }
    it.works().await;
    it.finish();
}

pub(crate) async fn a_failed_poll_ready_passes_unchanged_and_is_survived<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    it.log.mood(Mood::Broken(3));
    for _ in 0..OFTEN {
        assert_eq!(is_ready(&mut it.service).await, Err(Error::Inner(Failed(3))));
    }
    assert_eq!(it.log.calls(), 0);
    it.log.mood(Mood::Ready);
    it.works().await;
    it.finish();
}

pub(crate) async fn a_pending_call_is_woken_and_may_move_to_another_task<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    is_ready(&mut it.service).await.unwrap();
    let mut call = Box::pin(it.service.call(Request::new(End::Answer(7)).after(2)));
    let mut woken = 0;
    while woken < 2 {
        let mut task = task::spawn(());
        assert_pending!(task.enter(|cx, _| call.as_mut().poll(cx)));
        // One that waits before it reaches the service is woken by time.
        let waits = it.log.futures.load(Ordering::Relaxed) == 0;
        if waits {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(task.is_woken(), "the inner future's wake-up did not arrive");
        woken += u32::from(!waits);
    }
    assert_eq!(soon(call).await, Ok(7));
    it.works().await;
    it.finish();
}

// Calls that do not end.

pub(crate) async fn a_call_dropped_at_any_poll_gives_everything_back<L: Subject>(make: impl Fn() -> L) {
    for needed in 0..4 {
        for polled in 0..=needed {
            let mut it = Setup::new(&make);
            for _ in 0..OFTEN {
                is_ready(&mut it.service).await.unwrap();
                let mut call = task::spawn(it.service.call(Request::new(End::Answer(1)).after(needed)));
                for _ in 0..polled {
                    assert_pending!(call.poll());
                }
                drop(call);
                it.log.assert_no_future_alive();
            }
            it.works().await;
            it.finish();
        }
    }
}

pub(crate) async fn a_panic_in_call_is_survived<L: Subject>(make: impl Fn() -> L) {
    survives(make, Request::new(End::PanicInCall)).await;
}

pub(crate) async fn a_panic_in_the_future_is_survived<L: Subject>(make: impl Fn() -> L) {
    survives(&make, Request::new(End::Panic)).await;
    survives(&make, Request::new(End::Panic).after(2)).await;
}

async fn survives<L: Subject>(make: impl Fn() -> L, bad: Request) {
    let mut it = Setup::new(make);
    for _ in 0..OFTEN {
        is_ready(&mut it.service).await.unwrap();
        let request = Request::new(bad.end).after(bad.polls);
        assert_call_panics(|| it.service.call(request)).await;
        it.log.assert_no_future_alive();
    }
    it.works().await;
    it.finish();
}

pub(crate) async fn a_panic_in_poll_ready_is_survived<L: Subject>(make: impl Fn() -> L) {
    let mut it = Setup::new(make);
    it.log.mood(Mood::Panicking);
    for _ in 0..OFTEN {
        assert_panics(|| poll_ready(&mut it.service, &mut task::spawn(())));
    }
    it.log.mood(Mood::Ready);
    it.works().await;
    it.finish();
}

// Bounds. The `where` of each of these is the promise.

/// Nothing here is `Send`, `Sync` or `Clone`.
#[derive(Debug)]
pub(crate) struct Local(Rc<Cell<u32>>);

impl std::error::Error for Local {}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed with {}", self.0.get())
    }
}

impl Service<Self> for Local {
    type Response = Self;
    type Error = Error<Self>;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error<Self>>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Self) -> Self::Future {
        self.0.set(self.0.get() + 1);
        Box::pin(async move { if request.0.get() == 0 { Ok(request) } else { Err(Error::Inner(request)) } })
    }
}

pub(crate) async fn inner_request_and_answer_may_be_neither_send_nor_clone<L>(make: impl Fn() -> L)
where
    L: Layer<Local, Service: Service<Local, Response = Local, Error = Error<Local>>>,
{
    let count = Rc::new(Cell::new(0));
    let mut service = make().layer(Local(Rc::clone(&count)));
    for number in [0, 1] {
        let answer = call(&mut service, Local(Rc::new(Cell::new(number)))).await;
        assert_eq!(answer.is_ok(), number == 0);
    }
    assert_eq!(count.get(), 2);
}

/// An error that lives no longer than the caller's stack frame.
#[derive(Debug, PartialEq)]
pub(crate) struct Cut<'a>(&'a str);

impl std::error::Error for Cut<'_> {}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A service whose requests and all that comes of them live no longer than the caller's stack frame.
#[derive(Debug)]
pub(crate) struct Trim;

impl<'a> Service<&'a str> for Trim {
    type Response = &'a str;
    type Error = Error<Cut<'a>>;
    type Future = Ready<Result<&'a str, Error<Cut<'a>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &'a str) -> Self::Future {
        ready(Ok(request.trim()))
    }
}

pub(crate) async fn request_answer_and_error_may_borrow<L>(make: impl Fn() -> L)
where
    L: Layer<Trim>,
    for<'a> L::Service: Service<&'a str, Response = &'a str, Error = Error<Cut<'a>>>,
{
    let mut service = make().layer(Trim);
    let text = String::from(" short-lived ");
    assert_eq!(call(&mut service, text.as_str()).await, Ok("short-lived"));
}

/// A service that lives no longer than what it looks at, and so does its future.
#[derive(Debug)]
pub(crate) struct Looks<'a>(&'a Cell<u32>);

impl<'a> Service<()> for Looks<'a> {
    type Response = u32;
    type Error = Error<Failed>;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Error<Failed>>> + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let Self(seen) = *self;
        Box::pin(async { Ok(seen.get()) })
    }
}

pub(crate) async fn inner_may_borrow<L>(make: impl Fn() -> L)
where
    L: for<'a> Layer<Looks<'a>>,
    for<'a> <L as Layer<Looks<'a>>>::Service: Service<(), Response = u32, Error = Error<Failed>>,
{
    let seen = Cell::new(7);
    let mut service = make().layer(Looks(&seen));
    assert_eq!(call(&mut service, ()).await, Ok(7));
}

/// As axum and others ask for it.
pub(crate) async fn a_layer_is_send_and_sync_as_its_inner_is<L>(make: impl Fn() -> L)
where
    L: Subject + Clone + fmt::Debug + Send + Sync + 'static,
    L::Service: Service<Request, Future: Send + Sync + 'static> + fmt::Debug + Unpin + Send + Sync + 'static,
{
    let mut it = Setup::new(make);
    let service = it.layer.clone().layer(Probe::new(&it.log));
    let task = tokio::spawn(async move {
        let mut service = service;
        call(&mut service, Request::new(End::Answer(7)).after(2)).await
    });
    assert_eq!(soon(task).await.unwrap(), Ok(7));
    it.works().await;
    it.finish();
}

// While the layer refuses.

/// What a caller finds at a layer that refuses all calls.
enum Refusal {
    /// It is told so.
    Told,
    /// It has to wait.
    Waits,
}

/// Asks a service that is to refuse; it may not touch the inner service, nor fail in `poll_ready`.
async fn refused<S>(service: &mut S, log: &Log) -> Refusal
where
    S: Service<Request, Response = u32, Error = Error<Failed>>,
{
    let (polls, calls) = (log.ready_polls(), log.calls());
    let refusal = match poll_ready(service, &mut task::spawn(())) {
        Poll::Pending => Refusal::Waits,
        Poll::Ready(Err(error)) => panic!("poll_ready fails with {error:?}"),
        Poll::Ready(Ok(())) => match soon(service.call(Request::new(End::Answer(1)))).await {
            Err(Error::Rejected(rejected)) => {
                assert!(!rejected.reached_service());
                assert!(!rejected.layer().is_empty());
                Refusal::Told
            }
            answer => panic!("let through: {answer:?}"),
        },
    };
    assert_eq!(log.calls(), calls, "the inner service was called");
    assert_eq!(log.ready_polls(), polls, "the inner service was asked whether it is ready");
    refusal
}

pub(crate) async fn refuses_without_polling_an_inner_that_is_stuck<L: Subject, G>(
    make: impl Fn() -> L,
    refuse: impl Fn(&L) -> G,
) {
    let mut it = Setup::new(make);
    let refusing = refuse(&it.layer);
    it.log.mood(Mood::Busy);
    for _ in 0..OFTEN {
        refused(&mut it.service, &it.log).await;
    }
    drop(refusing);
    it.log.mood(Mood::Ready);
    it.works().await;
    it.finish();
}

pub(crate) async fn all_services_of_all_clones_refuse_together<L: Subject + Clone, G>(
    make: impl Fn() -> L,
    refuse: impl Fn(&L) -> G,
) {
    let mut it = Setup::new(make);
    let refusing = refuse(&it.layer);
    let made_earlier = it.service.clone();
    let made_by_a_clone = it.layer.clone().layer(Probe::new(&it.log));
    let made_later = it.layer.layer(Probe::new(&it.log));
    for mut service in [made_earlier, made_by_a_clone, made_later] {
        refused(&mut service, &it.log).await;
    }
    drop(refusing);
    it.works().await;
    it.finish();
}

pub(crate) async fn a_refused_call_may_be_dropped<L: Subject, G>(
    make: impl Fn() -> L,
    refuse: impl Fn(&L) -> G,
) {
    let mut it = Setup::new(make);
    let refusing = refuse(&it.layer);
    for _ in 0..OFTEN {
        if poll_ready(&mut it.service, &mut task::spawn(())).is_ready() {
            drop(it.service.call(Request::new(End::Answer(1))));
        }
    }
    assert_eq!(it.log.calls(), 0);
    drop(refusing);
    it.works().await;
    it.finish();
}

pub(crate) async fn who_waits_is_woken_when_calls_are_admitted<L: Subject, G>(
    make: impl Fn() -> L,
    refuse: impl Fn(&L) -> G,
) {
    let mut it = Setup::new(make);
    let refusing = refuse(&it.layer);
    let mut services = [(); 2].map(|()| (it.service.clone(), task::spawn(())));
    let (mut abandoned, mut former) = (it.service.clone(), task::spawn(()));
    let mut waits = 0;
    for (service, task) in &mut services {
        // Not the task that waits in the end.
        let _ = poll_ready(service, &mut former);
        if poll_ready(service, task).is_pending() {
            waits += 1;
        }
    }
    let _ = poll_ready(&mut abandoned, &mut former);
    drop(abandoned);
    assert!(waits == 0 || waits == services.len(), "only some wait");
    drop(refusing);
    if waits > 0 {
        for (service, task) in &mut services {
            assert!(task.is_woken(), "one who waits was not woken");
            assert_eq!(assert_ready!(poll_ready(service, task)), Ok(()));
        }
    }
    drop(services);
    it.works().await;
    it.finish();
}

pub(crate) async fn a_refusal_does_not_use_up_the_readiness_of_the_inner<L: Subject, G>(
    make: impl Fn() -> L,
    refuse: impl Fn(&L) -> G,
) {
    let mut it = Setup::new(make);
    is_ready(&mut it.service).await.unwrap();
    let refusing = refuse(&it.layer);
    // Whether it is refused depends on when the layer admits: by now, or with the readiness.
    let _ = soon(it.service.call(Request::new(End::Answer(1)))).await;
    drop(refusing);
    it.log.assert_no_unready_call();
    works(&mut it.service, &it.log).await;
    it.finish();
}
