//! The policies that come with Firn, from `policies/*.toml` beside this crate.

use crate::Policy;

/// All shipped policies, by id.
#[must_use]
pub fn shipped() -> Vec<Policy> {
    todo!()
}
