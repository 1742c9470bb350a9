//! The layers: against burn-nn's, with their dropouts, stacked, and with weights that PyTorch
//! trained.

use anp_kernels::MatmulPrecision;
use anp_kernels::lstm::{LstmInputs, lstm_reference};
use anp_kernels::nn::{
    LayerMasks, Lstm, LstmConfig, LstmStack, LstmStackConfig, LstmState, RhnConfig, RhnState,
    SruConfig, SruStack, SruStackConfig, SruState,
};
use anp_kernels::rhn::{RhnInputs, rhn_reference};
use anp_kernels::sru::{Activation, SruInputs, sru_reference};
use anp_testing::{Array, TestDevice, values};
use burn::module::Module;
use burn::nn;
use burn::tensor::{DType, Device, Tensor};

/// Devices that what lies around an operation is tested on, in the type that `init` makes
/// parameters of; the operations themselves have their tests on every device.
fn places() -> impl Iterator<Item = &'static TestDevice> {
    TestDevice::cpus().filter(|place| place.dtype == DType::F32)
}

fn device() -> Device {
    places().next().expect("a build for tests has a CPU backend").device.clone()
}

#[track_caller]
fn assert_same<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    expected: Tensor<D>,
    place: &TestDevice,
) {
    let what = format!("{what} on {place:?}");
    Array::of(expected).assert_close(&what, actual, place.tolerance());
}

mod burn_nn {
    use super::*;
    use anp_kernels::nn::UnsupportedLstm;
    use burn::nn::activation::ActivationConfig;
    use burn::nn::{GateController, Linear};
    use burn::tensor::Gradients;

    /// A gradient of burn-nn's gates, side by side.
    fn side_by_side<const D: usize>(
        lstm: &nn::Lstm,
        gradient: impl Fn(&GateController) -> Tensor<D>,
    ) -> Tensor<D> {
        let forget_gate = lstm.forget_gate.as_ref().expect("the gates are not coupled");
        let gates = [&lstm.input_gate, forget_gate, &lstm.cell_gate, &lstm.output_gate];
        Tensor::cat(gates.map(gradient).to_vec(), D - 1)
    }

    fn weight(linear: &Linear, gradients: &Gradients) -> Tensor<2> {
        linear.weight.grad(gradients).expect("the weight is a leaf")
    }

    fn bias(linear: &Linear, gradients: &Gradients) -> Tensor<1> {
        linear.bias.as_ref().unwrap().grad(gradients).expect("the bias is a leaf")
    }

    fn agrees(bias_enabled: bool, batch_first: bool, with_state: bool, place: &TestDevice) {
        let place = &place.autodiff();
        let theirs = nn::LstmConfig::new(3, 5, bias_enabled)
            .with_batch_first(batch_first)
            .init(&place.device);
        let ours = Lstm::from_burn_nn(theirs.clone()).unwrap();
        assert_eq!(ours.num_params(), theirs.num_params());
        assert_eq!(ours.to_string(), theirs.to_string());

        let [first, second] = if batch_first { [2, 4] } else { [4, 2] };
        let input = place.random(1, [first, second, 3], 1.0).require_grad();
        let state = with_state.then(|| {
            nn::LstmState::new(place.random(2, [2, 5], 1.0), place.random(3, [2, 5], 0.5))
        });
        let loss = |hidden: &Tensor<3>, cell: &Tensor<2>| {
            let weights = place.random(4, [first, second, 5], 1.0);
            (hidden.clone() * weights).sum() + cell.clone().sum()
        };

        let (expected, expected_state) = theirs.forward(input.clone(), state.clone());
        let expected_gradients = loss(&expected, &expected_state.cell).backward();
        let (hidden, last) = ours.forward(input.clone(), state.map(LstmState::from));
        let gradients = loss(&hidden, &last.cell).backward();

        assert_same("hidden", hidden, expected, place);
        assert_same("last hidden", last.hidden, expected_state.hidden, place);
        assert_same("last cell", last.cell, expected_state.cell, place);
        let [actual, expected] = [&gradients, &expected_gradients].map(|g| input.grad(g).unwrap());
        assert_same("input's gradient", actual, expected, place);
        assert_same(
            "input weight's gradient",
            ours.weight_input.grad(&gradients).unwrap(),
            side_by_side(&theirs, |gate| weight(&gate.input_transform, &expected_gradients)),
            place,
        );
        assert_same(
            "recurrent weight's gradient",
            ours.weight_hidden.grad(&gradients).unwrap(),
            side_by_side(&theirs, |gate| weight(&gate.hidden_transform, &expected_gradients)),
            place,
        );
        if bias_enabled {
            assert_same(
                "input bias' gradient",
                ours.bias_input.unwrap().grad(&gradients).unwrap(),
                side_by_side(&theirs, |gate| bias(&gate.input_transform, &expected_gradients)),
                place,
            );
            assert_same(
                "recurrent bias' gradient",
                ours.bias_hidden.unwrap().grad(&gradients).unwrap(),
                side_by_side(&theirs, |gate| bias(&gate.hidden_transform, &expected_gradients)),
                place,
            );
        }
    }

    #[test]
    fn a_converted_layer_computes_the_same_with_the_same_gradients() {
        for place in TestDevice::all().iter().filter(|place| place.dtype == DType::F32) {
            agrees(true, true, true, place);
        }
        for place in places() {
            agrees(true, false, false, place);
            agrees(false, true, true, place);
        }
    }

