//! A budget under loom: every interleaving of a few threads.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

use super::bucket::Bucket;
use super::config::Settings;
use super::{BudgetConfig, Cost};
use crate::base::clock::Timestamp;
use crate::base::sync::both;

const TOKEN: u64 = Settings::TOKEN;
/// A token comes with each nanosecond, if any come with time.
const NANOSECOND: f64 = 1e9;

fn config() -> BudgetConfig {
    BudgetConfig::new().ratio(0.5).per_second(0.0).cap(2.0).timeout_cost(2.0)
}

fn full(config: &BudgetConfig) -> Arc<Bucket> {
    Arc::new(Bucket::new(Settings::new(config).unwrap()))
}

fn empty(config: &BudgetConfig) -> Arc<Bucket> {
    let bucket = full(config);
    assert!(bucket.withdraw(Cost::Timeout, Timestamp(0)));
    bucket
}

/// What a thread does: withdraws at a time, and counts it in `retries`.
fn retry(bucket: &Arc<Bucket>, retries: &Arc<AtomicU64>, now: u64) -> impl FnOnce() + 'static {
    let (bucket, retries) = (Arc::clone(bucket), Arc::clone(retries));
    move || {
        if bucket.withdraw(Cost::Retry, Timestamp(now)) {
            retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn call(bucket: &Arc<Bucket>) -> impl FnOnce() + 'static {
    let bucket = Arc::clone(bucket);
    move || bucket.deposit()
}

#[test]
fn of_two_that_want_the_last_token_one_gets_it() {
    loom::model(|| {
        let (bucket, retries) = (full(&config()), Arc::new(AtomicU64::new(0)));
        assert!(bucket.withdraw(Cost::Retry, Timestamp(0)));
        both(retry(&bucket, &retries, 0), retry(&bucket, &retries, 0));
        assert_eq!(retries.load(Ordering::Relaxed), 1);
        assert_eq!(bucket.units(Timestamp(0)), 0);
    });
}

#[test]
fn a_call_and_a_retry_at_the_same_time_both_count() {
    loom::model(|| {
        let (bucket, retries) = (full(&config()), Arc::new(AtomicU64::new(0)));
        assert!(bucket.withdraw(Cost::Retry, Timestamp(0)));
        both(call(&bucket), retry(&bucket, &retries, 0));
        assert_eq!(retries.load(Ordering::Relaxed), 1);
        assert_eq!(bucket.units(Timestamp(0)), TOKEN / 2);
    });
}

#[test]
fn two_calls_at_the_same_time_both_count() {
    loom::model(|| {
        let bucket = empty(&config());
        both(call(&bucket), call(&bucket));
        assert_eq!(bucket.units(Timestamp(0)), TOKEN);
    });
}

#[test]
fn what_comes_with_time_is_paid_once() {
    loom::model(|| {
        let (bucket, retries) = (empty(&config().per_second(NANOSECOND)), Arc::new(AtomicU64::new(0)));
        both(retry(&bucket, &retries, 1), retry(&bucket, &retries, 1));
        assert_eq!(retries.load(Ordering::Relaxed), 1);
        assert_eq!(bucket.units(Timestamp(1)), 0);
    });
}

#[test]
fn clocks_that_disagree_pay_for_the_later_time() {
    loom::model(|| {
        let (bucket, retries) = (empty(&config().per_second(NANOSECOND)), Arc::new(AtomicU64::new(0)));
        both(retry(&bucket, &retries, 1), retry(&bucket, &retries, 2));
        let retries = retries.load(Ordering::Relaxed);
        assert_eq!(bucket.units(Timestamp(2)) + retries * TOKEN, 2 * TOKEN);
        assert!(retries >= 1, "the later one has what it needs");
    });
}

#[test]
fn calls_and_time_together_never_pass_the_cap() {
    loom::model(|| {
        let config = config().ratio(1.5).per_second(NANOSECOND).retry_cost(2.0);
        let (bucket, retries) = (empty(&config), Arc::new(AtomicU64::new(0)));
        both(call(&bucket), retry(&bucket, &retries, 1));
        let (balance, retries) = (bucket.units(Timestamp(1)), retries.load(Ordering::Relaxed));
        assert!(bucket.tokens.load(Ordering::Relaxed) <= 2 * TOKEN);
        // One and a half and one are cut to two, which is what a retry costs.
        assert!(matches!((balance / TOKEN, retries), (2, 0) | (0, 1)), "{balance} and {retries} retries");
        both(call(&bucket), call(&bucket));
        assert_eq!(bucket.units(Timestamp(1)), 2 * TOKEN);
    });
}
