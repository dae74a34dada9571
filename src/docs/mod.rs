//! Guides. Each is a page of its own.

#[doc = include_str!("settings.md")]
#[doc = ""]
#[doc = include_str!("overload.svg")]
#[doc = ""]
#[doc = include_str!("overload_time.svg")]
pub mod settings {}

#[doc = include_str!("composition.md")]
pub mod composition {}

#[doc = include_str!("operation.md")]
pub mod operation {}

#[doc = include_str!("performance.md")]
pub mod performance {}
