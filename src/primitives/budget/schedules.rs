//! A budget under shuttle: schedules of several threads, tried at random.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::Bucket;
use super::config::Settings;
use super::{BudgetConfig, Cost};
use crate::base::clock::Timestamp;
use crate::base::sync::{all, explore};

const TOKEN: u64 = Settings::TOKEN;

#[test]
fn no_token_is_lost_and_none_is_had_twice() {
    explore(|| {
        // Half a token for each call, and a whole one with each nanosecond.
        let config = BudgetConfig::new().ratio(0.5).per_second(1e9).cap(50.0).timeout_cost(50.0);
        let bucket = Arc::new(Bucket::new(Settings::new(&config).expect("it is valid")));
        assert!(bucket.withdraw(Cost::Timeout, Timestamp(0)), "it is empty now");
        let retries = Arc::new(AtomicU64::new(0));
        let call = || {
            let bucket = Arc::clone(&bucket);
            Box::new(move || (0..2).for_each(|_| bucket.deposit())) as Box<dyn FnOnce() + Send>
        };
        let retry = |now| {
            let (bucket, retries) = (Arc::clone(&bucket), Arc::clone(&retries));
            Box::new(move || {
                let paid = bucket.withdraw(Cost::Retry, Timestamp(now));
                retries.fetch_add(u64::from(paid), Ordering::Relaxed);
            }) as Box<dyn FnOnce() + Send>
        };
        all([call(), call(), retry(1), retry(3), retry(2), retry(3)]);
        let retries = retries.load(Ordering::Relaxed);
        assert!(retries > 0, "three tokens have come with time");
        assert_eq!(bucket.units(Timestamp(3)) + retries * TOKEN, (2 + 3) * TOKEN);
    });
}
