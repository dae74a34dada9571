//! The part that gates share: layers that ask before each call whether it may be made, and are told
//! how it ended.
//!
//! ```text
//!            admitted                       the service's result
//!   call -----------------> Calling ------------------------------> outcome ---> the permit ends
//!     |                        ^
//!     | must wait              | its turn
//!     +----------> Waiting ----+----> rejected
//!     |
//!     | rejected
//!     +----------> Rejected
//! ```
//!
//! A gate gives each admitted call a [permit](GatePermit), which the [future](ResponseFuture) of
//! the call holds.

mod at_headers;
mod future;
mod permit;

pub(crate) use at_headers::AtHeaders;
pub(crate) use future::{Admitted, ResponseFuture, Waiting};
pub(crate) use permit::{GatePermit, HoldUntil};
