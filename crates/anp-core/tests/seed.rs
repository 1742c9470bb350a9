//! Alone in its program: the generator of a device may be one for the whole process, and tests run
//! side by side.

use anp_core::{
    LockedDropoutConfig, SkipInputConfig, VariationalBottleneckConfig, WordDropoutConfig,
    sample_mask,
};
use burn::tensor::{Device, Int, Tensor, TensorData};

#[test]
fn a_seed_repeats_every_draw() {
    let device = Device::default().autodiff();
    let tokens = Tensor::<1, Int>::arange(0..20, &device).reshape([4, 5]);
    let activation = Tensor::<3>::ones([4, 5, 30], &device);
    let locked = LockedDropoutConfig::new(0.5).init();
    let words = WordDropoutConfig::new(20, 0.5).init();
    let skip = SkipInputConfig::new(0.5).init();
    let bottleneck = VariationalBottleneckConfig::new(30, 4, 1.0).init(&device);
    let encoding = bottleneck.encode(activation.clone());

    let draw = |seed| -> Vec<TensorData> {
        device.seed(seed);
        vec![
            sample_mask([40, 3], 0.5, &device).into_data(),
            locked.forward(activation.clone()).into_data(),
            words.forward(activation.clone(), tokens.clone()).into_data(),
            skip.forward(activation.clone()).into_data(),
            bottleneck.latent(&encoding).into_data(),
        ]
    };
    let first = draw(1);
    assert_eq!(first, draw(1));
    for (one, other) in first.iter().zip(draw(2)) {
        assert_ne!(one, &other);
    }
}
