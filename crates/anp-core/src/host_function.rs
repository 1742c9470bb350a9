//! Functions that are computed on the host, with a gradient by hand.

use burn::tensor::{Tensor, TensorData};

use crate::widen::widen;

/// Value of a function at `point`, which autodiff sees as one product.
///
/// `function` gets the elements of `point`, row by row in double precision, and returns the value.
/// If the device says that a backward pass is possible, it also gets as many zeros, and replaces
/// them by the gradient.
///
/// ```text
/// y = f(x) + Σᵢ gᵢ·(xᵢ − x̄ᵢ),   x̄ = x and g = ∂f/∂x as constants
/// ```
///
/// The differences are exactly 0, and so is the sum; the derivative of y is exactly g. Both are f64
/// for an f64 point, else f32. An infinity or NaN in `point` gives NaN.
pub(crate) fn host_function<const D: usize>(
    point: Tensor<D>,
    function: impl FnOnce(&[f64], Option<&mut [f64]>) -> f64,
) -> Tensor<1> {
    let point = widen(point);
    let (device, dtype, shape) = (point.device(), point.dtype(), point.dims());
    let elements = point.clone().into_data().try_into_vec_as::<f64>().expect("floats convert");
    let constant = |value: f64| Tensor::from_data(TensorData::from([value]), (&device, dtype));
    if !device.is_autodiff() {
        return constant(function(&elements, None));
    }

    let mut gradient = vec![0.0; elements.len()];
    let value = function(&elements, Some(&mut gradient));
    let gradient = Tensor::<D>::from_data(TensorData::new(gradient, shape), (&device, dtype));
    let difference = point.clone() - point.detach();
    constant(value) + (gradient * difference).sum()
}
