use anp_core::is_training;
use burn::module::{Flag, Param};
use burn::tensor::Tensor;

use crate::random::dropout_mask;

/// The masks inside one recurrent layer, each scaled by `1 / (1 − p)`; `None` leaves the place
/// alone.
///
/// They last for all steps of a sequence.
#[derive(Debug, Clone, Default)]
pub struct LayerMasks {
    /// On the layer's input, in its matrix product only: `[1, batch_size, d_input]`, or one mask
    /// per gate: `[4, ..]` in an LSTM, `[2, ..]` in an RHN, one per part of the product in an SRU.
    pub input: Option<Tensor<3>>,
    /// On what goes from step to step: `[1, batch_size, d_hidden]`, or one mask per gate, `[4, ..]`
    /// in an LSTM and `[2, ..]` in an RHN. In an SRU it is on the activation of the cell.
    pub recurrent: Option<Tensor<3>>,
    /// On the elements of the recurrent matrices: `[1, d_hidden, gates · d_hidden]`, or
    /// `[depth, ..]` in an RHN. An SRU has no such matrix.
    pub weight: Option<Tensor<3>>,
}

impl LayerMasks {
    /// Draw the masks of a layer for one sequence under Burn's rule: none, unless `input`, which is
    /// time-first, is on an autodiff device and the layer takes part in training.
    ///
    /// `places` are probability and width on the input, then on what goes from step to step.
    pub(super) fn sample(
        training: &Param<Flag>,
        input: &Tensor<3>,
        places: [(f64, usize); 2],
    ) -> Self {
        let ([_, batch_size, _], device) = (input.dims(), input.device());
        let is_training = is_training(training, &device);
        let [input, recurrent] = places.map(|(prob, width)| {
            (is_training && prob > 0.0)
                .then(|| dropout_mask([1, batch_size, width], prob, (&device, input.dtype())))
        });
        Self { input, recurrent, weight: None }
    }
}
