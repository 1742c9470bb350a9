//! What the tests of this workspace share. Nothing here is published.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`device`] | [`TestDevice`]: where tests run, and how exactly |
//! | [`fixture`](mod@fixture) | arrays and files that Python wrote, see `python/anp_reference` |
//! | [`compare`] | values and gradients within a tolerance |
//! | [`module`] | parameters and gradients of a whole module, by path |
//! | [`random`] | repeatable noise, and turns at the generator of a device |
//! | `renderer` | burn-train's renderer that shows nothing (feature `train`) |

pub mod compare;
pub mod device;
pub mod fixture;
pub mod module;
pub mod random;
#[cfg(feature = "train")]
pub mod renderer;

pub use compare::{Values, assert_close, assert_gradient, assert_values_close, gradient, values};
pub use device::TestDevice;
pub use fixture::{Array, fixture, fixture_path, package};
pub use module::{
    Arrays, RowsOf, assert_arrays_close, gradients, optimizer_gradients, parameters,
    with_parameters,
};
pub use random::{lock_generator, noise};
#[cfg(feature = "train")]
pub use renderer::SilentRenderer;
