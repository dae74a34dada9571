//! Tokens against a count kept by hand.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::bucket::Bucket;
use super::config::Settings;
use super::{Budget, BudgetConfig, Cost};
use crate::base::clock::Timestamp;

mod config;

const SECOND: u64 = 1_000_000_000;
const TOKEN: u64 = Settings::TOKEN;
const START: Timestamp = Timestamp(0);

/// Nothing comes with time.
fn ratio(ratio: f64) -> BudgetConfig {
    BudgetConfig::new().ratio(ratio).per_second(0.0)
}

/// Nothing comes with calls.
fn floor(per_second: f64) -> BudgetConfig {
    BudgetConfig::new().ratio(0.0).per_second(per_second)
}

fn full(config: &BudgetConfig) -> Bucket {
    Bucket::new(Settings::new(config).expect("the configuration is valid"))
}

fn empty(config: &BudgetConfig) -> Bucket {
    let bucket = full(config);
    assert_eq!(drain(&bucket, START), (config.cap / config.retry_cost) as u64);
    bucket
}

/// How many retries are allowed now.
fn drain(bucket: &Bucket, now: Timestamp) -> u64 {
    let mut retries = 0;
    while bucket.withdraw(Cost::Retry, now) {
        retries += 1;
    }
    retries
}

#[test]
fn of_ten_thousand_calls_exactly_the_share_is_retried() {
    for share in [0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99, 2.0] {
        let expected = (share * 10_000.0_f64).round() as u64;
        let in_turn = empty(&ratio(share));
        let retries = (0..10_000).map(|_| {
            in_turn.deposit();
            drain(&in_turn, START)
        });
        assert_eq!(retries.sum::<u64>(), expected, "as they come, at {share}");

        let saved_up = empty(&ratio(share).cap(100_000.0));
        (0..10_000).for_each(|_| saved_up.deposit());
        assert_eq!(saved_up.units(START), expected * TOKEN, "{share}");
        assert_eq!(drain(&saved_up, START), expected, "saved up, at {share}");
    }
}

#[test]
fn every_thousandth_is_exact() {
    for thousandths in 0..10_000_u32 {
        let settings = Settings::new(&ratio(f64::from(thousandths) / 1_000.0)).expect("it is valid");
        assert_eq!(settings.deposit, u64::from(thousandths) * TOKEN / 1_000);
    }
}

#[test]
fn a_full_bucket_takes_no_more() {
    let bucket = full(&ratio(1.0));
    assert_eq!(bucket.units(START), 10 * TOKEN);
    bucket.deposit();
    assert_eq!(bucket.units(Timestamp(SECOND)), 10 * TOKEN);
    assert_eq!(drain(&bucket, START), 10);
    (0..100).for_each(|_| bucket.deposit());
    assert_eq!(drain(&bucket, START), 10);
}

#[test]
fn a_refusal_takes_nothing() {
    let bucket = empty(&ratio(0.75));
    bucket.deposit();
    assert!(!bucket.withdraw(Cost::Retry, START));
    assert_eq!(bucket.units(START), 750_000_000);
    bucket.deposit();
    assert!(bucket.withdraw(Cost::Retry, START));
    assert_eq!(bucket.units(START), 500_000_000);
}

#[test]
fn a_timeout_costs_what_is_configured() {
    let bucket = full(&ratio(0.0));
    assert!(bucket.withdraw(Cost::Timeout, START));
    assert_eq!(bucket.units(START), 8 * TOKEN);
    let bucket = full(&ratio(0.0).cap(7.0).retry_cost(0.5).timeout_cost(7.0));
    assert!(bucket.withdraw(Cost::Timeout, START));
    assert!(!bucket.withdraw(Cost::Retry, START));
}

#[test]
fn the_floor_is_exact_over_a_day() {
    let bucket = empty(&floor(0.3));
    let retries = (1..=86_400).map(|second| drain(&bucket, Timestamp(second * SECOND)));
    assert_eq!(retries.sum::<u64>(), 86_400 * 3 / 10);
}

#[test]
fn the_floor_is_exact_in_steps_of_a_nanosecond() {
    // Three units and a third for each step, of which a naive sum loses the third.
    let bucket = empty(&floor(10.0 / 3.0).cap(0.01).retry_cost(0.001).timeout_cost(0.01));
    let retries = (1..600_000).filter(|step| bucket.withdraw(Cost::Retry, Timestamp(*step))).count();
    assert_eq!(retries, 1);
    assert!(bucket.withdraw(Cost::Retry, Timestamp(600_001)));
    assert_eq!(bucket.units(Timestamp(600_001)), 3);
}

#[test]
fn what_came_with_time_is_seen_before_it_is_added() {
    let bucket = empty(&floor(2.0));
    assert_eq!(bucket.balance(Timestamp(3 * SECOND / 2)), 3.0);
    assert_eq!(bucket.share(Timestamp(3 * SECOND / 2)), 0.3);
    assert_eq!(bucket.balance(START), 0.0);
}

