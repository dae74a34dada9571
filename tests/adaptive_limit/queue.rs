//! Who waits while the limit is reached, and what becomes of them when it changes.

use crate::fault::Fault;
use stanchion::admission::MinRemaining;
use stanchion::{CallAttributes, Criticality, Deadline, Partition, QueueDiscipline, Rejected};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};

use super::*;

type Calls = Arc<Mutex<Vec<(u32, oneshot::Sender<()>)>>>;
type Waiting = Pin<Box<dyn Future<Output = Result<u32, Failure>>>>;

/// A limit behind which calls wait, and what is under way. The algorithm says what the test says.
struct Queue {
    handle: AdaptiveLimitHandle<Notes>,
    notes: Notes,
    calls: Calls,
}

impl Queue {
    fn new(
        limit: u32,
        change: impl FnOnce(AdaptiveLimitConfig<Notes>) -> AdaptiveLimitConfig<Notes>,
    ) -> Self {
        let notes = Notes::new();
        let config = notes.config().min_limit(1).initial_limit(limit).max_queued(100);
        let handle = AdaptiveLimitLayer::waiting(change(config)).handle();
        Self { handle, notes, calls: Calls::default() }
    }

    fn begin(&self, number: u32) -> task::Spawn<Waiting> {
        self.begin_for(&CallAttributes::new(), number)
    }

    fn begin_for(&self, claim: &CallAttributes, number: u32) -> task::Spawn<Waiting> {
        let calls = Arc::clone(&self.calls);
        let call = self.handle.run_for(claim, async move {
            let (sender, receiver) = oneshot::channel();
            calls.lock().unwrap().push((number, sender));
            receiver.await.map_err(|_| Error::Inner(Fault("gone")))?;
            Ok(number)
        });
        let mut call: task::Spawn<Waiting> = task::spawn(Box::pin(call));
        assert!(call.poll().is_pending());
        call
    }

