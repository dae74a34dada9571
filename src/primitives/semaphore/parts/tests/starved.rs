//! Limits that are too small for what is kept of them.

use super::{Part, parted, take};

#[test]
fn one_of_any_part_is_served_if_nothing_is_out_and_some_is_meant_for_it() {
    let kept: [&[u32]; 5] = [&[100; 5], &[700, 300], &[950], &[500, 0], &[200; 5]];
    for (kept, limit) in kept.iter().flat_map(|kept| (1..9).map(move |limit| (kept, limit))) {
        let permits = parted(limit, 0, kept);
        let are_whole = kept.iter().sum::<u32>() == 1000;
        for part in (0..=kept.len()).filter(|part| !are_whole || *part < kept.len()) {
            assert!(take(&permits, part).is_some(), "part {part} of {limit}, {kept:?}");
        }
        let charged: u32 = (0..kept.len()).map(|part| permits.counts_of(Part::at(part)).1).sum();
        assert!(charged <= limit);
    }
}
