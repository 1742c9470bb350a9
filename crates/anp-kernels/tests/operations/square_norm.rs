use anp_kernels::Kernels;
use burn::tensor::{DType, Tensor};

use crate::agree_on_every_device;
use anp_testing::{TestDevice, Values, gradient, values};

fn run(shape: [usize; 3], device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let x = device.leaf(1, shape, 2.0);
    let of_view = kernels.square_norm(x.clone().swap_dims(0, 2).narrow(0, shape[2] / 2, 1));
    let norm = kernels.square_norm(x.clone());
    let gradients = (norm.clone() * 0.7 + of_view.clone()).backward();
    vec![
        ("norm", values(norm)),
        ("norm of a view", values(of_view)),
        ("gradient", gradient(&x, &gradients)),
    ]
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    // The last is more than one element for each unit of the cubes that share a sum.
    for shape in [[1, 1, 1], [4, 3, 5], [3, 211, 331]] {
        agree_on_every_device(shape, run);
    }
}

/// On a GPU without such a type there is nothing to test.
#[test]
fn half_precision_is_summed_in_single_precision() {
    for device in TestDevice::all().iter().filter(|device| device.dtype == DType::F32) {
        if !device.device.supports_dtype(DType::F16) {
            continue;
        }
        // In half precision, a sum that has reached 2,048 does not change by adding 1.
        let options = (&device.autodiff().device, DType::F16);
        let x = Tensor::<1>::ones([9000], options).require_grad();
        let norm = Kernels::Fused.square_norm(x.clone());
        assert_eq!(norm.dtype(), DType::F16, "{device:?}");
        assert_eq!(values(norm.clone()), [9000.0], "{device:?}");
        let gradient = x.grad(&norm.backward()).unwrap();
        assert_eq!(gradient.dtype(), DType::F16, "{device:?}");
        assert_eq!(values(gradient), [2.0; 9000], "{device:?}");
    }
}
