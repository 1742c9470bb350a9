mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{Momentum, SgdBackend, SgdOptions};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{Gradient, Parameter, Rows, square_norm, step};

fn dense<B: CpuBackend, E: CpuScalar>(
    tensor: FloatTensor<B>,
    gradient: FloatTensor<B>,
    scale: FloatTensor<B>,
    options: SgdOptions,
) -> FloatTensor<B> {
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let scale = B::values::<E>(scale)[0].to_f64();
    let gradient = B::values::<E>(gradient);
    let mut values = B::owned::<E>(tensor);
    let SgdOptions { learning_rate, coupled_decay, decoupled_decay } = options;
    let parameter = Parameter {
        values: &mut values,
        gradient: Gradient::Dense(&gradient),
        learning_rate,
        coupled_decay,
        decoupled_decay,
        momentum: None,
    };
    step(&mut [parameter], scale, threads());
    like.tensor(values, shape)
}

fn with_momentum<B: CpuBackend, E: CpuScalar>(
    tensor: FloatTensor<B>,
    gradient: FloatTensor<B>,
    velocity: Optional<B>,
    scale: FloatTensor<B>,
    options: SgdOptions,
    momentum: Momentum,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let scale = B::values::<E>(scale)[0].to_f64();
    let gradient = B::values::<E>(gradient);
    let mut values = B::owned::<E>(tensor);
    // The first step's gradient is not dampened.
    let (mut velocity, dampening) = match velocity.into_option() {
        Some(velocity) => (B::owned::<E>(velocity), momentum.dampening),
        None => (vec![E::ZERO; values.len()], 0.0),
    };
    let SgdOptions { learning_rate, coupled_decay, decoupled_decay } = options;
    let parameter = Parameter {
        values: &mut values,
        gradient: Gradient::Dense(&gradient),
        learning_rate,
        coupled_decay,
        decoupled_decay,
        momentum: Some(kernel::Momentum {
            velocity: &mut velocity,
            momentum: momentum.factor,
            dampening,
            nesterov: momentum.nesterov,
        }),
    };
    step(&mut [parameter], scale, threads());
    let len = velocity.len();
    (like.tensor(values, shape), like.tensor(velocity, [len]))
}

fn sparse<B: CpuBackend, E: CpuScalar>(
    tensor: FloatTensor<B>,
    values: FloatTensor<B>,
    rows: IntTensor<B>,
    scale: FloatTensor<B>,
    learning_rate: f64,
) -> FloatTensor<B> {
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let sizes: [usize; 2] = shape.dims();
    let scale = B::values::<E>(scale)[0].to_f64();
    let gradient = B::values::<E>(values);
    let rows = Rows::new(&B::indices(rows), &gradient, sizes);
    let mut values = B::owned::<E>(tensor);
    let parameter = Parameter {
        values: &mut values,
        gradient: Gradient::Rows(rows),
        learning_rate,
        coupled_decay: 0.0,
        decoupled_decay: 0.0,
        momentum: None,
    };
    step(&mut [parameter], scale, threads());
    like.tensor(values, shape)
}

fn rows_norm<B: CpuBackend, E: CpuScalar>(
    values: FloatTensor<B>,
    rows: IntTensor<B>,
    num_rows: usize,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&values);
    let [_, width] = values.shape().dims();
    let values = B::values::<E>(values);
    let rows = Rows::new(&B::indices(rows), &values, [num_rows, width]);
    let norm = square_norm(&Gradient::Rows(rows), num_rows * width, threads());
    like.tensor(vec![E::from_f64(norm)], [1])
}

macro_rules! cpu_sgd {
    ($backend:ty) => {
        impl SgdBackend for $backend {
            fn sgd_step(
                tensor: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                options: SgdOptions,
            ) -> FloatTensor<Self> {
                with_scalar!(tensor.dtype(), dense::<Self>(tensor, gradient, scale, options))
            }

            fn sgd_momentum_step(
                tensor: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                velocity: Optional<Self>,
                scale: FloatTensor<Self>,
                options: SgdOptions,
                momentum: Momentum,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(
                    tensor.dtype(),
                    with_momentum::<Self>(tensor, gradient, velocity, scale, options, momentum)
                )
            }

            fn sgd_rows(
                tensor: FloatTensor<Self>,
                values: FloatTensor<Self>,
                rows: IntTensor<Self>,
                scale: FloatTensor<Self>,
                learning_rate: f64,
            ) -> FloatTensor<Self> {
                with_scalar!(
                    tensor.dtype(),
                    sparse::<Self>(tensor, values, rows, scale, learning_rate)
                )
            }

            fn rows_square_norm(
                values: FloatTensor<Self>,
                rows: IntTensor<Self>,
                num_rows: usize,
            ) -> FloatTensor<Self> {
                with_scalar!(values.dtype(), rows_norm::<Self>(values, rows, num_rows))
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_sgd!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_sgd!(burn::backend::NdArray);
