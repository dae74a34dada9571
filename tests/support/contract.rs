//! What every layer promises to whoever calls it through tower, as checks that know nothing of the layer.
//!
//! Each `pub(crate) async fn` is one promise. It is given a maker of layers and begins with a new one, around
//! a [`Probe`]: an inner service that writes down what is done to it, and knows what of it is still alive.
//! [`contract!`](crate::contract) makes a module of tests out of all of them. Time is paused, so a call that
//! waits for ever fails instead.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, poll_fn, ready};
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project::pin_project;
use stanchion::Error;
use tokio_test::task;
use tower::{Layer, Service};

/// Makes a module of tests out of one layer: `contract!(name, an expression that makes a layer)`.
///
/// With a third argument the layer is also checked while it refuses: a function that is given the layer, makes
/// it refuse all calls, and returns a guard whose drop makes it admit them again.
///
/// The layer must admit two calls at a time, and bear five failed ones.
#[macro_export]
macro_rules! contract {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a maker may be a path")]
            use super::*;
            $crate::contract!(@tests |promise, make| promise(make), $make;
                inner_is_called_only_once_it_is_ready
                inner_that_is_not_ready_holds_the_layer_back_and_wakes_it
                the_last_task_that_polled_is_the_one_that_is_woken
                poll_ready_may_be_repeated
                a_ready_service_may_be_dropped_without_a_call
                a_clone_of_a_ready_service_works_beside_it
                ten_thousand_clones_work_and_leave_nothing_behind
                answers_and_errors_pass_unchanged
                a_failed_poll_ready_passes_unchanged_and_is_survived
                a_pending_call_is_woken_and_may_move_to_another_task
                a_call_dropped_at_any_poll_gives_everything_back
                a_panic_in_call_is_survived
                a_panic_in_the_future_is_survived
                a_panic_in_poll_ready_is_survived
                inner_request_and_response_may_be_neither_send_nor_clone
                request_response_and_error_may_borrow
                inner_may_borrow
                an_infallible_inner_may_say_so_in_its_error
                send_and_sync_are_those_of_the_inner
            );
        }
    };
    ($name:ident, $make:expr, $refuse:expr) => {
        $crate::contract!($name, $make);
        mod ${concat}
    };
    (@tests |$promise:ident, $maker:ident| $run:expr, $make:expr; $($test:ident)*) => {};
}
