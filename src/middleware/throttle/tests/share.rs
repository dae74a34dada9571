//! The word that holds the share.

use super::super::share::{Known, Share};

#[test]
fn a_share_is_good_for_its_changes_in_its_bucket() {
    let (share, other, known) = (Share::new(0.5, true), Share::new(0.25, false), Known::nothing());
    assert_eq!(known.get(0), None);
    assert_eq!(known.find(7, || (share, 1)), share);
    assert_eq!((known.get(6), known.get(7), known.get(8)), (None, Some(share), None));
    known.change();
    assert_eq!(known.get(7), Some(share));
    known.change();
    assert_eq!(known.get(7), None);
    assert_eq!(known.find(7, || (other, u64::MAX)), other);
    assert_eq!(known.get(7), Some(other));
    known.forget();
    assert_eq!(known.get(7), None);
    assert!((share.ratio() - 0.5).abs() < 1e-9 && share.counts_refusals());
    assert!((other.ratio() - 0.25).abs() < 1e-9 && !other.counts_refusals());
    assert!(Share::new(0.0, true).is_none() && !Share::new(1.0, false).is_none());
}

#[test]
fn a_share_is_not_kept_if_something_changed_while_it_was_found() {
    let share = Share::new(0.5, false);
    for disturb in [Known::change, Known::forget] {
        let known = Known::nothing();
        known.find(0, || {
            disturb(&known);
            (share, 9)
        });
        assert_eq!(known.get(0), None);
        known.find(0, || {
            // Another finds the same, and a call ends.
            known.find(0, || (share, 0));
            known.change();
            (share, 0)
        });
        assert_eq!(known.get(0), None);
    }
}
