//! What every service has.

/// Access to the `inner` service.
macro_rules! inner_accessors {
    () => {
        /// The service inside.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service inside.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// The service inside.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

pub(crate) use inner_accessors;
