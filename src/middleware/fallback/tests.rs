//! The store, compared with a naive model and in corner cases, and the configuration.

#![allow(clippy::arithmetic_side_effects, reason = "a test may fail")]

use std::time::Duration;

use proptest::prelude::*;

use super::config::StaleConfig;
use super::stale::Answers;
use super::store::{Replaced, Store};
use crate::base::clock::Timestamp;

const MAX_AGE: Duration = Duration::from_nanos(100);

/// The responses in the order of storing: `(hash, key, response, at)`.
#[derive(Debug)]
struct Naive {
    list: Vec<(u64, u8, u32, u64)>,
    most: usize,
}

impl Naive {
    fn is_too_old(at: u64, now: u64) -> bool {
        now > at && now - at > 100
    }

    fn put(&mut self, hash: u64, key: u8, answer: u32, now: u64) -> Option<(u8, u32)> {
        let replaced = match self.list.iter().position(|entry| entry.0 == hash) {
            None => {
                let is_tight = self.list.len() == self.most;
                let oldest = self.list.first().filter(|oldest| is_tight || Self::is_too_old(oldest.3, now));
                oldest.map(|_| 0)
            }
            place => place,
        };
        let replaced = replaced.map(|place| self.list.remove(place));
        self.list.push((hash, key, answer, now));
        replaced.map(|(_, key, answer, _)| (key, answer))
    }

    fn get(&self, hash: u64, key: u8, now: u64) -> Option<(u32, u64)> {
        let entry = self.list.iter().find(|entry| (entry.0, entry.1) == (hash, key))?;
        (!Self::is_too_old(entry.3, now)).then(|| (entry.2, now.saturating_sub(entry.3)))
    }
}

impl<Key, Res> Replaced<Key, Res> {
    fn content(self) -> Option<(Key, Res)> {
        match self {
            Self::Nothing => None,
            Self::Content(key, answer) => Some((key, answer)),
            Self::Held(held) => std::sync::Arc::into_inner(held),
        }
    }
}

/// Looks a key up as a caller does.
fn get<Key: Eq, Res: Copy>(
    store: &Store<Key, Res>,
    hash: u64,
    key: &Key,
    now: Timestamp,
) -> Option<(Res, Duration)> {
    store.get(hash, now).filter(|(held, _)| held.0 == *key).map(|(held, age)| (held.1, age))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8),
    Get(u8),
    /// Sets the clock to this time, which may be earlier.
    Jump(u64),
    Pass(u64),
    Clear,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..12_u8).prop_map(Step::Put),
        10 => (0..12_u8).prop_map(Step::Get),
        5 => (0..60_u64).prop_map(Step::Pass),
        1 => prop_oneof![0..1_000_u64, Just(u64::MAX), Just(0)].prop_map(Step::Jump),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_store_does_what_a_list_does(
        most in 1..6_usize,
        keys_of_a_hash in 1..4_u8,
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut store = Store::new(most, MAX_AGE);
        let mut naive = Naive { list: vec![], most };
        let mut now = 1_000;
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Put(key) => {
                    let hash = u64::from(key / keys_of_a_hash);
                    let replaced = store.put(hash, key, number, Timestamp(now));
                    prop_assert_eq!(replaced.content(), naive.put(hash, key, number, now));
                }
                Step::Get(key) => {
                    let hash = u64::from(key / keys_of_a_hash);
                    let got = get(&store, hash, &key, Timestamp(now));
                    let expected = naive.get(hash, key, now);
                    prop_assert_eq!(got, expected.map(|(answer, age)| (answer, Duration::from_nanos(age))));
                }
                Step::Jump(to) => now = to,
                Step::Pass(time) => now = now.saturating_add(time),
                Step::Clear => {
                    prop_assert_eq!(store.clear().len(), naive.list.len());
                    naive.list.clear();
                }
            }
            prop_assert_eq!(store.len(), naive.list.len());
            prop_assert!(store.len() <= most);
        }
    }
}

#[test]
fn a_store_of_one_holds_the_last_answer() {
    let mut store = Store::new(1, MAX_AGE);
    assert_eq!(store.put(1, "one", 1, Timestamp(0)).content(), None);
    assert_eq!(store.put(2, "two", 2, Timestamp(0)).content(), Some(("one", 1)));
    assert_eq!(store.put(2, "two", 3, Timestamp(0)).content(), Some(("two", 2)));
    assert_eq!(get(&store, 1, &"one", Timestamp(0)), None);
    assert_eq!(get(&store, 2, &"two", Timestamp(0)), Some((3, Duration::ZERO)));
}