    #[test]
    fn what_has_no_equal_is_refused() {
        let config = nn::LstmConfig::new(3, 2, true);
        let refused = |config: nn::LstmConfig| -> UnsupportedLstm {
            Lstm::from_burn_nn(config.init(&device())).expect_err("it has no equal")
        };
        for (config, message) in [
            (
                config.clone().with_reverse(true),
                "an LSTM with a reversed sequence has no fused equal",
            ),
            (config.clone().with_clip(Some(1.0)), "an LSTM with a clipped cell has no fused equal"),
            (
                config.clone().with_input_forget(true),
                "an LSTM with coupled gates has no fused equal",
            ),
            (
                config.clone().with_cell_activation(ActivationConfig::Relu),
                "an LSTM with other activations has no fused equal",
            ),
        ] {
            assert_eq!(refused(config).to_string(), message);
        }
        let mut lstm = config.init(&device());
        lstm.output_gate.hidden_transform.bias = None;
        let error = Lstm::from_burn_nn(lstm).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an LSTM with a bias in some of its gates has no fused equal"
        );
    }
}

mod initial_values {
    use super::*;
    use burn::nn::Initializer;

    /// Largest magnitude and standard deviation around 0.
    fn spread<const D: usize>(tensor: Tensor<D>) -> (f64, f64) {
        let values = values(tensor);
        let square = values.iter().map(|value| value * value).sum::<f64>();
        let max = values.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
        (max, (square / values.len() as f64).sqrt())
    }

