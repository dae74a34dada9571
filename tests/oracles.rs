//! The oracles of the fuzz targets, on inputs that are made up here and on those in `fuzz/corpus`.

#![cfg(feature = "http")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/oracles.rs"]
mod oracles;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes as a header may hold them, and others.
fn header() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[-+ 0-9.HMSmunh]{0,12}".prop_map(String::into_bytes),
        1 => "[0-9]{0,30}\n?[0-9]{0,30}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..24),
    ]
}

/// A date, mostly with one byte changed.
fn nearly_a_date() -> impl Strategy<Value = Vec<u8>> {
    let seconds = prop_oneof![0..253_402_300_800_u64, 1_400_000_000..1_500_000_000_u64];
    (seconds, 0..4_usize, any::<prop::sample::Index>(), "[ -~]").prop_map(|(seconds, format, place, byte)| {
        let mut date = oracles::written_date(seconds, format).into_bytes();
        let place = place.index(date.len() * 3 / 2);
        if let Some(changed) = date.get_mut(place) {
            *changed = byte.as_bytes()[0];
        }
        date
    })
}

proptest! {
    #[test]
    fn retry_after_is_read_as_the_oracle_reads_it(input in prop_oneof![header(), nearly_a_date()]) {
        oracles::retry_after(&input);
    }

    #[test]
    fn a_pushback_is_read_as_the_oracle_reads_it(input in header()) {
        oracles::pushback(&input);
    }

    #[test]
    fn a_grpc_timeout_is_read_as_the_oracle_reads_it_and_survives_being_written(input in header()) {
        oracles::grpc_timeout(&input);
    }

    #[test]
    fn every_attempt_yields_the_body_that_was_sent(input in vec(any::<u8>(), 3..64)) {
        oracles::replay_body(&input);
    }
}

/// In 1994 to 2004 and in 2091 to 2106: one of the two centuries begins with a leap year.
#[test]
fn every_day_around_the_turn_of_a_century_is_read_as_the_oracle_reads_it() {
    for day in (9_000..12_500).chain(44_500..50_000) {
        for format in [0, 2, 3] {
            oracles::retry_after(oracles::written_date(day * 86_400, format).as_bytes());
        }
    }
}

#[test]
fn what_is_in_the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, oracle) in [
        ("retry_after", oracles::retry_after as fn(&[u8])),
        ("pushback", oracles::pushback),
        ("grpc_timeout", oracles::grpc_timeout),
        ("replay_body", oracles::replay_body),
    ] {
        let inputs = fs::read_dir(corpus.join(target)).unwrap();
        let inputs: Vec<_> = inputs.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty(), "{target}");
        inputs.iter().for_each(|input| oracle(input));
    }
}