    fn under_way(&self) -> Vec<u32> {
        self.calls.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    /// Lets a call end that is under way.
    fn end(&self, call: &mut task::Spawn<Waiting>, number: u32) {
        let mut calls = self.calls.lock().unwrap();
        let place = calls.iter().position(|(other, _)| *other == number).unwrap();
        let (_, sender) = calls.remove(place);
        drop(calls);
        sender.send(()).unwrap();
        assert!(matches!(call.poll(), Poll::Ready(Ok(answer)) if answer == number));
    }

    #[track_caller]
    fn assert_counts(&self, in_flight: u32, limit: u32, queued: usize) {
        let now = self.handle.snapshot();
        assert_eq!((now.in_flight, now.max_in_flight, now.queued), (in_flight, limit, queued));
    }
}

/// Polls those that were woken.
fn poll_woken(calls: &mut [task::Spawn<Waiting>]) {
    for call in calls.iter_mut().filter(|call| call.is_woken()) {
        assert!(call.poll().is_pending());
    }
}

fn rejected(answer: Poll<Result<u32, Failure>>) -> Rejected {
    match answer {
        Poll::Ready(Err(Error::Rejected(rejected))) => rejected,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_ends_no_call_and_lets_the_next_one_wait() {
    let queue = Queue::new(4, |config| config);
    let mut calls: Vec<_> = (0..7).map(|number| queue.begin(number)).collect();
    queue.assert_counts(4, 4, 3);
    queue.notes.set(2.0);
    advance(20 * MS).await;
    // The end of the first lowers the limit.
    for (number, left) in [(0, 3), (1, 2)] {
        queue.end(&mut calls[number as usize], number);
        queue.assert_counts(left, 2, 3);
        assert!(!calls[4].is_woken());
    }
    queue.end(&mut calls[2], 2);
    assert!(calls[4].is_woken() && !calls[5].is_woken());
    poll_woken(&mut calls);
    assert_eq!(queue.under_way(), [3, 4]);
    queue.assert_counts(2, 2, 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_rises_serves_those_who_wait_at_once() {
    let queue = Queue::new(2, |config| config);
    let mut calls: Vec<_> = (0..8).map(|number| queue.begin(number)).collect();
    queue.assert_counts(2, 2, 6);
    queue.notes.set(5.0);
    advance(20 * MS).await;
    queue.end(&mut calls[0], 0);
    let woken: Vec<_> = calls.iter().map(task::Spawn::is_woken).collect();
    assert_eq!(woken, [false, false, true, true, true, true, false, false]);
    poll_woken(&mut calls);
    assert_eq!(queue.under_way(), [1, 2, 3, 4, 5]);
    queue.assert_counts(5, 5, 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_rises_serves_those_of_a_partition_for_whom_there_is_room() {
    let of = |name| CallAttributes::new().partition(Partition::named(name));
    let queue = Queue::new(10, |config| config.partitions(partitions::WALLS));
    let mut live = queue.begin_for(&of("live"), 0);
    let batches: Vec<_> = (1..6).map(|number| queue.begin_for(&of("batch"), number)).collect();
    queue.assert_counts(4, 10, 2);
    queue.notes.set(15.0);
    advance(20 * MS).await;
    queue.end(&mut live, 0);
    let woken: Vec<_> = batches.iter().map(task::Spawn::is_woken).collect();
    assert_eq!(woken, [false, false, false, true, false], "four of fifteen are for batches");
    queue.assert_counts(4, 15, 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_call_waits_is_not_how_long_it_takes() {
    let queue = Queue::new(1, |config| config);
    let (mut first, mut second) = (queue.begin(0), queue.begin(1));
    advance(500 * MS).await;
    queue.end(&mut first, 0);
    assert!(second.poll().is_pending());
    // The next window is twice as long as this one took.
    advance(1_900 * MS).await;
    queue.end(&mut second, 1);
    let samples = queue.notes.samples.lock().unwrap();
    let latencies: Vec<_> = samples.iter().map(|sample| sample.latency.unwrap().as_secs_f64()).collect();
    assert!((latencies[0] - 0.5).abs() < 0.05 && (latencies[1] - 1.9).abs() < 0.1, "{samples:?}");
}

/// Nor is the time for which a service is ready with a permit taken ahead.
#[tokio::test(start_paused = true)]
async fn the_time_until_a_ready_service_is_called_is_not_how_long_a_call_takes() {
    let notes = Notes::new();
    let mut service = AdaptiveLimitLayer::backpressure(notes.config()).layer(Backend);
    service.ready().await.unwrap();
    sleep(SECOND).await;
    service.call(Ask::Answer(20 * MS)).await.unwrap();
    let samples = notes.samples.lock().unwrap();
    assert!(samples[0].latency.unwrap() < 25 * MS, "{samples:?}");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_tells_nothing_of_the_service() {
    let queue = Queue::new(1, |config| config.max_wait(SECOND));
    let mut held = queue.begin(0);
    let dropped = queue.begin(1);
    let mut waits = queue.begin(2);
    advance(SECOND / 2).await;
    drop(dropped);
    advance(SECOND).await;
    let refused = rejected(waits.poll());
    assert_eq!((refused.reason(), refused.reached_service()), (Reason::LimitTimeout, false));
    assert_eq!((refused.limit(), refused.retry_after()), (Some(SECOND), None));
    assert_eq!(refused.to_string(), "rejected by adaptive_limit: no room within the limit after 1s");
    queue.end(&mut held, 0);
    assert_eq!(queue.notes.calls(), (1, 0));
    queue.assert_counts(0, 1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_room_is_told_so() {
    let layer =
        AdaptiveLimitLayer::new(AdaptiveLimitConfig::new().min_limit(1).initial_limit(1)).name("search");
    let handle = layer.handle();
    let _held = handle.try_acquire().unwrap();
    let refused = handle.try_acquire().unwrap_err();
    assert_eq!((refused.reason(), refused.layer()), (Reason::LimitReached, "search"));
    assert_eq!((refused.retry_after(), refused.limit(), refused.reached_service()), (None, None, false));
    assert_eq!(refused.to_string(), "rejected by search: limit is reached");
    let refused = layer.layer(Backend).oneshot(Ask::Hang).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::LimitReached);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_answered_in_time_is_not_made() {
    let queue = Queue::new(1, |config| config.min_remaining(MinRemaining::Fixed(100 * MS)));
    let late = CallAttributes::new().deadline(Deadline::after(50 * MS));
    let refused = queue.handle.try_acquire_for(&late).unwrap_err();
    assert_eq!((refused.reason(), refused.limit()), (Reason::DeadlineExceeded, Some(50 * MS)));
    let mut held = queue.begin(0);
    let mut soon = queue.begin_for(&CallAttributes::new().deadline(Deadline::after(300 * MS)), 1);
    let mut later = queue.begin_for(&CallAttributes::new().deadline(Deadline::after(SECOND)), 2);
    advance(250 * MS).await;
    queue.end(&mut held, 0);
    assert_eq!(rejected(soon.poll()).reason(), Reason::DeadlineExceeded);
    assert!(later.poll().is_pending());
    assert_eq!(queue.under_way(), [2]);
}

#[tokio::test(start_paused = true)]
async fn critical_calls_come_first_and_may_use_all_of_a_limit_whatever_it_is() {
    let queue = Queue::new(10, |config| config.headroom(PriorityShares::RECOMMENDED));
    let claim = |criticality| CallAttributes::new().criticality(criticality);
    let (critical, sheddable) = (claim(Criticality::CRITICAL), claim(Criticality::SHEDDABLE));
    let room = |claim: &CallAttributes| {
        std::iter::from_fn(|| queue.handle.try_acquire_for(claim).ok()).collect::<Vec<_>>()
    };
    // One after another, with what those before have left.
    assert_eq!(
        (room(&sheddable).len(), room(&CallAttributes::new()).len(), room(&critical).len()),
        (5, 3, 2)
    );
    queue.notes.set(20.0);
    advance(20 * MS).await;
    end_window(&queue.handle).await;
    assert_eq!(
        (room(&sheddable).len(), room(&CallAttributes::new()).len(), room(&critical).len()),
        (10, 6, 4)
    );

    queue.notes.set(1.0);
    end_window(&queue.handle).await;
    let mut held = queue.begin_for(&critical, 0);
    let mut waits = [
        queue.begin_for(&sheddable, 1),
        queue.begin(2),
        queue.begin_for(&critical, 3),
        queue.begin_for(&critical, 4),
    ];
    queue.end(&mut held, 0);
    for number in [3, 4, 2, 1] {
        poll_woken(&mut waits);
        assert_eq!(queue.under_way(), [number]);
        let place = [1, 2, 3, 4].iter().position(|other| *other == number).unwrap();
        queue.end(&mut waits[place], number);
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_come_first_while_all_are_late() {
    let queue = Queue::new(1, |config| config.discipline(QueueDiscipline::adaptive_lifo()));
    let mut held = queue.begin(0);
    let mut old = queue.begin(1);
    advance(SECOND / 2).await;
    let mut new = [queue.begin(2), queue.begin(3)];
    queue.end(&mut held, 0);
    assert_eq!(rejected(old.poll()).reason(), Reason::LimitTimeout);
    poll_woken(&mut new);
    assert_eq!(queue.under_way(), [3]);
    queue.end(&mut new[1], 3);
    poll_woken(&mut new);
    assert_eq!(queue.under_way(), [2]);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_too_long_is_turned_away_when_delay_is_controlled() {
    let queue = Queue::new(1, |config| config.discipline(QueueDiscipline::controlled_delay()));
    let mut calls: Vec<_> = (0..4).map(|number| queue.begin(number)).collect();
    // All of an interval was too long, and so was the one before.
    for (number, wait) in [(0, 500 * MS), (1, 200 * MS)] {
        advance(wait).await;
        queue.end(&mut calls[number as usize], number);
        poll_woken(&mut calls);
        assert_eq!(queue.under_way(), [number + 1]);
    }
    let mut new = queue.begin(4);
    advance(MS).await;
    queue.end(&mut calls[2], 2);
    assert_eq!(rejected(calls[3].poll()).reason(), Reason::LimitTimeout);
    assert!(new.poll().is_pending());
    assert_eq!(queue.under_way(), [4]);
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_who_waits_for_a_limit_to_rise_becomes_ready() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::backpressure(notes.config().min_limit(1).initial_limit(1));
    let (mut one, mut other) = (layer.layer(Backend), layer.layer(Backend));
    one.ready().await.unwrap();
    let first = one.call(Ask::Answer(20 * MS));
    let began = Instant::now();
    let waits = tokio::spawn(async move {
        other.ready().await.unwrap();
        let held = other.clone();
        pending::<()>().await;
        drop((other, held));
    });
    let mut third = layer.layer(Backend);
    let third = tokio::spawn(async move { third.ready().await.map(drop) });
    yield_now().await;
    assert_eq!(layer.handle().snapshot().queued, 2);
    notes.set(2.0);
    first.await.unwrap();
    // Both at once, and not one for the other.
    assert_eq!(third.await.unwrap(), Ok(()));
    assert!(began.elapsed() < 25 * MS);
    assert_eq!(layer.handle().snapshot().in_flight, 1);
    waits.abort();
}
