use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::init::{draw, within};

/// Score of a place that cannot be pointed at: its exponential is zero, and sums with it stay
/// finite.
const HIDDEN: f64 = -1e30;

/// A word of the buffer of [`PointerState`] that is not there yet.
const NO_WORD: i64 = -1;

/// Configuration of a [`PointerSentinel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointerConfig {
    /// Last words that can be pointed at, the current one among them: at least 1.
    pub window: usize,
    /// Whether gradients go through the states that are pointed at. Those carried from earlier
    /// windows have none in any case.
    pub state_gradient: bool,
}

impl PointerConfig {
    /// For an output of width `d_hidden`.
    ///
    /// # Panics
    ///
    /// If `window` is 0.
    pub fn init(&self, d_hidden: usize, init_range: f64, device: &Device) -> PointerSentinel {
        assert!(self.window > 0, "a pointer needs a window of at least one word");
        PointerSentinel {
            weight: draw(within(init_range), [d_hidden, d_hidden], device),
            bias: draw(within(init_range), [d_hidden], device),
            sentinel: draw(within(init_range), [d_hidden], device),
            window: self.window,
            state_gradient: self.state_gradient,
        }
    }

    /// Parameters for an output of width `d_hidden`.
    pub(crate) fn num_params(d_hidden: usize) -> usize {
        d_hidden * (d_hidden + 2)
    }
}

/// A pointer to the last words read, and a sentinel that says how far to trust the softmax instead.
///
/// ```text
/// q_t = tanh(h̃_t W + b)
/// a   = softmax([q_t · h_i for the last L words i ≤ t; q_t · s])
/// p(w) = g p_vocabulary(w) + Σ_{i: word i is w} a_i,      g = the sentinel's share of a
/// ```
///
/// [Merity et al., 2016](https://arxiv.org/abs/1609.07843). `h̃_t` is the output after dropout,
/// `h_i` the state before it, as a state is carried. The authors run the last L words anew for each
/// update; here the states of earlier windows were computed with the parameters of that time and
/// have no gradient.
#[derive(Module, Debug)]
pub struct PointerSentinel {
    /// `W`: `[d_hidden, d_hidden]`.
    pub weight: Param<Tensor<2>>,
    /// `b`: `[d_hidden]`.
    pub bias: Param<Tensor<1>>,
    /// `s`: `[d_hidden]`.
    pub sentinel: Param<Tensor<1>>,
    window: usize,
    state_gradient: bool,
}

/// The last words read and the states after them.
#[derive(Debug, Clone)]
pub struct PointerState {
    /// Hidden states of the last layer, the oldest first: `[window, batch_size, d_hidden]`.
    pub states: Tensor<3>,
    /// The words, −1 where the text is shorter than the window: `[window, batch_size]`.
    pub words: Tensor<2, Int>,
}

impl PointerState {
    /// The same values, cut from the graph that made them.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { states: self.states.detach(), words: self.words }
    }
}

/// Where the pointer of each token of a window points.
#[derive(Debug, Clone)]
pub struct Pointing {
    /// `q_t · h_i`, −10³⁰ where a token cannot point:
    /// `[batch_size, seq_length, window + seq_length]`.
    scores: Tensor<3>,
    /// `q_t · s`: `[batch_size, seq_length, 1]`.
    sentinel: Tensor<3>,
    /// `[batch_size, 1, window + seq_length]`.
    words: Tensor<3, Int>,
}

/// Terms of the loss of a pointer, one value per token, in nats: `[seq_length · batch_size]` each.
#[derive(Debug, Clone)]
pub struct PointerTerms {
    /// `−ln p(w)` of the mixture.
    pub nll: Tensor<1>,
    /// `−ln(g + Σ_{i: word i is w} a_i)`: the pointer's own supervision.
    pub supervision: Tensor<1>,
}

