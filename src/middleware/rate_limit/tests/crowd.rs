//! As many keys as there is room for: what one call pays for the others, and who finds room.

use super::*;

const RATE: Rate = Rate { interval: 10, burst: 100 };

/// So many keys, each called at 0 and again at 5: what the store has noted of them at first is too early for all.
fn moved_on(keys: u64) -> Store {
    let mut store = Store::new(RATE, usize::try_from(keys).expect("there are few"));
    for now in [0, 5] {
        for key in 0..keys {
            assert!(store.take(key, 1, now, 0).is_ok());
        }
    }
    assert_eq!(store.stale(), store.len());
    store
}

#[test]
fn one_call_does_not_pay_for_the_calls_of_all_other_keys() {
    for keys in [100, 1_000, 10_000] {
        let mut store = moved_on(keys);
        let (mut before, mut refused) = (store.stale(), 0);
        // At 15 what was noted of all keys has passed, and none is idle before 20.
        loop {
            assert!(store.take(keys + 1, 1, 15, 0).is_err());
            let after = store.stale();
            assert!(before - after <= 32, "{} at once, of {keys}", before - after);
            if after == before {
                break;
            }
            (before, refused) = (after, refused + 1);
        }
        assert_eq!(refused, usize::try_from(keys).unwrap().div_ceil(32));
        assert_eq!(store.take(keys + 1, 1, 15, 0), Err(Refusal::NoRoom(5)), "it is known by now");
    }
}

#[test]
fn a_call_of_a_known_key_helps_to_find_room_and_does_not_pay_much_for_it() {
    let mut store = moved_on(1_000);
    let mut before = store.stale();
    for key in 0..1_000 {
        assert!(store.take(key, 1, 15, 0).is_ok());
        let after = store.stale();
        assert!(before.saturating_sub(after) <= 2);
        before = after;
    }
    // Only what these calls themselves have moved on is noted too early, and nothing of it has passed.
    assert_eq!(store.take(1_001, 1, 15, 0), Err(Refusal::NoRoom(5)));
}

#[test]
fn a_new_key_finds_the_one_that_is_idle_among_many_that_are_not() {
    let mut store = moved_on(1_000);
    for key in 1..1_000 {
        assert!(store.take(key, 5, 6, 0).is_ok());
    }
    // Key 0 is idle from 20 on.
    let refused = (0..).find(|_| store.take(1_001, 1, 20, 0).is_ok()).unwrap();
    assert!(refused <= 1_000 / 32 + 1, "{refused}");
    assert_eq!(store.len(), 1_000);
}

#[test]
fn a_call_finds_room_even_if_the_last_key_that_it_looks_at_is_the_one_that_is_idle() {
    const LOOKED_AT: u64 = 32;
    let mut store = Store::new(RATE, 32);
    for now in [0, 5] {
        for key in 1..LOOKED_AT {
            assert!(store.take(key, 1, now, 0).is_ok());
        }
    }
    assert!(store.take(LOOKED_AT, 1, 5, 0).is_ok());
    // At 15 what was noted of the others has passed, but they are not idle before 20.
    assert!(store.take(LOOKED_AT + 1, 1, 15, 0).is_ok());
    assert_eq!(store.len(), 32);
}

#[test]
fn a_call_that_has_not_looked_at_all_keys_is_not_told_to_come_back_at_once() {
    const KEYS: u64 = 33;
    let mut store = Store::new(RATE, 33);
    for now in [0, 5] {
        for key in 1..KEYS {
            assert!(store.take(key, 1, now, 0).is_ok());
        }
    }
    for now in [5, 6] {
        assert!(store.take(KEYS, 1, now, 0).is_ok());
    }
    // At 15 this one seems to be idle still, after the 32 others have been looked at.
    let refused = store.take(KEYS + 1, 1, 15, 0);
    assert!(matches!(refused, Err(Refusal::NoRoom(wait)) if wait > 0), "{refused:?}");
}

#[test]
fn calls_of_new_keys_forget_more_keys_that_have_long_been_idle_than_they_add() {
    let mut store = Store::new(RATE, 1_000);
    for key in 0..100 {
        assert!(store.take(key, 1, 0, 0).is_ok());
    }
    for key in 100..150 {
        assert!(store.take(key, 1, 1_000, 0).is_ok());
    }
    assert_eq!(store.len(), 50);
}

#[test]
fn only_the_last_turn_of_a_key_is_given_back() {
    let mut store = Store::new(RATE, 10);
    let [first, last] = [(); 2].map(|()| store.take(1, 1, 0, 0).unwrap());
    store.give_back(1, &first);
    assert_eq!(store.available(1, 0), 8);
    store.give_back(1, &last);
    assert_eq!(store.available(1, 0), 9);
}

#[test]
fn less_room_is_made_little_by_little() {
    let mut store = moved_on(1_000);
    store.reconfigure(RATE, 10, 6);
    let mut before = store.len();
    while let Err(refusal) = store.take(1_001, 1, 1_000, 0) {
        assert!(matches!(refusal, Refusal::NoRoom(wait) if wait > 0));
        assert!((0..=34).contains(&(before - store.len())), "{}", before - store.len());
        before = store.len();
    }
    assert_eq!(store.len(), 10);
}

/// However many keys there may be: a part has few, and what is done to all that it holds is done by one call.
#[test]
fn a_part_has_room_for_about_a_thousand_keys_of_a_million() {
    let settings = |max_keys| Settings { rate: RATE, max_wait: 0, max_keys };
    for (keys, most) in [(1, 1), (10_000, 257), (100_000, 257), (1_000_000, 977)] {
        let parts = super::super::keys::Keys::new(&settings(keys)).parts();
        assert!(keys.div_ceil(parts) <= most, "{keys} keys in {parts} parts");
    }
}
