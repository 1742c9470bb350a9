mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::RhnBackend;
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{Dims, Gradients, Inputs};

fn forward<B: CpuBackend, E: CpuScalar>(
    gates: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    bias: FloatTensor<B>,
    mask: Optional<B>,
    state0: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let like = Like::<B>::new(&gates);
    let [seq_length, batch_size, d_gates] = gates.shape().dims();
    let [depth, d_hidden, _] = weight_hidden.shape().dims();
    let dims = Dims { seq_length, depth, batch_size, d_hidden };
    let mask = mask.into_option().map(B::values::<E>);
    let (weight_hidden, state0) = (B::values::<E>(weight_hidden), B::values::<E>(state0));
    let inputs =
        Inputs { dims, weight_hidden: &weight_hidden, mask: mask.as_deref(), state0: &state0 };
    let sequence = seq_length * batch_size * d_hidden;
    let mut activated = vec![E::ZERO; 2 * depth * sequence];
    let mut inner = vec![E::ZERO; depth * sequence];
    let mut hidden = vec![E::ZERO; sequence];
    kernel::forward(
        &inputs,
        &B::values(gates),
        &B::values(bias),
        &mut activated,
        &mut inner[..(depth - 1) * sequence],
        &mut hidden,
        threads(),
    );
    (
        like.tensor(hidden, [seq_length, batch_size, d_hidden]),
        like.tensor(activated, [depth, seq_length, batch_size, d_gates]),
        like.tensor(inner, [depth, seq_length, batch_size, d_hidden]),
    )
}

type Four<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

fn backward<B: CpuBackend, E: CpuScalar>(
    activated: FloatTensor<B>,
    inner: FloatTensor<B>,
    hidden: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    mask: Optional<B>,
    state0: FloatTensor<B>,
    hidden_grad: FloatTensor<B>,
) -> Four<B> {
    let like = Like::<B>::new(&activated);
    let [depth, seq_length, batch_size, d_gates] = activated.shape().dims();
    let d_hidden = d_gates / 2;
    let dims = Dims { seq_length, depth, batch_size, d_hidden };
    let mask = mask.into_option().map(B::values::<E>);
    let (weight_hidden, state0) = (B::values::<E>(weight_hidden), B::values::<E>(state0));
    let inputs =
        Inputs { dims, weight_hidden: &weight_hidden, mask: mask.as_deref(), state0: &state0 };
    let sequence = seq_length * batch_size * d_hidden;
    let inner = B::values::<E>(inner);
    let mut activated = B::owned::<E>(activated);
    let mut weight_grad = vec![E::ZERO; weight_hidden.len()];
    let mut bias_grad = vec![E::ZERO; depth * d_gates];
    let mut state0_grad = vec![E::ZERO; batch_size * d_hidden];
    kernel::backward(
        &inputs,
        &mut activated,
        &inner[..(depth - 1) * sequence],
        &B::values(hidden),
        &B::values(hidden_grad),
        Gradients {
            weight_hidden: &mut weight_grad,
            bias: &mut bias_grad,
            state0: &mut state0_grad,
        },
        threads(),
    );
    activated.truncate(2 * sequence);
    (
        like.tensor(activated, [seq_length, batch_size, d_gates]),
        like.tensor(weight_grad, [depth, d_hidden, d_gates]),
        like.tensor(bias_grad, [depth, d_gates]),
        like.tensor(state0_grad, [batch_size, d_hidden]),
    )
}

macro_rules! cpu_rhn {
    ($backend:ty) => {
        impl RhnBackend for $backend {
            fn rhn_forward(
                gates: FloatTensor<Self>,
                weight_hidden: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                mask: Optional<Self>,
                state0: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(
                    gates.dtype(),
                    forward::<Self>(gates, weight_hidden, bias, mask, state0)
                )
            }

            fn rhn_backward(
                activated: FloatTensor<Self>,
                inner: FloatTensor<Self>,
                hidden: FloatTensor<Self>,
                weight_hidden: FloatTensor<Self>,
                mask: Optional<Self>,
                state0: FloatTensor<Self>,
                hidden_grad: FloatTensor<Self>,
            ) -> Four<Self> {
                with_scalar!(
                    activated.dtype(),
                    backward::<Self>(
                        activated,
                        inner,
                        hidden,
                        weight_hidden,
                        mask,
                        state0,
                        hidden_grad
                    )
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_rhn!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_rhn!(burn::backend::NdArray);