#[test]
fn a_clock_that_jumps_a_year_fills_the_bucket_and_no_more() {
    const YEAR: u64 = 365 * 86_400 * SECOND;
    for per_second in [1.0, 1e9] {
        let bucket = empty(&floor(per_second));
        assert_eq!(drain(&bucket, Timestamp(YEAR)), 10);
        assert_eq!(drain(&bucket, Timestamp(YEAR)), 0, "it stands still");
        assert_eq!(drain(&bucket, Timestamp(YEAR - SECOND)), 0, "and goes backward");
        assert_eq!(drain(&bucket, Timestamp(YEAR)), 0, "and comes back");
        assert!(drain(&bucket, Timestamp(YEAR + SECOND)) >= 1);
    }
}

#[test]
fn a_clock_at_the_end_of_time_leaves_the_share() {
    let bucket = full(&BudgetConfig::new().ratio(0.5).per_second(1e9).cap(1e9));
    assert_eq!(bucket.units(Timestamp::NEVER), 1_000_000_000 * TOKEN);
    assert!(bucket.withdraw(Cost::Retry, Timestamp::NEVER));
    let bucket = empty(&BudgetConfig::new().ratio(0.5));
    assert_eq!(drain(&bucket, Timestamp::NEVER), 10);
    bucket.deposit();
    bucket.deposit();
    assert_eq!(drain(&bucket, START), 1);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Call,
    Retry(Cost),
    /// Forward or backward, in nanoseconds.
    Time(i64),
}

/// With clocks that go backward by up to `back` nanoseconds.
fn steps(back: i64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Call),
        3 => Just(Step::Retry(Cost::Retry)),
        1 => Just(Step::Retry(Cost::Timeout)),
        2 => (-back..4_000_000_000).prop_map(Step::Time),
        1 => (0..5_i64).prop_map(Step::Time),
    ];
    prop::collection::vec(step, 1..300)
}

fn configs() -> impl Strategy<Value = BudgetConfig> {
    let share = (0..3_000_u32).prop_map(|thousandths| f64::from(thousandths) / 1_000.0);
    (share.clone(), share, 2.0..20.0, 0.1..2.0, 0.1..2.0).prop_map(|(ratio, floor, cap, retry, timeout)| {
        BudgetConfig::new().ratio(ratio).per_second(floor).cap(cap).retry_cost(retry).timeout_cost(timeout)
    })
}

proptest! {
    /// The naive bucket adds what comes with time in every step, in floating point.
    #[test]
    fn it_holds_what_a_naive_bucket_holds(config in configs(), steps in steps(0)) {
        const ROUNDING: f64 = 1e-5;
        let bucket = full(&config);
        let (mut tokens, mut now) = (config.cap, 0_u64);
        for step in steps {
            match step {
                Step::Call => {
                    bucket.deposit();
                    tokens = config.cap.min(tokens + config.ratio);
                }
                Step::Time(nanos) => {
                    now = now.saturating_add_signed(nanos);
                    tokens = config.cap.min(tokens + nanos as f64 / SECOND as f64 * config.per_second);
                }
                Step::Retry(cost) => {
                    let price = if cost == Cost::Retry { config.retry_cost } else { config.timeout_cost };
                    let is_allowed = bucket.withdraw(cost, Timestamp(now));
                    if (tokens - price).abs() > ROUNDING {
                        prop_assert_eq!(is_allowed, tokens > price, "{} for {}", tokens, price);
                    }
                    tokens -= if is_allowed { price } else { 0.0 };
                }
            }
            let balance = bucket.balance(Timestamp(now));
            prop_assert!(bucket.tokens.load(Ordering::Relaxed) <= (config.cap * TOKEN as f64) as u64 + 1);
            prop_assert!((balance - tokens).abs() < ROUNDING, "{balance}, and by hand {tokens}");
        }
    }

    #[test]
    fn no_schedule_makes_more_attempts_than_the_formula(config in configs(), steps in steps(1_000_000_000)) {
        let config = BudgetConfig { retry_cost: 1.0, ..config };
        let bucket = full(&config);
        let (mut calls, mut retries, mut now, mut latest) = (0_u32, 0_u32, 0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Call => {
                    bucket.deposit();
                    calls += 1;
                }
                Step::Time(nanos) => {
                    now = now.saturating_add_signed(nanos);
                    latest = latest.max(now);
                }
                Step::Retry(_) => retries += u32::from(bucket.withdraw(Cost::Retry, Timestamp(now))),
            }
            // The formula, times `rate * T`.
            let seconds = latest as f64 / SECOND as f64;
            let calls = f64::from(calls);
            let most = calls * (1.0 + config.ratio) + config.cap + config.per_second * seconds;
            prop_assert!(calls + f64::from(retries) <= most + 1e-5, "{calls} calls, {retries} retries");
        }
    }
}

