//! Guides. Each is a page of its own.

#[doc = include_str!("docs/settings.md")]
#[doc = ""]
#[doc = include_str!("docs/overload.svg")]
#[doc = ""]
#[doc = include_str!("docs/overload_time.svg")]
pub mod settings {}

#[doc = include_str!("docs/composition.md")]
pub mod composition {}

#[doc = include_str!("docs/operation.md")]
pub mod operation {}

#[doc = include_str!("docs/performance.md")]
pub mod performance {}
