//! Draws are those of the device's seed. Alone in its process: threads share the generator of a device.

mod support;

use anp_kernels::random::{dropout_mask, standard_normal};
use support::{Place, values};

/// One draw of some shape.
type Draw = fn(&Place) -> Vec<f64>;

fn mask(place: &Place) -> Vec<f64> {
    values(dropout_mask([3, 7, 11], 0.4, (&place.device, place.dtype)))
}

fn normal(place: &Place) -> Vec<f64> {
    values(standard_normal([3, 7, 11], (&place.device, place.dtype)))
}

const DRAWS: [Draw; 2] = [mask, normal];

#[test]
fn draws_are_those_of_the_seed() {
    for place in Place::all() {
        for draw in DRAWS {
            let drawn = |seed: u64, place: &Place| {
                place.device.seed(seed);
                [draw(place), draw(place)]
            };
            let [first, second] = drawn(3, place);
            assert_eq!(drawn(3, place), [first.clone(), second.clone()], "{place:?}");
            assert_eq!(drawn(3, &place.autodiff()), [first.clone(), second.clone()], "{place:?}");
            assert_ne!(first, second, "{place:?}: one draw after another");
            assert_ne!(first, drawn(4, place)[0], "{place:?}: another seed");
        }
        if place.is_cpu() {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            let draw = || {
                place.device.seed(5);
                let options = (&place.device, place.dtype);
                let normal = standard_normal([301, 333], options);
                (values(dropout_mask([301, 333], 0.4, options)), values(normal))
            };
            assert_eq!(one.install(draw), two.install(draw), "{place:?}: threads");
        }
    }
}
