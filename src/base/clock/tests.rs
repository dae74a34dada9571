//! Timers of a clock that is very old.

use std::time::Duration;

use tokio::time::Instant;

use super::{Clock, Timestamp, wait_until};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// It is longer ago that the clock was made than a timer may last.
#[tokio::test(start_paused = true)]
async fn a_timer_waits_however_old_the_clock_is() {
    let clock = Clock::start();
    for _ in 0..3 {
        tokio::time::advance(31 * YEAR).await;
        let before = clock.now();
        wait_until(clock.instant(before.after(Duration::from_secs(5)))).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_does_not_wait_for_what_is_over() {
    let clock = Clock::start();
    tokio::time::advance(YEAR).await;
    let now = Instant::now();
    wait_until(clock.instant(Timestamp(0))).await;
    assert_eq!(Instant::now(), now);
    assert!(clock.instant(Timestamp::NEVER) > now + 29 * YEAR);
}
