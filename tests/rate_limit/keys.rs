//! A quota for each key: how many there are, and when they are forgotten.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_key_has_a_quota_of_its_own() {
    let layer = by_caller(ten_per_second(1));
    let mut service = layer.layer(service_fn(served));
    assert!(call(&mut service, From("a")).await.is_ok());
    assert_eq!(refusal(&mut service, From("a")).await.retry_after(), Some(100 * MS));
    assert!(call(&mut service, From("b")).await.is_ok());
    assert!(call(&mut service, From("")).await.is_ok());
    assert!(call(&mut service, From("")).await.is_ok(), "what has no key is not limited");
    let handle = layer.handle();
    assert_eq!((handle.keys(), handle.available_for(&"a"), handle.available_for(&"c")), (2, 0, 1));
    assert_eq!(handle.try_take_for(&"a", 1).unwrap_err().retry_after(), Some(100 * MS));
    assert!(handle.try_take_for(&"c", 1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_refused_while_all_that_are_held_are_in_use() {
    let layer = by_caller(RateLimitConfig::new(ten_per_second(1)).max_keys(2));
    let mut service = layer.layer(service_fn(served));
    assert!(call(&mut service, From("a")).await.is_ok());
    advance(60 * MS).await;
    assert!(call(&mut service, From("b")).await.is_ok());
    let rejected = refusal(&mut service, From("c")).await;
    assert_eq!((rejected.reason(), rejected.retry_after()), (Reason::TooManyKeys, Some(40 * MS)));
    assert!(!rejected.reached_service());
    assert_eq!(refusal(&mut service, From("a")).await.reason(), Reason::RateLimited);
    advance(40 * MS).await;
    assert!(call(&mut service, From("c")).await.is_ok(), "an idle one makes room");
    assert_eq!(layer.handle().keys(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_without_end_take_up_no_more_than_their_room() {
    let config = RateLimitConfig::new(Quota::per_minute(1)).max_keys(1_000);
    let handle = RateLimitLayer::keyed(config, |key: &u32| Some(*key)).handle();
    let admitted = (0..100_000_u32).filter(|key| handle.try_take_for(key, 1).is_ok()).count();
    assert_eq!((admitted, handle.keys()), (1_000, 1_000));
    advance(60 * SECOND).await;
    for key in 0..2_000_u32 {
        let _ = handle.try_take_for(&(key % 2), 1);
    }
    assert!(handle.keys() <= 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_used_any_more_is_forgotten() {
    let handle = by_caller(RateLimitConfig::new(ten_per_second(2)).max_keys(10)).handle();
    for key in ["a", "b", "c"] {
        assert!(handle.try_take_for(&key, 1).is_ok());
    }
    for _ in 0..5 {
        assert_eq!(handle.keys(), 3);
        advance(60 * MS).await;
        let _ = handle.try_take_for(&"a", 1);
    }
    for _ in 0..2 {
        let _ = handle.try_take_for(&"a", 1);
    }
    assert_eq!(handle.keys(), 1, "idle for 200 ms, since 100 ms");
}

/// Who is there stays, since its quota is used; who comes finds no room.
#[tokio::test(start_paused = true)]
async fn fewer_keys_may_be_allowed_while_more_are_held() {
    let handle = by_caller(RateLimitConfig::new(ten_per_second(1)).max_keys(3)).handle();
    for key in ["a", "b", "c"] {
        assert!(handle.try_take_for(&key, 1).is_ok());
    }
    handle.reconfigure(RateLimitConfig::new(ten_per_second(1)).max_keys(1)).unwrap();
    assert_eq!((handle.keys(), handle.available_for(&"c")), (3, 0));
    assert_eq!(handle.try_take_for(&"d", 1).unwrap_err().reason(), Reason::TooManyKeys);
    advance(100 * MS).await;
    assert!(handle.try_take_for(&"d", 1).is_ok());
    assert_eq!(handle.keys(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_key_give_their_turn_back_as_well() {
    let layer = by_caller(ten_per_second(1)).waits();
    let mut service = layer.layer(service_fn(served));
    assert!(service.call(From("a")).await.is_ok());
    drop(service.call(From("a")));
    let before = Instant::now();
    assert!(service.call(From("a")).await.is_ok());
    assert_eq!(before.elapsed(), 100 * MS);
}
