//! Draws follow the seed of the device. Alone in its process, as threads share the generator of a
//! device.

use anp_kernels::random::{dropout_mask, standard_normal};
use anp_testing::{TestDevice, values};

/// One draw of some shape.
type Draw = fn(&TestDevice) -> Vec<f64>;

fn mask(device: &TestDevice) -> Vec<f64> {
    values(dropout_mask([3, 7, 11], 0.4, (&device.device, device.dtype)))
}

fn normal(device: &TestDevice) -> Vec<f64> {
    values(standard_normal([3, 7, 11], (&device.device, device.dtype)))
}

const DRAWS: [Draw; 2] = [mask, normal];

#[test]
fn draws_follow_the_seed_whatever_the_threads() {
    for device in TestDevice::all() {
        for draw in DRAWS {
            let drawn = |seed: u64, device: &TestDevice| {
                device.device.seed(seed);
                [draw(device), draw(device)]
            };
            let [first, second] = drawn(3, device);
            assert_eq!(drawn(3, device), [first.clone(), second.clone()], "{device:?}");
            assert_eq!(drawn(3, &device.autodiff()), [first.clone(), second.clone()], "{device:?}");
            assert_ne!(first, second, "{device:?}: one draw after another");
            assert_ne!(first, drawn(4, device)[0], "{device:?}: another seed");
        }
        if device.is_cpu() {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            let draw = || {
                device.device.seed(5);
                let options = (&device.device, device.dtype);
                let normal = standard_normal([301, 333], options);
                (values(dropout_mask([301, 333], 0.4, options)), values(normal))
            };
            assert_eq!(one.install(draw), two.install(draw), "{device:?}: threads");
        }
    }
}