    #[test]
    fn are_distributed_as_burn_nns() {
        let lstm = LstmConfig::new(60, 200, true).init(&device());
        for (deviation, d_in) in [
            (spread(lstm.weight_input.val()).1, 60),
            (spread(lstm.weight_hidden.val()).1, 200),
            (spread(lstm.bias_input.unwrap().val()).1, 60),
        ] {
            // 6 standard deviations of the smallest sample, the bias of 800 elements.
            let expected = (2.0 / (d_in + 200) as f64).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.15, "{deviation} is not {expected}");
        }
    }

    #[test]
    fn are_distributed_as_pytorchs_on_demand() {
        let lstm = LstmConfig::new(60, 100, true).with_pytorch_initializer().init(&device());
        for (max, deviation) in [
            spread(lstm.weight_input.val()),
            spread(lstm.weight_hidden.val()),
            spread(lstm.bias_input.unwrap().val()),
            spread(lstm.bias_hidden.unwrap().val()),
        ] {
            assert!((0.09..=0.1 + 1e-6).contains(&max), "{max}");
            assert!((deviation / (0.1 / 3_f64.sqrt()) - 1.0).abs() < 0.15, "{deviation}");
        }
    }

    /// An initializer that looks at the whole matrix sees one gate.
    #[test]
    fn are_drawn_gate_by_gate() {
        let initializer = Initializer::Orthogonal { gain: 1.0 };
        let lstm = LstmConfig::new(4, 4, false).with_initializer(initializer).init(&device());
        for gate in lstm.weight_hidden.val().chunk(4, 1) {
            let product = values(gate.clone().matmul(gate.transpose()));
            for (index, value) in product.into_iter().enumerate() {
                let expected = if index % 5 == 0 { 1.0 } else { 0.0 };
                assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
            }
        }
    }

    #[test]
    fn biases_are_as_many_as_configured() {
        let config = LstmConfig::new(2, 3, true);
        let biases = |config: LstmConfig| {
            let lstm = config.init(&device());
            (lstm.bias_input.is_some(), lstm.bias_hidden.is_some())
        };
        assert_eq!(biases(config.clone()), (true, true));
        assert_eq!(biases(config.with_num_biases(1)), (true, false));
        assert_eq!(biases(LstmConfig::new(2, 3, false)), (false, false));
    }

    #[test]
    fn impossible_configurations_are_told() {
        let config = LstmConfig::new(2, 3, true);
        let stack = LstmStackConfig::new(config.clone(), 2);
        let lstm = |config: LstmConfig| config.validate().unwrap_err().to_string();
        let stacked = |config: LstmStackConfig| config.validate().unwrap_err().to_string();
        for (message, expected) in [
            (lstm(LstmConfig::new(0, 3, true)), "`d_input` must be in [1, ∞), but is 0"),
            (lstm(LstmConfig::new(2, 0, true)), "`d_hidden` must be in [1, ∞), but is 0"),
            (lstm(config.clone().with_num_biases(3)), "`num_biases` must be in {1, 2}, but is 3"),
            (
                lstm(config.clone().with_forget_bias(f64::NAN)),
                "`forget_bias` must be in (−∞, ∞), but is NaN",
            ),
            (
                lstm(config.clone().with_input_dropout(1.0)),
                "`input_dropout` must be in [0, 1), but is 1",
            ),
            (
                lstm(config.clone().with_recurrent_dropout(-0.5)),
                "`recurrent_dropout` must be in [0, 1), but is -0.5",
            ),
            (
                stacked(LstmStackConfig::new(config.clone(), 0)),
                "`num_layers` must be in [1, ∞), but is 0",
            ),
            (
                stacked(stack.with_inter_layer_dropout(1.0)),
                "`inter_layer_dropout` must be in [0, 1), but is 1",
            ),
            (
                stacked(LstmStackConfig::new(config.with_num_biases(0), 2)),
                "`num_biases` must be in {1, 2}, but is 0",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }
}

mod dropout {
    use super::*;

    /// The mask that a gradient reveals: 0 where it is 0, else `1 / (1 − p)` at p = 1/2.
    pub(super) fn mask_of<const D: usize>(gradient: Tensor<D>) -> Tensor<D> {
        let dtype = gradient.dtype();
        gradient.not_equal_elem(0.0).float().cast(dtype) * 2.0
    }

    /// The share of a mask that is dropped is 1/2, give or take 6 standard deviations.
    #[track_caller]
    pub(super) fn assert_half_is_dropped<const D: usize>(mask: &Tensor<D>) {
        let mask = values(mask.clone());
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f64;
        let count = mask.len() as f64;
        assert!((dropped / count - 0.5).abs() < 3.0 / count.sqrt(), "{dropped} of {count}");
    }

    /// What the layer computes with the masks that its gradients reveal is what it should.
    #[test]
    fn masks_last_a_sequence_and_scale_what_they_keep() {
        for (place, batch_first) in places().flat_map(|place| [(place, true), (place, false)]) {
            let place = &place.autodiff();
            let lstm = LstmConfig::new(30, 20, true)
                .with_batch_first(batch_first)
                .with_input_dropout(0.5)
                .with_recurrent_dropout(0.5)
                .with_forget_bias(1.0)
                .init(&place.device);
            let time_first = place.random(1, [3, 4, 30], 1.0).require_grad();
            let hidden0 = place.random(2, [4, 20], 0.5).require_grad();
            let cell0 = place.random(3, [4, 20], 0.5);
            let input = match batch_first {
                true => time_first.clone().swap_dims(0, 1),
                false => time_first.clone(),
            };
            let state = LstmState { hidden: hidden0.clone(), cell: cell0.clone() };
            let states = lstm.forward_states(input, Some(state), None);
            let gradients = states.hidden.clone().sum().backward();

            let input_mask = mask_of(time_first.grad(&gradients).unwrap());
            for step in 1..3 {
                let [first, step] = [0, step].map(|t| values(input_mask.clone().narrow(0, t, 1)));
                assert_eq!(first, step);
            }
            let recurrent_mask = mask_of(hidden0.grad(&gradients).unwrap()).unsqueeze_dim(0);
            assert_half_is_dropped(&input_mask.clone().narrow(0, 0, 1));
            assert_half_is_dropped(&recurrent_mask);

            let masked = time_first * input_mask;
            let expected = lstm_reference(LstmInputs {
                gates: masked.matmul(lstm.weight_input.val().unsqueeze()),
                bias: lstm.bias_input.unwrap().val() + lstm.bias_hidden.unwrap().val(),
                weight_hidden: lstm.weight_hidden.val(),
                mask: Some(recurrent_mask),
                state: LstmState { hidden: hidden0, cell: cell0 },
                forget_bias: 1.0,
                precision: MatmulPrecision::Full,
            });
            let time_first = |states: Tensor<3>| match batch_first {
                true => states.swap_dims(0, 1),
                false => states,
            };
            assert_same("hidden", time_first(states.hidden), expected.hidden, place);
            assert_same("cell", time_first(states.cell), expected.cell, place);
            assert_same("last hidden", states.state.hidden, expected.state.hidden, place);
            assert_same("last cell", states.state.cell, expected.state.cell, place);
        }
    }

    fn outputs(layer: &LstmStack, device: &Device) -> Vec<f64> {
        let place = TestDevice { device: device.clone(), dtype: DType::F32 };
        values(layer.forward(place.random(1, [2, 3, 4], 1.0), None).0)
    }

    #[test]
    fn each_acts_in_training_alone_and_anew_each_time() {
        let [evaluation, training] = [device(), device().autodiff()];
        let layer = LstmConfig::new(4, 40, true);
        let stack = LstmStackConfig::new(layer.clone(), 2);
        for config in [
            LstmStackConfig::new(layer.clone().with_input_dropout(0.5), 2),
            LstmStackConfig::new(layer.with_recurrent_dropout(0.5), 2),
            stack.with_inter_layer_dropout(0.5),
        ] {
            let stack = config.init(&training);
            let expected = outputs(&stack.valid(), &evaluation);
            assert_eq!(outputs(&stack.valid(), &evaluation), expected);
            assert_eq!(outputs(&stack.clone().freeze(), &training), expected, "frozen");
            assert_ne!(outputs(&stack, &training), expected);
            assert_ne!(outputs(&stack, &training), outputs(&stack, &training));
        }
    }
}

mod given_masks {
    use super::*;

    #[test]
    fn replace_those_that_a_layer_draws() {
        let place = &places().next().unwrap().autodiff();
        let lstm = LstmConfig::new(4, 40, true).with_input_dropout(0.5).with_recurrent_dropout(0.5);
        let lstm = lstm.init(&place.device);
        let input = place.random(1, [2, 3, 4], 1.0);
        let with_none = lstm.forward_states(input.clone(), None, Some(LayerMasks::default()));
        let (expected, _) = lstm.clone().freeze().forward(input.clone(), None);
        assert_eq!(values(with_none.hidden), values(expected.clone()));
        assert_ne!(values(lstm.forward(input, None).0), values(expected));
    }

    /// On the input, on the hidden states and on the elements of the recurrent matrix.
    #[test]
    fn act_on_each_gate_of_an_lstm_by_itself() {
        for place in places() {
            let lstm = LstmConfig::new(3, 5, false).init(&place.device);
            let input = place.random(1, [2, 4, 3], 1.0);
            let on_input = place.mask(2, [4, 2, 3]);
            let recurrent = place.mask(3, [4, 2, 5]);
            let weight: Tensor<3> = place.mask(4, [1, 5, 20]);
            let masks = LayerMasks {
                input: Some(on_input.clone()),
                recurrent: Some(recurrent.clone()),
                weight: Some(weight.clone()),
            };
            let states = lstm.forward_states(input.clone(), None, Some(masks));

            let gates = on_input.chunk(4, 0).into_iter().zip(lstm.weight_input.val().chunk(4, 1));
            let gates = gates.map(|(mask, weight)| {
                (input.clone().swap_dims(0, 1) * mask).matmul(weight.unsqueeze())
            });
            let expected = lstm_reference(LstmInputs {
                gates: Tensor::cat(gates.collect(), 2),
                bias: Tensor::zeros([20], &place.device),
                weight_hidden: lstm.weight_hidden.val() * weight.squeeze_dim(0),
                mask: Some(recurrent),
                state: LstmState::zeros(2, 5, &place.device),
                forget_bias: 0.0,
                precision: MatmulPrecision::Full,
            });
            assert_same("hidden", states.hidden, expected.hidden.swap_dims(0, 1), place);
            assert_same("last cell", states.state.cell, expected.state.cell, place);
        }
    }

    #[test]
    #[should_panic(expected = "an SRU has no recurrent matrix to mask")]
    fn on_a_matrix_that_an_sru_has_not_are_refused() {
        let sru = SruConfig::new(3, 5).init(&device());
        let weight = Some(Tensor::ones([1, 5, 5], &device()));
        let masks = LayerMasks { weight, ..LayerMasks::default() };
        sru.forward_states(Tensor::zeros([2, 4, 3], &device()), None, Some(masks));
    }

    #[test]
    #[should_panic(expected = "the masks of a layer's input are 1 or as many as its gates")]
    fn of_another_number_of_gates_are_refused() {
        let lstm = LstmConfig::new(3, 5, true).init(&device());
        let masks =
            LayerMasks { input: Some(Tensor::ones([2, 2, 3], &device())), ..LayerMasks::default() };
        lstm.forward_states(Tensor::zeros([2, 4, 3], &device()), None, Some(masks));
    }
}

mod rhn {
    use super::*;
    use burn::nn::Initializer;

    /// Shared masks and one per gate, in either layout, with and without a state.
    #[test]
    fn computes_the_reference_with_given_masks() {
        for (place, batch_first) in places().flat_map(|place| [(place, true), (place, false)]) {
            for num_masks in [1, 2] {
                let rhn = RhnConfig::new(3, 5, 2).with_batch_first(batch_first).init(&place.device);
                let swap = |t: Tensor<3>| if batch_first { t.swap_dims(0, 1) } else { t };
                let input = place.random(1, [4, 2, 3], 1.0);
                let [on_input, recurrent] =
                    [place.mask(2, [1, 2, 3]), place.mask(3, [num_masks, 2, 5])];
                let weight = place.mask(4, [2, 5, 10]);
                let state = (num_masks == 1).then(|| place.random(5, [2, 5], 1.0));
                let masks = LayerMasks {
                    input: Some(on_input.clone()),
                    recurrent: Some(recurrent.clone()),
                    weight: Some(weight.clone()),
                };
                let given = state.clone().map(|hidden| RhnState { hidden });
                let (hidden, last) = rhn.forward_masked(swap(input.clone()), given, Some(masks));

                let expected = rhn_reference(RhnInputs {
                    gates: (input * on_input).matmul(rhn.weight_input.val().unsqueeze()),
                    weight_hidden: rhn.weight_hidden.val() * weight,
                    bias: rhn.bias.val(),
                    mask: Some(recurrent),
                    state: state.unwrap_or_else(|| Tensor::zeros([2, 5], &place.device)),
                    precision: MatmulPrecision::Full,
                });
                assert_same("hidden", swap(hidden), expected.clone(), place);
                assert_same("last", last.hidden, expected.narrow(0, 3, 1).squeeze_dim(0), place);
            }
        }
    }

    #[test]
    fn dropouts_act_in_training_alone() {
        let [evaluation, training] = [device(), device().autodiff()];
        let [evaluation, training] =
            [evaluation, training].map(|device| TestDevice { device, dtype: DType::F32 });
        let config = RhnConfig::new(4, 40, 2);
        for config in [config.clone().with_input_dropout(0.5), config.with_recurrent_dropout(0.5)] {
            let rhn = config.init(&training.device);
            let output = |rhn: &anp_kernels::nn::Rhn, place: &TestDevice| {
                values(rhn.forward(place.random(1, [2, 3, 4], 1.0), None).0)
            };
            let expected = output(&rhn.valid(), &evaluation);
            assert_eq!(output(&rhn.clone().freeze(), &training), expected, "frozen");
            assert_ne!(output(&rhn, &training), expected);
            assert_ne!(output(&rhn, &training), output(&rhn, &training));
        }
    }

    #[test]
    fn starts_with_biased_transform_gates() {
        let initializer = Initializer::Uniform { min: 0.5, max: 1.0 };
        let config = RhnConfig::new(3, 5, 2).with_initializer(initializer);
        let rhn = config.with_transform_bias(-3.0).init(&device());
        for (index, bias) in values(rhn.bias.val()).into_iter().enumerate() {
            let is_transform = index % 10 >= 5;
            assert!(if is_transform { bias == -3.0 } else { (0.5..1.0).contains(&bias) }, "{bias}");
        }
        assert_eq!(rhn.to_string(), "Rhn {d_input: 3, d_hidden: 5, depth: 2, params: 150}");
    }

    /// An initializer that looks at a whole matrix sees one gate of one micro-step.
    #[test]
    fn is_drawn_by_micro_step_and_gate() {
        let initializer = Initializer::Orthogonal { gain: 1.0 };
        let rhn = RhnConfig::new(4, 4, 3).with_initializer(initializer).init(&device());
        for micro_step in rhn.weight_hidden.val().chunk(3, 0) {
            for gate in micro_step.squeeze_dim::<2>(0).chunk(2, 1) {
                let product = values(gate.clone().matmul(gate.transpose()));
                for (index, value) in product.into_iter().enumerate() {
                    let expected = if index % 5 == 0 { 1.0 } else { 0.0 };
                    assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn impossible_configurations_are_told() {
        let config = RhnConfig::new(2, 3, 1);
        let told = |config: RhnConfig| config.validate().unwrap_err().to_string();
        for (message, expected) in [
            (told(RhnConfig::new(2, 3, 0)), "`depth` must be in [1, ∞), but is 0"),
            (
                told(config.clone().with_transform_bias(f64::NAN)),
                "`transform_bias` must be in (−∞, ∞), but is NaN",
            ),
            (
                told(config.with_recurrent_dropout(1.0)),
                "`recurrent_dropout` must be in [0, 1), but is 1",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    #[should_panic(expected = "the RHN's input has the width 4, not 3")]
    fn a_wrong_width_is_told() {
        let rhn = RhnConfig::new(3, 5, 1).init(&device());
        rhn.forward(Tensor::zeros([2, 4, 4], &device()), None);
    }
}

mod sru {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Dropped {
        Input,
        Activation,
    }

    /// A layer whose mask its gradients reveal, against the reference with this mask.
    fn agrees(d_input: usize, batch_first: bool, dropped: Dropped, place: &TestDevice) {
        let place = &place.autodiff();
        let config = SruConfig::new(d_input, 20)
            .with_batch_first(batch_first)
            .with_activation(Activation::Tanh)
            .with_reset_bias(-1.0);
        let sru = match dropped {
            Dropped::Input => config.with_input_dropout(0.5),
            Dropped::Activation => config.with_activation_dropout(0.5),
        }
        .init(&place.device);
        let swap = |states: Tensor<3>| if batch_first { states.swap_dims(0, 1) } else { states };
        let input = place.random(1, [3, 4, d_input], 1.0).require_grad();
        let cell = place.random(2, [4, 20], 1.0).require_grad();
        let state = SruState { cell: cell.clone() };
        let states = sru.forward_states(swap(input.clone()), Some(state), None);

        let (mut masked, mut activation_mask) = (input.clone(), None);
        if dropped == Dropped::Input {
            // What the last cell sees of the input has passed the mask.
            let gradients = states.state.cell.clone().sum().backward();
            let mask = super::dropout::mask_of(input.grad(&gradients).unwrap());
            let [first, second, third] = [0, 1, 2].map(|t| mask.clone().narrow(0, t, 1));
            super::dropout::assert_half_is_dropped(&first);
            assert_eq!(values(second), values(first.clone()));
            assert_eq!(values(third), values(first));
            masked = masked * mask;
        } else {
            // What the hidden states see of the first cell has passed an activation.
            let gradients = states.hidden.clone().sum().backward();
            let mask = super::dropout::mask_of(cell.grad(&gradients).unwrap());
            super::dropout::assert_half_is_dropped(&mask);
            activation_mask = Some(mask);
        }
        let expected = sru_reference(SruInputs {
            product: masked.matmul(sru.weight.val().unsqueeze()),
            highway: (d_input == 20).then_some(input),
            bias: sru.bias.val(),
            mask: activation_mask,
            cell,
            activation: Activation::Tanh,
        });
        assert_same("hidden", swap(states.hidden), expected.hidden, place);
        assert_same("cell", swap(states.cell), expected.cell, place);
        assert_same("last cell", states.state.cell, expected.last, place);
    }

    #[test]
    fn masks_last_a_sequence_and_leave_the_highway_alone() {
        for place in places() {
            for dropped in [Dropped::Input, Dropped::Activation] {
                agrees(20, true, dropped, place);
                agrees(20, false, dropped, place);
                agrees(30, true, dropped, place);
            }
        }
    }

    #[test]
    fn initial_values_are_the_authors() {
        let sru = SruConfig::new(30, 100).with_reset_bias(-3.0).init(&device());
        assert_eq!(sru.weight.dims(), [30, 400]);
        let range = (3.0_f64 / 30.0).sqrt();
        let weights = values(sru.weight.val());
        let largest = weights.iter().fold(0.0, |max: f64, weight| max.max(weight.abs()));
        assert!((0.99 * range..=1.000_001 * range).contains(&largest), "{largest} for {range}");
        let variance = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
        assert!((variance * 30.0 - 1.0).abs() < 0.05, "{variance} is not 1/30");
        let bias = values(sru.bias.val());
        assert_eq!(bias, [[0.0; 100], [-3.0; 100]].concat());
        assert_eq!(SruConfig::new(100, 100).init(&device()).weight.dims(), [100, 300]);
    }

    #[test]
    fn a_stack_is_its_layers_one_after_the_other_in_either_layout() {
        for place in places() {
            let config = SruStackConfig::new(SruConfig::new(3, 5).with_activation_dropout(0.5), 3);
            let batch_first = config.init(&place.device);
            let time_first = SruStack { batch_first: false, ..batch_first.clone() };
            let input = place.random(1, [4, 2, 3], 1.0);
            let initial = [10, 20, 30]
                .map(|seed| SruState { cell: place.random(seed, [2, 5], 1.0) })
                .to_vec();

            let mut expected = input.clone();
            let mut layers = Vec::new();
            for (layer, state) in batch_first.layers.iter().zip(initial.clone()) {
                let states = layer.forward_states(expected, Some(state), None);
                expected = states.hidden.clone();
                layers.push(states);
            }
            let (output, states) = time_first.forward(input.clone(), Some(initial.clone()));
            assert_same("output", output, expected, place);
            let others = batch_first.forward_states(input.swap_dims(0, 1), Some(initial));
            for ((state, other), layer) in states.into_iter().zip(others).zip(layers) {
                assert_same("state", state.cell, layer.state.cell.clone(), place);
                assert_same("batch-first state", other.state.cell, layer.state.cell, place);
                assert_same("hidden", other.hidden, layer.hidden.swap_dims(0, 1), place);
                assert_same("cell", other.cell, layer.cell.swap_dims(0, 1), place);
            }
            let probabilities = batch_first.layers.iter().map(|layer| layer.activation_dropout);
            assert_eq!(probabilities.collect::<Vec<_>>(), [0.5, 0.5, 0.0]);
        }
    }

    #[test]
    fn dropouts_act_in_training_alone() {
        let training = &TestDevice { device: device().autodiff(), dtype: DType::F32 };
        let evaluation = &TestDevice { device: device(), dtype: DType::F32 };
        let output = |sru: &SruStack, place: &TestDevice| {
            values(sru.forward(place.random(1, [2, 3, 40], 1.0), None).0)
        };
        let layer = SruConfig::new(40, 40);
        for layer in [layer.clone().with_input_dropout(0.5), layer.with_activation_dropout(0.5)] {
            let sru = SruStackConfig::new(layer, 2).init(&training.device);
            let expected = output(&sru.valid(), evaluation);
            assert_eq!(output(&sru.clone().freeze(), training), expected, "frozen");
            assert_ne!(output(&sru, training), expected);
            assert_ne!(output(&sru, training), output(&sru, training));
        }
    }

    #[test]
    fn impossible_configurations_are_told() {
        let config = SruConfig::new(2, 3);
        let sru = |config: SruConfig| config.validate().unwrap_err().to_string();
        for (message, expected) in [
            (sru(SruConfig::new(0, 3)), "`d_input` must be in [1, ∞), but is 0"),
            (sru(SruConfig::new(2, 0)), "`d_hidden` must be in [1, ∞), but is 0"),
            (
                sru(config.clone().with_reset_bias(f64::INFINITY)),
                "`reset_bias` must be in (−∞, ∞), but is inf",
            ),
            (
                sru(config.clone().with_input_dropout(1.0)),
                "`input_dropout` must be in [0, 1), but is 1",
            ),
            (
                sru(config.clone().with_activation_dropout(f64::NAN)),
                "`activation_dropout` must be in [0, 1), but is NaN",
            ),
            (
                SruStackConfig::new(config, 0).validate().unwrap_err().to_string(),
                "`num_layers` must be in [1, ∞), but is 0",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    #[should_panic(expected = "the SRU's input has the width 4, not 3")]
    fn a_wrong_width_is_told() {
        let sru = SruConfig::new(3, 5).init(&device());
        sru.forward(Tensor::zeros([2, 4, 4], &device()), None);
    }

    #[test]
    #[should_panic(expected = "the SRU's layers and states differ in number")]
    fn a_state_too_few_is_told() {
        let sru = SruStackConfig::new(SruConfig::new(3, 5), 2).init(&device());
        sru.forward(Tensor::zeros([2, 4, 3], &device()), Some(Vec::new()));
    }
}

mod stack {
    use super::*;

    fn state(place: &TestDevice, seed: u64) -> LstmState {
        let [cell, hidden] =
            [(seed, 1.0), (seed + 1, 0.5)].map(|(seed, scale)| place.random(seed, [2, 5], scale));
        LstmState { hidden, cell }
    }

    #[test]
    fn is_its_layers_one_after_the_other_in_either_layout() {
        for place in places() {
            let config = LstmStackConfig::new(LstmConfig::new(3, 5, true), 3);
            let batch_first = config.init(&place.device);
            let time_first = LstmStack { batch_first: false, ..batch_first.clone() };
            let input = place.random(1, [4, 2, 3], 1.0);
            let initial = [10, 20, 30].map(|seed| state(place, seed)).to_vec();

            let mut expected = input.clone();
            let mut cells = Vec::new();
            let mut last = Vec::new();
            for (layer, state) in batch_first.layers.iter().zip(initial.clone()) {
                let states = layer.forward_states(expected, Some(state), None);
                expected = states.hidden;
                cells.push(states.cell);
                last.push(states.state);
            }

            let (output, states) = time_first.forward(input.clone(), Some(initial.clone()));
            assert_same("output", output, expected.clone(), place);
            let input = input.swap_dims(0, 1);
            let (output, other_states) = batch_first.forward(input.clone(), Some(initial.clone()));
            assert_same("batch-first output", output, expected.clone().swap_dims(0, 1), place);
            for ((state, other), last) in states.into_iter().zip(other_states).zip(last) {
                assert_same("state", state.hidden, last.hidden.clone(), place);
                assert_same("state", state.cell, last.cell.clone(), place);
                assert_same("batch-first state", other.hidden, last.hidden, place);
                assert_same("batch-first state", other.cell, last.cell, place);
            }

            let all = batch_first.forward_states(input, Some(initial));
            assert_eq!(all.len(), 3);
            assert_same("last layer", all[2].hidden.clone(), expected.swap_dims(0, 1), place);
            for (states, cell) in all.into_iter().zip(cells) {
                assert_same("cells", states.cell, cell.swap_dims(0, 1), place);
            }
        }
    }

    #[test]
    fn without_a_state_it_starts_at_zero() {
        for place in places() {
            let stack = LstmStackConfig::new(LstmConfig::new(3, 5, true), 2).init(&place.device);
            let input = place.random(1, [2, 4, 3], 1.0);
            let zero = LstmState::zeros(2, 5, &place.device);
            let (expected, _) = stack.forward(input.clone(), Some(vec![zero.clone(), zero]));
            assert_same("output", stack.forward(input, None).0, expected, place);
        }
    }

    #[test]
    #[should_panic(expected = "the LSTM's layers and states differ in number")]
    fn a_state_too_few_is_told() {
        let place = places().next().unwrap();
        let stack = LstmStackConfig::new(LstmConfig::new(3, 5, true), 2).init(&place.device);
        stack.forward(Tensor::zeros([2, 4, 3], &place.device), Some(vec![state(place, 1)]));
    }

    #[test]
    #[should_panic(expected = "the LSTM's input has the width 4, not 3")]
    fn a_wrong_width_is_told() {
        let lstm = LstmConfig::new(3, 5, true).init(&device());
        lstm.forward(Tensor::zeros([2, 4, 4], &device()), None);
    }
}

#[cfg(feature = "store")]
mod files {
    use super::*;
    use anp_kernels::nn::LoadError;
    use anp_testing::{fixture, fixture_path};
    use burn::store::{BurnpackStore, ModuleSnapshot};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Weights {
        lstm: LstmCase,
        sru: SruCase,
    }

    #[derive(Deserialize)]
    struct SruCase {
        input: Array,
        cell0: Array,
        output: Array,
        cell: Array,
    }

    #[derive(Deserialize)]
    struct LstmCase {
        input: Array,
        hidden0: Array,
        cell0: Array,
        output: Array,
        hidden: Array,
        cell: Array,
        head: Array,
    }

    /// The states of two layers.
    fn layers(states: Tensor<3>) -> Vec<Tensor<2>> {
        states.chunk(2, 0).into_iter().map(|state| state.squeeze_dim(0)).collect()
    }

    const ENCODERS: [(&str, &str); 2] =
        [("lstm.safetensors", "encoder.rnn."), ("lstm.pt", "model.encoder.rnn.")];

    fn encoder_config() -> LstmStackConfig {
        LstmStackConfig::new(LstmConfig::new(3, 2, true).with_batch_first(false), 2)
    }

    #[test]
    fn a_loaded_lstm_computes_what_pytorchs_does() {
        let case = fixture::<Weights>("weights.json").lstm;
        for (place, (file, prefix)) in places().flat_map(|place| ENCODERS.map(|e| (place, e))) {
            for num_biases in [1, 2] {
                let mut config = encoder_config();
                config.layer.num_biases = num_biases;
                let lstm = config.load_pytorch(fixture_path(file), prefix, &place.device).unwrap();
                assert_eq!(lstm.layers[1].bias_hidden.is_some(), num_biases == 2);

                let [hidden0, cell0] =
                    [&case.hidden0, &case.cell0].map(|s| layers(s.tensor(place)));
                let initial = hidden0.into_iter().zip(cell0);
                let initial = initial.map(|(hidden, cell)| LstmState { hidden, cell }).collect();
                let (output, states) = lstm.forward(case.input.tensor(place), Some(initial));

                assert_same("output", output, case.output.tensor(place), place);
                let [hidden, cell] = [&case.hidden, &case.cell].map(|s| layers(s.tensor(place)));
                for ((state, hidden), cell) in states.into_iter().zip(hidden).zip(cell) {
                    assert_same("last hidden", state.hidden, hidden, place);
                    assert_same("last cell", state.cell, cell, place);
                }
            }
        }
    }

    #[test]
    fn one_layer_without_biases_is_loaded_too() {
        let case = fixture::<Weights>("weights.json").lstm;
        for (place, file) in places().flat_map(|place| [(place, ENCODERS[0]), (place, ENCODERS[1])])
        {
            let (file, prefix) = file;
            let prefix = prefix.replace("encoder.rnn.", "head.");
            let lstm = LstmConfig::new(2, 1, false)
                .with_batch_first(false)
                .load_pytorch(fixture_path(file), &prefix, &place.device)
                .unwrap();
            let (head, _) = lstm.forward(case.output.tensor(place), None);
            assert_same("head", head, case.head.tensor(place), place);
        }
    }

    #[test]
    fn errors_name_file_key_and_shapes() {
        let told = |config: &LstmStackConfig, file: &str, prefix: &str| {
            let error = config.load_pytorch(fixture_path(file), prefix, &device()).unwrap_err();
            error.to_string().replace(&fixture_path("").display().to_string(), "")
        };
        let encoder = encoder_config();
        let prefix = "encoder.rnn.";
        for (file, prefix) in ENCODERS {
            let three_layers = LstmStackConfig { num_layers: 3, ..encoder.clone() };
            assert_eq!(
                told(&three_layers, file, prefix),
                format!(
                    "{file} has no `{prefix}weight_ih_l2`, which should be of the shape [8, 2]"
                )
            );
            let mut wide = encoder.clone();
            wide.layer.d_hidden = 4;
            assert_eq!(
                told(&wide, file, prefix),
                format!(
                    "`{prefix}weight_ih_l0` of {file} has the shape [8, 3], but [16, 3] is needed"
                )
            );
        }
        let one_layer = LstmStackConfig { num_layers: 1, ..encoder.clone() };
        assert_eq!(
            told(&one_layer, "lstm.safetensors", prefix),
            "lstm.safetensors has `encoder.rnn.bias_hh_l1`, \
             which this configuration has no place for"
        );
        let mut without_bias = encoder.clone();
        without_bias.layer.bias = false;
        assert_eq!(
            told(&without_bias, "lstm.safetensors", prefix),
            "lstm.safetensors has `encoder.rnn.bias_hh_l0`, \
             which this configuration has no place for"
        );
        let integers = LstmStackConfig::new(LstmConfig::new(1, 1, true), 1);
        assert_eq!(
            told(&integers, "lstm.safetensors", "integers."),
            "`integers.weight_ih_l0` of lstm.safetensors is of I64, which is no floating-point type"
        );
        assert_eq!(
            told(&encoder, "weights.json", prefix),
            "weights.json is no file of weights: its name must end in .safetensors, .pt or .pth"
        );
        for file in ["missing.safetensors", "missing.pt"] {
            assert_eq!(told(&encoder, file, prefix), format!("cannot read weights from {file}"));
        }
    }

    #[test]
    fn a_loaded_sru_computes_what_the_authors_package_does() {
        let case = fixture::<Weights>("weights.json").sru;
        for place in places() {
            let layer = SruConfig::new(3, 2).with_batch_first(false);
            let config = SruStackConfig::new(layer, 2);
            let sru = config.load_pytorch(fixture_path("sru.pt"), "first.", &place.device).unwrap();
            let initial = layers(case.cell0.tensor(place)).into_iter();
            let initial = initial.map(|cell| SruState { cell }).collect();
            let (output, states) = sru.forward(case.input.tensor(place), Some(initial));
            assert_same("output", output, case.output.tensor(place), place);
            for (state, cell) in states.into_iter().zip(layers(case.cell.tensor(place))) {
                assert_same("last cell", state.cell, cell, place);
            }
        }
    }

    #[test]
    fn other_srus_are_refused() {
        let told = |config: SruConfig, prefix: &str| {
            let error = config.load_pytorch(fixture_path("sru.pt"), prefix, &device()).unwrap_err();
            error.to_string().replace(&fixture_path("").display().to_string(), "")
        };
        assert_eq!(
            told(SruConfig::new(3, 2), "first."),
            "sru.pt has `first.rnn_lst.1.bias`, which this configuration has no place for"
        );
        assert_eq!(
            told(SruConfig::new(2, 2), "scaled."),
            "`scaled.rnn_lst.0.scale_x` of sru.pt is not 1, and this layer has no equal of that"
        );
        assert_eq!(
            told(SruConfig::new(3, 2), "later."),
            "`later.rnn_lst.0.weight_c` of sru.pt is not 0, and this layer has no equal of that"
        );
        assert_eq!(
            told(SruConfig::new(4, 2), "first."),
            "`first.rnn_lst.0.weight` of sru.pt has the shape [3, 8], but [4, 8] is needed"
        );
    }

    /// What the reader says is not lost.
    #[test]
    fn a_file_that_cannot_be_read_has_a_cause() {
        for file in ["missing.safetensors", "missing.pt"] {
            let result = encoder_config().load_pytorch(fixture_path(file), "", &device());
            assert!(matches!(result, Err(LoadError::Read { source, .. })
                if source.to_string().contains("No such file")));
        }
    }

    #[test]
    fn a_saved_stack_is_restored() {
        let config = encoder_config();
        let [saved, mut restored] = [config.init(&device()), config.init(&device())];
        let mut store = BurnpackStore::from_bytes(None);
        saved.save_into(&mut store).unwrap();
        let mut store = BurnpackStore::from_bytes(Some(store.get_bytes().unwrap()));
        let result = restored.load_from(&mut store).unwrap();
        assert!(result.missing.is_empty() && result.unused.is_empty(), "{result:?}");

        let input = Tensor::ones([4, 2, 3], &device());
        let [expected, output] =
            [saved, restored].map(|s| values(s.forward(input.clone(), None).0));
        assert_eq!(output, expected);
    }
}
