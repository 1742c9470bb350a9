mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::LstmBackend;
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::Dims;

fn dims<B: CpuBackend>(gates: &FloatTensor<B>) -> Dims {
    let [seq_length, batch_size, d_gates] = gates.shape().dims();
    Dims { seq_length, batch_size, d_hidden: d_gates / 4 }
}

#[allow(clippy::too_many_arguments)]
fn forward<B: CpuBackend, E: CpuScalar>(
    gates: FloatTensor<B>,
    bias: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    mask: Optional<B>,
    hidden0: FloatTensor<B>,
    cell0: FloatTensor<B>,
    forget_bias: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let dims = dims::<B>(&gates);
    let (shape, like) = (gates.shape(), Like::<B>::new(&gates));
    let mask = mask.into_option().map(B::values::<E>);
    let states = [dims.seq_length, dims.batch_size, dims.d_hidden];
    let mut activated = B::owned::<E>(gates);
    let mut hidden = vec![E::ZERO; states.iter().product()];
    let mut cell = hidden.clone();
    kernel::forward(
        dims,
        &mut activated,
        Some(&B::values(bias)),
        &B::values(weight_hidden),
        mask.as_deref(),
        &B::values(hidden0),
        &B::values(cell0),
        E::from_f64(forget_bias),
        &mut hidden,
        &mut cell,
        threads(),
    );
    (like.tensor(hidden, states), like.tensor(cell, states), like.tensor(activated, shape))
}

type Gradients<B> =
    (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

#[allow(clippy::too_many_arguments)]
fn backward<B: CpuBackend, E: CpuScalar>(
    activated: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    mask: Optional<B>,
    hidden0: FloatTensor<B>,
    cell0: FloatTensor<B>,
    hidden: FloatTensor<B>,
    cell: FloatTensor<B>,
    hidden_grad: FloatTensor<B>,
    cell_grad: Optional<B>,
) -> Gradients<B> {
    let dims = dims::<B>(&activated);
    let (shape, like) = (activated.shape(), Like::<B>::new(&activated));
    let Dims { batch_size, d_hidden, .. } = dims;
    let mask = mask.into_option().map(B::values::<E>);
    let cell_grad = cell_grad.into_option().map(B::values::<E>);
    let (hidden0, hidden) = (B::values::<E>(hidden0), B::values::<E>(hidden));
    let mut gates = B::owned::<E>(activated);
    let mut bias = vec![E::ZERO; 4 * d_hidden];
    let mut hidden0_grad = vec![E::ZERO; batch_size * d_hidden];
    let mut cell0_grad = hidden0_grad.clone();
    kernel::backward(
        dims,
        &mut gates,
        &B::values(weight_hidden),
        mask.as_deref(),
        &hidden0,
        &B::values(cell0),
        &hidden,
        &B::values(cell),
        Some(&B::values(hidden_grad)),
        cell_grad.as_deref(),
        Some(&mut bias),
        Some(&mut hidden0_grad),
        Some(&mut cell0_grad),
        threads(),
    );
    let mask = mask.as_deref();
    let weight = kernel::weight_gradient(dims, &gates, mask, &hidden0, &hidden, threads());
    (
        like.tensor(gates, shape),
        like.tensor(bias, [4 * d_hidden]),
        like.tensor(weight, [d_hidden, 4 * d_hidden]),
        like.tensor(hidden0_grad, [batch_size, d_hidden]),
        like.tensor(cell0_grad, [batch_size, d_hidden]),
    )
}

macro_rules! cpu_lstm {
    ($backend:ty) => {
        impl LstmBackend for $backend {
            fn lstm_forward(
                gates: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                weight_hidden: FloatTensor<Self>,
                mask: Optional<Self>,
                hidden0: FloatTensor<Self>,
                cell0: FloatTensor<Self>,
                forget_bias: f64,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(
                    gates.dtype(),
                    forward::<Self>(gates, bias, weight_hidden, mask, hidden0, cell0, forget_bias)
                )
            }

            fn lstm_backward(
                activated: FloatTensor<Self>,
                weight_hidden: FloatTensor<Self>,
                mask: Optional<Self>,
                hidden0: FloatTensor<Self>,
                cell0: FloatTensor<Self>,
                hidden: FloatTensor<Self>,
                cell: FloatTensor<Self>,
                hidden_grad: FloatTensor<Self>,
                cell_grad: Optional<Self>,
            ) -> Gradients<Self> {
                with_scalar!(
                    activated.dtype(),
                    backward::<Self>(
                        activated,
                        weight_hidden,
                        mask,
                        hidden0,
                        cell0,
                        hidden,
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
cpu_lstm!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_lstm!(burn::backend::NdArray);