impl PointerSentinel {
    /// The state before a text: nothing to point at.
    pub fn zero_state(&self, batch_size: usize, device: &Device) -> PointerState {
        let [d_hidden] = self.sentinel.dims();
        PointerState {
            states: Tensor::zeros([self.window, batch_size, d_hidden], device),
            words: Tensor::full([self.window, batch_size], NO_WORD, device),
        }
    }

    /// Point from each token of a window at the words up to it; also the state after the window.
    ///
    /// # Shapes
    ///
    /// - `dropped`: `h̃`, `[seq_length, batch_size, d_hidden]`
    /// - `hidden`: `h`, the same
    /// - `words`: `[seq_length, batch_size]`
    ///
    /// # Panics
    ///
    /// If a shape does not fit.
    pub fn forward(
        &self,
        dropped: Tensor<3>,
        hidden: Tensor<3>,
        words: Tensor<2, Int>,
        state: PointerState,
    ) -> (Pointing, PointerState) {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let device = dropped.device();
        let places = self.window + seq_length;
        let hidden = if self.state_gradient { hidden } else { hidden.detach() };
        let states = Tensor::cat(vec![state.states, hidden], 0);
        let words = Tensor::cat(vec![state.words, words], 0);

        let query = dropped.reshape([seq_length * batch_size, d_hidden]).matmul(self.weight.val());
        let query = (query + self.bias.val().unsqueeze()).tanh();
        let sentinel = query.clone().matmul(self.sentinel.val().reshape([d_hidden, 1]));
        let by_stream = |tensor: Tensor<2>, width| {
            tensor.reshape([seq_length, batch_size, width]).swap_dims(0, 1)
        };
        let sentinel = by_stream(sentinel, 1);
        let scores = by_stream(query, d_hidden).matmul(states.clone().permute([1, 2, 0]));

        // Place j is word j − window of this window; token t sees the words t − window < j − window
        // ≤ t.
        let shape = [batch_size, seq_length, places];
        let place = Tensor::<1, Int>::arange(0..places as i64, &device).reshape([1, 1, places]);
        let token =
            Tensor::<1, Int>::arange(0..seq_length as i64, &device).reshape([1, seq_length, 1]);
        let ahead = place.expand([1, seq_length, places]) - token.expand([1, seq_length, places]);
        let outside = ahead
            .clone()
            .lower_elem(1)
            .bool_or(ahead.greater_elem(self.window as i64))
            .expand(shape);
        let by_place = words.clone().swap_dims(0, 1).reshape([batch_size, 1, places]);
        let absent = by_place.clone().lower_elem(0).expand(shape);
        let pointing = Pointing {
            scores: scores.mask_fill(outside.bool_or(absent), HIDDEN),
            sentinel,
            words: by_place,
        };
        let state = PointerState {
            states: states.narrow(0, seq_length, self.window),
            words: words.narrow(0, seq_length, self.window),
        };
        (pointing, state)
    }
}

impl Pointing {
    /// The loss of the mixture, given that of the softmax alone.
    ///
    /// # Shapes
    ///
    /// - `nll`: `[seq_length · batch_size]`, in nats
    /// - `targets`: `[seq_length, batch_size]`
    pub fn mix(&self, nll: Tensor<1>, targets: Tensor<2, Int>) -> PointerTerms {
        let [batch_size, seq_length, places] = self.scores.dims();
        let shape = [batch_size, seq_length, places];
        let log_vocabulary = nll.neg().reshape([seq_length, batch_size, 1]).swap_dims(0, 1);
        let targets = targets.reshape([seq_length, batch_size, 1]).swap_dims(0, 1);
        let miss = self.words.clone().expand(shape).not_equal(targets.expand(shape));

        let total = log_sum_exp(Tensor::cat(vec![self.scores.clone(), self.sentinel.clone()], 2));
        let log_gate = self.sentinel.clone() - total.clone();
        let log_copy = log_sum_exp(self.scores.clone().mask_fill(miss, HIDDEN)) - total;
        let log_of_sum = |left: Tensor<3>| {
            let log_sum = log_sum_exp(Tensor::cat(vec![left, log_copy.clone()], 2));
            log_sum.swap_dims(0, 1).reshape([seq_length * batch_size])
        };
        PointerTerms {
            nll: log_of_sum(log_gate.clone() + log_vocabulary).neg(),
            supervision: log_of_sum(log_gate).neg(),
        }
    }
}

