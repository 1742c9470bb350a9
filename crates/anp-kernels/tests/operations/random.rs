use anp_kernels::random::{
    dropout_mask, dropout_mask_reference, standard_normal, standard_normal_reference,
};
use burn::tensor::{DType, Tensor, TensorCreationOptions};

use anp_testing::{TestDevice, values};

type DrawMask = fn([usize; 3], f64, TensorCreationOptions) -> Tensor<3>;
type DrawNormal = fn([usize; 3], TensorCreationOptions) -> Tensor<3>;

/// Shares and moments within 6 standard deviations, of the kernels and of their references.
#[test]
fn draws_have_their_distribution_shape_and_type() {
    let (shape, prob) = ([13, 1, 20_001], 0.35);
    let count = shape.iter().product::<usize>() as f64;
    for device in TestDevice::all() {
        let options = (&device.device, device.dtype);
        let draws: [DrawMask; 2] = [dropout_mask, dropout_mask_reference];
        for draw in draws {
            let mask = draw(shape, prob, options.into());
            assert_eq!((mask.dims(), mask.dtype()), (shape, device.dtype), "{device:?}");
            let values = values(mask);
            let kept = 1.0 / (1.0 - prob);
            let is_right = |value: &f64| *value == 0.0 || (value - kept).abs() < 1e-6;
            assert!(values.iter().all(is_right), "{device:?}");
            let share = values.iter().filter(|value| **value == 0.0).count() as f64 / count;
            let bound = 6.0 * (prob * (1.0 - prob) / count).sqrt();
            assert!((share - prob).abs() < bound, "{device:?}: {share}");
        }
        let draws: [DrawNormal; 2] = [standard_normal, standard_normal_reference];
        for draw in draws {
            let normal = draw(shape, options.into());
            assert_eq!((normal.dims(), normal.dtype()), (shape, device.dtype), "{device:?}");
            let values = values(normal);
            let mean = values.iter().sum::<f64>() / count;
            let square = values.iter().map(|value| value * value).sum::<f64>() / count;
            assert!(mean.abs() < 6.0 / count.sqrt(), "{device:?}: {mean}");
            assert!((square - 1.0).abs() < 6.0 * (2.0 / count).sqrt(), "{device:?}: {square}");
        }
    }
}

#[test]
fn the_default_type_is_that_of_the_device() {
    for device in TestDevice::all() {
        let expected: DType = device.device.settings().float_dtype.into();
        assert_eq!(dropout_mask([2], 0.5, &device.device).dtype(), expected);
        assert_eq!(standard_normal([2], &device.device).dtype(), expected);
    }
}

#[test]
fn empty_shapes_and_a_probability_of_zero_are_fine() {
    for device in TestDevice::cpus() {
        assert_eq!(dropout_mask([3, 0], 0.5, &device.device).dims(), [3, 0]);
        assert_eq!(standard_normal([0], &device.device).dims(), [0]);
        assert!(values(dropout_mask([70], 0.0, &device.device)).iter().all(|value| *value == 1.0));
    }
}

#[test]
#[should_panic(expected = "`prob` must be in [0, 1), but is 1")]
fn a_mask_that_keeps_nothing_is_refused() {
    dropout_mask([2], 1.0, &TestDevice::all()[0].device);
}