/// Attempts per call in each second of an outage of 40 s, in which every call wants three retries.
fn outage(budgets: &[Bucket], calls_per_second: u64) -> Vec<f64> {
    let second = |second: u64| {
        let call = |call: u64| {
            let now = Timestamp(second * SECOND + call * SECOND / calls_per_second);
            let budget = &budgets[call as usize % budgets.len()];
            budget.deposit();
            1 + (0..3).take_while(|_| budget.withdraw(Cost::Retry, now)).count()
        };
        (0..calls_per_second).map(call).sum::<usize>() as f64 / calls_per_second as f64
    };
    (0..40).map(second).collect()
}

#[test]
fn an_outage_makes_a_tenth_more_calls_without_bursts() {
    let one = outage(&[full(&BudgetConfig::new())], 1_000);
    assert!(one.iter().sum::<f64>() / 40.0 <= 1.12, "{one:?}");
    assert!(one[1..].iter().all(|attempts| *attempts <= 1.105), "{one:?}");

    let clients: Vec<_> = (0..100).map(|_| full(&BudgetConfig::new())).collect();
    let many = outage(&clients, 1_000);
    assert!(many.iter().sum::<f64>() / 40.0 <= 1.25, "{many:?}");
}

#[test]
fn many_threads_lose_and_mint_no_token() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 20_000;
    let bucket = empty(&BudgetConfig::new().ratio(0.25).per_second(1.0).cap(1e6));
    let (retries, latest) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bucket, retries, latest) = (&bucket, &retries, &latest);
            scope.spawn(move || {
                for call in 0..CALLS {
                    // No two clocks agree.
                    let now = call * 1_000 + thread * 7;
                    bucket.deposit();
                    if bucket.withdraw(Cost::Retry, Timestamp(now)) {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                    latest.fetch_max(now, Ordering::Relaxed);
                }
            });
        }
    });
    let latest = latest.into_inner();
    let came = THREADS * CALLS * TOKEN / 4 + latest;
    assert_eq!(bucket.units(Timestamp(latest)) + retries.into_inner() * TOKEN, came);
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_tokens_and_the_clock() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.5));
    let clone = budget.clone();
    assert!((0..10).all(|_| clone.withdraw()));
    assert!(!budget.withdraw());
    assert_eq!(budget.balance(), 0.0);
    budget.deposit();
    clone.deposit();
    assert!(budget.withdraw());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((budget.balance(), clone.share()), (2.0, 0.2));
    assert!(budget.withdraw_for(Cost::Timeout));
    assert!(!clone.withdraw());
}

#[test]
fn an_unlimited_budget_is_never_used_up() {
    let budget = Budget::unlimited();
    budget.deposit();
    assert!((0..1_000).all(|_| budget.withdraw() && budget.withdraw_for(Cost::Timeout)));
    assert_eq!((budget.balance(), budget.share()), (f64::INFINITY, 1.0));
}

#[tokio::test(start_paused = true)]
async fn its_debug_form_tells_the_balance() {
    assert_eq!(format!("{:?}", Budget::default()), "Budget { balance: 10.0, .. }");
    assert_eq!(format!("{:?}", Budget::unlimited()), "Budget { balance: inf, .. }");
}

#[test]
fn what_is_out_of_range_is_named() {
    let hostile = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0];
    type Set = fn(BudgetConfig, f64) -> BudgetConfig;
    let fields: [(&str, Set, &[f64]); 5] = [
        ("ratio", BudgetConfig::ratio, &[1_000.1]),
        ("per_second", BudgetConfig::per_second, &[1.1e9]),
        ("cap", BudgetConfig::cap, &[0.0, 1e-4, 1.1e9]),
        ("retry_cost", BudgetConfig::retry_cost, &[0.0, 1e-4, 10.1]),
        ("timeout_cost", BudgetConfig::timeout_cost, &[0.0, 1e-4, 10.1]),
    ];
    for (field, set, out_of_range) in fields {
        for value in hostile.iter().chain(out_of_range) {
            let error = Budget::try_new(set(BudgetConfig::new(), *value)).expect_err("it is refused");
            assert_eq!((error.field(), error.given()), (field, format!("{value:?}").as_str()));
        }
    }
}

#[test]
fn the_ends_of_the_ranges_are_fine() {
    let least =
        BudgetConfig { ratio: 0.0, per_second: 0.0, cap: 0.001, retry_cost: 0.001, timeout_cost: 0.001 };
    assert_eq!(drain(&full(&least), START), 1);
    let most = BudgetConfig { ratio: 1e3, per_second: 1e9, cap: 1e9, retry_cost: 1e9, timeout_cost: 1e9 };
    let bucket = full(&most);
    assert_eq!(drain(&bucket, Timestamp::NEVER), 1);
    bucket.deposit();
    assert_eq!(bucket.balance(START), 1e3);
    assert_eq!(BudgetConfig::default().validate(), Ok(()));
}

#[test]
#[should_panic(expected = "invalid value for `ratio`: got -1.0")]
fn new_panics_on_an_invalid_configuration() {
    let _ = Budget::new(BudgetConfig::new().ratio(-1.0));
}
