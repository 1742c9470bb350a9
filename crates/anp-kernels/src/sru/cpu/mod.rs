mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{Activation, SruBackend};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{Dims, Gradients, Inputs};

fn dims<B: CpuBackend>(product: &FloatTensor<B>, cell0: &FloatTensor<B>) -> Dims {
    let [seq_length, batch_size, _] = product.shape().dims();
    let [_, d_hidden] = cell0.shape().dims();
    Dims { seq_length, batch_size, d_hidden }
}

fn forward<B: CpuBackend, E: CpuScalar>(
    product: FloatTensor<B>,
    highway: Optional<B>,
    bias: FloatTensor<B>,
    mask: Optional<B>,
    cell0: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (dims, like) = (dims::<B>(&product, &cell0), Like::<B>::new(&product));
    let highway = highway.into_option().map(B::values::<E>);
    let mask = mask.into_option().map(B::values::<E>);
    let (bias, cell0) = (B::values::<E>(bias), B::values::<E>(cell0));
    let inputs = Inputs {
        dims,
        activation,
        bias: &bias,
        highway: highway.as_deref(),
        mask: mask.as_deref(),
        cell0: &cell0,
    };
    let shape = [dims.seq_length, dims.batch_size, dims.d_hidden];
    let mut hidden = vec![E::ZERO; shape.iter().product()];
    let mut cell = hidden.clone();
    kernel::forward(&inputs, &B::values(product), &mut hidden, &mut cell, threads());
    (like.tensor(hidden, shape), like.tensor(cell, shape))
}

type Four<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

#[allow(clippy::too_many_arguments)]
fn backward<B: CpuBackend, E: CpuScalar>(
    product: FloatTensor<B>,
    highway: Optional<B>,
    bias: FloatTensor<B>,
    mask: Optional<B>,
    cell0: FloatTensor<B>,
    activation: Activation,
    cell: FloatTensor<B>,
    hidden_grad: FloatTensor<B>,
    cell_grad: Optional<B>,
) -> Four<B> {
    let (dims, like) = (dims::<B>(&product, &cell0), Like::<B>::new(&product));
    let Dims { seq_length, batch_size, d_hidden } = dims;
    let product_shape = product.shape();
    let highway = highway.into_option().map(B::values::<E>);
    let mask = mask.into_option().map(B::values::<E>);
    let cell_grad = cell_grad.into_option().map(B::values::<E>);
    let (bias, cell0) = (B::values::<E>(bias), B::values::<E>(cell0));
    let inputs = Inputs {
        dims,
        activation,
        bias: &bias,
        highway: highway.as_deref(),
        mask: mask.as_deref(),
        cell0: &cell0,
    };
    let mut product = B::owned::<E>(product);
    let mut highway_grad =
        highway.as_deref().map(|_| vec![E::ZERO; seq_length * batch_size * d_hidden]);
    let mut bias_grad = vec![E::ZERO; 2 * d_hidden];
    let mut cell0_grad = vec![E::ZERO; batch_size * d_hidden];
    kernel::backward(
        &inputs,
        &mut product,
        &B::values(cell),
        Some(&B::values(hidden_grad)),
        cell_grad.as_deref(),
        Gradients {
            highway: highway_grad.as_deref_mut(),
            bias: &mut bias_grad,
            cell0: &mut cell0_grad,
        },
        threads(),
    );
    (
        like.tensor(product, product_shape),
        like.tensor(bias_grad, [2 * d_hidden]),
        like.tensor(cell0_grad, [batch_size, d_hidden]),
        match highway_grad {
            Some(gradient) => like.tensor(gradient, [seq_length, batch_size, d_hidden]),
            None => like.tensor(vec![E::ZERO], [1]),
        },
    )
}

macro_rules! cpu_sru {
    ($backend:ty) => {
        impl SruBackend for $backend {
            fn sru_forward(
                product: FloatTensor<Self>,
                highway: Optional<Self>,
                bias: FloatTensor<Self>,
                mask: Optional<Self>,
                cell0: FloatTensor<Self>,
                activation: Activation,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(
                    product.dtype(),
                    forward::<Self>(product, highway, bias, mask, cell0, activation)
                )
            }

            fn sru_backward(
                product: FloatTensor<Self>,
                highway: Optional<Self>,
                bias: FloatTensor<Self>,
                mask: Optional<Self>,
                cell0: FloatTensor<Self>,
                activation: Activation,
                cell: FloatTensor<Self>,
                hidden_grad: FloatTensor<Self>,
                cell_grad: Optional<Self>,
            ) -> Four<Self> {
                with_scalar!(
                    product.dtype(),
                    backward::<Self>(
                        product,
                        highway,
                        bias,
                        mask,
                        cell0,
                        activation,
                        cell,
                        hidden_grad,
                        cell_grad
                    )
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_sru!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_sru!(burn::backend::NdArray);