/// `ln Σ eˣ` over the last dimension, of which one element is left.
fn log_sum_exp(x: Tensor<3>) -> Tensor<3> {
    let largest = x.clone().max_dim(2).detach();
    (x - largest.clone()).exp().sum_dim(2).log() + largest
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    const TIME: usize = 6;
    const BATCH: usize = 2;
    const WIDTH: usize = 3;

    fn pointer(window: usize, device: &Device) -> PointerSentinel {
        PointerConfig { window, state_gradient: true }.init(WIDTH, 1.0, device)
    }

    fn normal(device: &Device) -> Tensor<3> {
        Tensor::random([TIME, BATCH, WIDTH], Distribution::Normal(0.0, 1.0), device)
    }

    fn words(device: &Device) -> Tensor<2, Int> {
        Tensor::from_data([[1, 2], [2, 2], [0, 1], [1, 0], [3, 3], [1, 2]], device)
    }

    /// Over all words of the vocabulary the probabilities of the mixture add up to one.
    #[test]
    fn the_mixture_is_a_distribution() {
        let device = Device::default();
        device.seed(4);
        let vocabulary: i64 = 5;
        for window in [1, 4, 10] {
            let pointer = pointer(window, &device);
            let state = pointer.zero_state(BATCH, &device);
            let hidden = normal(&device);
            let (pointing, _) = pointer.forward(hidden.clone(), hidden, words(&device), state);
            let sum = (0..vocabulary)
                .map(|word| {
                    let nll = Tensor::<1>::full([TIME * BATCH], (vocabulary as f64).ln(), &device);
                    let targets = Tensor::full([TIME, BATCH], word, &device);
                    pointing.mix(nll, targets).nll.neg().exp()
                })
                .reduce(|sum, p| sum + p)
                .unwrap();
            for total in sum.into_data().iter::<f64>() {
                assert!((total - 1.0).abs() < 1e-5, "window {window}: {total}");
            }
        }
    }

    /// A word that is nowhere in the window is left to the softmax, and its supervision is the
    /// gate's alone.
    #[test]
    fn a_word_outside_the_window_is_left_to_the_softmax() {
        let device = Device::default();
        device.seed(4);
        let pointer = pointer(2, &device);
        let state = pointer.zero_state(BATCH, &device);
        let hidden = normal(&device);
        let (pointing, state) = pointer.forward(hidden.clone(), hidden, words(&device), state);
        let nll = Tensor::<1>::full([TIME * BATCH], 3.0, &device);
        let targets = Tensor::full([TIME, BATCH], 4, &device);
        let terms = pointing.mix(nll, targets);
        let difference = terms.nll - terms.supervision - 3.0;
        assert!(difference.abs().max().into_scalar::<f64>() < 1e-5);
        let last: Vec<i64> = state.words.into_data().iter::<i64>().collect();
        assert_eq!(last, [3, 3, 1, 2]);
    }

    /// However sure the pointer is, loss and gradients are numbers.
    #[test]
    fn the_loss_is_finite_where_the_scores_are_large() {
        let device = Device::default().autodiff();
        device.seed(4);
        let pointer = pointer(4, &device);
        let state = pointer.zero_state(BATCH, &device);
        let hidden = (normal(&device) * 1e4).require_grad();
        let (pointing, _) = pointer.forward(hidden.clone(), hidden.clone(), words(&device), state);
        let nll = Tensor::<1>::full([TIME * BATCH], 50.0, &device);
        let terms = pointing.mix(nll, words(&device));
        let loss = terms.nll.sum() + terms.supervision.sum();
        assert!(loss.clone().into_scalar::<f64>().is_finite());
        let gradient = hidden.grad(&loss.backward()).unwrap();
        assert!(gradient.into_data().iter::<f64>().all(f64::is_finite));
    }
}