#[test]
fn keys_with_one_hash_never_share_responses() {
    let mut store = Store::new(10, MAX_AGE);
    let _ = store.put(7, "one", 1, Timestamp(0));
    assert_eq!(get(&store, 7, &"other", Timestamp(0)), None);
    let _ = store.put(7, "other", 2, Timestamp(0));
    assert_eq!(get(&store, 7, &"one", Timestamp(0)), None);
    assert_eq!(get(&store, 7, &"other", Timestamp(0)), Some((2, Duration::ZERO)));
}

#[test]
fn a_response_that_is_being_read_survives_its_replacement() {
    let mut store = Store::new(1, MAX_AGE);
    let _ = store.put(1, "one", 1, Timestamp(0));
    let (held, _) = store.get(1, Timestamp(0)).unwrap();
    assert!(matches!(store.put(1, "one", 2, Timestamp(0)), Replaced::Held(_)));
    assert_eq!((*held, get(&store, 1, &"one", Timestamp(0))), (("one", 1), Some((2, Duration::ZERO))));
    drop(held);
    assert!(matches!(store.put(1, "one", 3, Timestamp(0)), Replaced::Content("one", 2)));
}

#[test]
fn a_response_is_returned_up_to_its_maximum_age() {
    let mut store = Store::new(1, MAX_AGE);
    let _ = store.put(1, "one", 1, Timestamp(50));
    assert_eq!(get(&store, 1, &"one", Timestamp(150)), Some((1, MAX_AGE)));
    assert_eq!(get(&store, 1, &"one", Timestamp(151)), None);
}

#[test]
fn a_clock_that_goes_back_expires_nothing() {
    let mut store = Store::new(1, MAX_AGE);
    let _ = store.put(1, "one", 1, Timestamp(u64::MAX));
    assert_eq!(get(&store, 1, &"one", Timestamp(0)), Some((1, Duration::ZERO)));
}

#[test]
fn a_response_with_unlimited_age_never_expires() {
    let mut store = Store::new(1, Duration::MAX);
    let _ = store.put(1, "one", 1, Timestamp(0));
    assert!(get(&store, 1, &"one", Timestamp::NEVER).is_some());
}

#[test]
fn the_number_of_stored_keys_is_bounded() {
    for max_keys in [1, 2, 255, 256, 1_000, 10_000] {
        let answers = Answers::new(StaleConfig::new().max_keys(max_keys));
        let most = max_keys as usize;
        for key in 0..1_000_000 / 6_u32 {
            answers.put(key, &key);
            assert!(key % 64 != 0 || answers.len() <= most);
            assert!(key % 64 != 0 || answers.get(&key).is_some_and(|(answer, _)| answer == key));
        }
        assert_eq!(answers.len(), most, "some room was never used");
        answers.clear();
        assert_eq!(answers.len(), 0);
    }
}

#[test]
fn keys_are_replaced_in_the_order_of_storing() {
    let answers = Answers::new(StaleConfig::new().max_keys(3));
    for key in [1, 2, 3, 1, 4] {
        answers.put(key, &key);
    }
    let held: Vec<_> = (1..=4).filter(|key| answers.get(key).is_some()).collect();
    assert_eq!(held, [1, 3, 4]);
}

#[test]
fn an_invalid_setting_is_named() {
    let field = |config: StaleConfig| config.validate().err().map(|error| error.field());
    assert_eq!(field(StaleConfig::new()), None);
    assert_eq!(field(StaleConfig::default()), None);
    assert_eq!(field(StaleConfig::new().max_age(Duration::MAX).max_keys(1)), None);
    assert_eq!(field(StaleConfig::new().max_age(Duration::from_nanos(1)).max_keys(1_000_000)), None);
    assert_eq!(field(StaleConfig::new().max_age(Duration::ZERO)), Some("max_age"));
    for keys in [0, 1_000_001, u32::MAX] {
        assert_eq!(field(StaleConfig::new().max_keys(keys)), Some("max_keys"));
    }
}
