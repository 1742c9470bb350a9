use proptest::prelude::*;

use super::Terms;
use super::backward::{Statistics, backward, logits_gradient};
use super::evaluate::evaluate;
use super::forward::{forward, forward_with_terms};
use super::layer::Layer;
use crate::cpu::scalar::Scalar;
use crate::cpu::tests::{assert_near, narrow, noise, widen};

/// A problem with the gradients that it is given by what comes after it.
#[derive(Debug, Clone)]
struct Problem {
    tokens: usize,
    d_hidden: usize,
    num_classes: usize,
    tied: bool,
    hidden: Vec<f64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    targets: Vec<usize>,
    nll_grad: Vec<f64>,
    square_grad: Option<Vec<f64>>,
    entropy_grad: Option<Vec<f64>>,
    log_partition_grad: Option<Vec<f64>>,
}

/// Everything that the kernels compute, as `f64`.
#[derive(Debug, PartialEq)]
struct Results {
    nll: Vec<f64>,
    square: Vec<f64>,
    entropy: Vec<f64>,
    log_partition: Vec<f64>,
    hidden_grad: Vec<f64>,
    weight_grad: Vec<f64>,
    bias_grad: Vec<f64>,
}

impl Problem {
    /// The definition, token by token.
    fn logits(&self) -> Vec<Vec<f64>> {
        let (h, v) = (self.d_hidden, self.num_classes);
        let weight = |i: usize, j: usize| {
            if self.tied { self.weight[j * h + i] } else { self.weight[i * v + j] }
        };
        let logit = |n: usize, j: usize| {
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[j]);
            (0..h).map(|i| self.hidden[n * h + i] * weight(i, j)).sum::<f64>() + bias
        };
        (0..self.tokens).map(|n| (0..v).map(|j| logit(n, j)).collect()).collect()
    }

    /// The same with nothing after the other terms.
    fn of_nll(self) -> Self {
        Self { square_grad: None, entropy_grad: None, log_partition_grad: None, ..self }
    }

    /// Zero if there is none.
    fn bias(&self) -> Vec<f64> {
        self.bias.clone().unwrap_or_else(|| vec![0.0; self.num_classes])
    }

    /// The terms of one token from the definition, in order.
    fn terms(&self, token: usize, logits: &[f64]) -> [f64; 4] {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
        let ln_p = |z: f64| z - largest - sum.ln();
        [
            -ln_p(logits[self.targets[token]]),
            logits.iter().map(|z| z * z).sum(),
            -logits.iter().map(|&z| ln_p(z).exp() * ln_p(z)).sum::<f64>(),
            largest + sum.ln(),
        ]
    }

    fn reference(&self) -> Vec<[f64; 4]> {
        self.logits().iter().enumerate().map(|(n, logits)| self.terms(n, logits)).collect()
    }

    /// `Σ upstream · term`, whose derivatives the gradients are.
    fn objective(&self) -> f64 {
        let of = |g: &Option<Vec<f64>>, n: usize| g.as_ref().map_or(0.0, |g| g[n]);
        let terms = self.reference().into_iter().enumerate();
        terms
            .map(|(n, [nll, square, entropy, log_partition])| {
                self.nll_grad[n] * nll
                    + of(&self.square_grad, n) * square
                    + of(&self.entropy_grad, n) * entropy
                    + of(&self.log_partition_grad, n) * log_partition
            })
            .sum()
    }

    /// What the kernels compute in `E`, without the other terms if `plain`.
    fn run<E: Scalar>(&self, plain: bool, threads: usize) -> Results {
        let [hidden, weight] = [&self.hidden, &self.weight].map(|x| narrow::<E>(x));
        let bias = narrow(&self.bias());
        let layer = Layer::new(&weight, &bias, self.tied, &hidden, &self.targets);
        let n = self.tokens;
        // Results must not depend on what was there.
        let garbage = |len| vec![E::from_f64(f64::NAN); len];
        let (mut values, mut statistics) = (garbage(4 * n), garbage(2 * n));
        let mut scale = narrow(&self.nll_grad);
        let terms = Terms::split_mut(&mut values);
        let logits = if plain {
            forward(&layer, terms.nll, threads)
        } else {
            let mut logits = forward_with_terms(&layer, terms, &mut statistics, threads);
            let zero = vec![0.0; n];
            let [square, entropy, log_partition] =
                [&self.square_grad, &self.entropy_grad, &self.log_partition_grad]
                    .map(|gradient| narrow(gradient.as_ref().unwrap_or(&zero)));
            let grads = Terms {
                nll: &scale[..],
                square: &square[..],
                entropy: &entropy[..],
                log_partition: &log_partition[..],
            };
            let entropy = Terms::split(&values).entropy;
            let statistics = Statistics { maximum_and_ln_sum: &statistics, entropy };
            logits_gradient(&mut logits, &self.targets, statistics, grads, threads);
            scale = vec![E::ONE; n];
            logits
        };
        let gradients = backward(&layer, &logits, &scale, threads);
        let terms = Terms::split(&values);
        Results {
            nll: widen(terms.nll),
            square: widen(terms.square),
            entropy: widen(terms.entropy),
            log_partition: widen(terms.log_partition),
            hidden_grad: widen(&gradients.hidden),
            weight_grad: widen(&gradients.weight),
            bias_grad: widen(&gradients.bias),
        }
    }

    /// Derivative of the objective by the number that `place` finds, by central differences.
    fn difference(&self, place: impl Fn(&mut Self) -> &mut f64) -> f64 {
        // Errors of the second order and of rounding are both near 1e-10 here.
        const STEP: f64 = 1e-5;
        let at = |step: f64| {
            let mut moved = self.clone();
            *place(&mut moved) += step;
            moved.objective()
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    }
}

/// Repeatable numbers in `[-scale, scale)`.
fn numbers(len: usize, scale: f64, seed: u64) -> Vec<f64> {
    noise(seed)(len).into_iter().map(|number| scale * number).collect()
}

fn problem([n, h, v]: [usize; 3], tied: bool, bias: bool, seed: u64) -> Problem {
    Problem {
        tokens: n,
        d_hidden: h,
        num_classes: v,
        tied,
        hidden: numbers(n * h, 1.0, seed + 1),
        weight: numbers(h * v, 1.0, seed + 2),
        bias: bias.then(|| numbers(v, 1.0, seed + 3)),
        targets: numbers(n, 0.5, seed + 4)
            .into_iter()
            .map(|x| ((x + 0.5) * v as f64) as usize)
            .collect(),
        nll_grad: numbers(n, 1.0, seed + 5),
        square_grad: Some(numbers(n, 0.1, seed + 6)),
        entropy_grad: Some(numbers(n, 1.0, seed + 7)),
        log_partition_grad: Some(numbers(n, 1.0, seed + 8)),
    }
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes =
        (1..7_usize, 1..6_usize, prop_oneof![Just(1), Just(2), Just(37), 3..70_usize, Just(1100)]);
    (sizes, any::<bool>(), any::<bool>(), 0..1000_u64)
        .prop_map(|((n, h, v), tied, bias, seed)| problem([n, h, v], tied, bias, seed))
}

fn check_against_differences(problem: &Problem, results: &Results) {
    for (name, len, actual) in [
        ("hidden", problem.hidden.len(), &results.hidden_grad),
        ("weight", problem.weight.len(), &results.weight_grad),
        ("bias", problem.bias.as_ref().map_or(0, Vec::len), &results.bias_grad),
    ] {
        // A few of many: one difference costs a whole forward pass.
        for i in (0..len).step_by(len.div_ceil(40).max(1)) {
            let expected = problem.difference(|problem| match name {
                "hidden" => &mut problem.hidden[i],
                "weight" => &mut problem.weight[i],
                _ => &mut problem.bias.as_mut().unwrap()[i],
            });
            assert_near(name, &actual[i..=i], &[expected], 1e-7);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn values_are_those_of_the_definition(problem in problems()) {
        let results = problem.run::<f64>(false, 1);
        let expected = problem.reference();
        let of = |term: usize| expected.iter().map(|terms| terms[term]).collect::<Vec<_>>();
        assert_near("nll", &results.nll, &of(0), 1e-12);
        assert_near("square", &results.square, &of(1), 1e-12);
        assert_near("entropy", &results.entropy, &of(2), 1e-12);
        assert_near("log_partition", &results.log_partition, &of(3), 1e-12);
        assert_near("nll alone", &problem.run::<f64>(true, 1).nll, &of(0), 1e-12);
    }

    #[test]
    fn gradients_are_differences_of_the_values(problem in problems()) {
        check_against_differences(&problem, &problem.run::<f64>(false, 1));
    }

    #[test]
    fn gradients_of_nll_are_differences_of_nll(problem in problems(), equal in any::<bool>()) {
        let mut problem = problem.of_nll();
        if equal {
            problem.nll_grad.fill(-0.7);
        }
        let plain = problem.run::<f64>(true, 1);
        check_against_differences(&problem, &plain);
        let kept = problem.run::<f64>(false, 1);
        assert_near("hidden", &plain.hidden_grad, &kept.hidden_grad, 1e-12);
        assert_near("weight", &plain.weight_grad, &kept.weight_grad, 1e-12);
        assert_near("bias", &plain.bias_grad, &kept.bias_grad, 1e-12);
    }

    /// A logit has at most six terms below 1, each rounded a few times: an error below 3e-6,
    /// usually 5e-7. Gradients add up to 1100 such errors times up to 0.2, which grow like a random
    /// walk: 33 · 0.2 · 5e-7 = 3e-6.
    #[test]
    fn single_precision_agrees_to_its_rounding(problem in problems(), plain in any::<bool>()) {
        let (single, double) = (problem.run::<f32>(plain, 1), problem.run::<f64>(plain, 1));
        assert_near("nll", &single.nll, &double.nll, 1e-5);
        assert_near("hidden", &single.hidden_grad, &double.hidden_grad, 1e-5);
        assert_near("weight", &single.weight_grad, &double.weight_grad, 1e-5);
        assert_near("bias", &single.bias_grad, &double.bias_grad, 1e-5);
        if !plain {
            assert_near("square", &single.square, &double.square, 1e-5);
            assert_near("entropy", &single.entropy, &double.entropy, 1e-5);
            assert_near("log_partition", &single.log_partition, &double.log_partition, 1e-5);
        }
    }
}

/// Rounding the logits moves the loss by 3e-7, rounding the loss by 5e-7; a sum in one accumulator
/// by 1e-5.
#[test]
fn many_classes_cost_no_precision() {
    let problem = of_logits(&numbers(50_000, 5.0, 3), 7);
    let expected = problem.run::<f64>(true, 1).nll;
    assert_near("nll", &problem.run::<f32>(true, 1).nll, &expected, 1e-7);
    assert_near("nll", &problem.run::<f32>(false, 1).nll, &expected, 1e-7);
}

/// More than one task in every pass, and a product that the `gemm` crate divides.
#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for (tied, bias) in [(false, true), (true, false)] {
        let problem = problem([150, 40, 3000], tied, bias, 11);
        for plain in [true, false] {
            let [one, two] = [1, 2].map(|threads| problem.run::<f32>(plain, threads));
            assert!(one.nll.iter().chain(&one.bias_grad).all(|x| x.is_finite()));
            assert_eq!(one.nll, two.nll);
            assert_eq!(one.hidden_grad, two.hidden_grad);
            assert_eq!(one.weight_grad, two.weight_grad);
            assert_eq!(one.bias_grad, two.bias_grad);
            if !plain {
                assert_eq!([one.square, one.entropy], [two.square, two.entropy]);
                assert_eq!(one.log_partition, two.log_partition);
            }
        }
    }
}

/// What [`evaluate`] writes, in order.
fn evaluated(problem: &Problem, threads: usize) -> [Vec<f64>; 4] {
    let Problem { weight, tied, hidden, targets, tokens, .. } = problem;
    let bias = problem.bias();
    let layer = Layer::new(weight, &bias, *tied, hidden, targets);
    let mut values = vec![f64::NAN; 4 * tokens];
    evaluate(&layer, Terms::split_mut(&mut values), threads);
    let Terms { nll, square, entropy, log_partition } = Terms::split(&values);
    [nll, square, entropy, log_partition].map(<[f64]>::to_vec)
}

/// In several parts, of which the last is shorter.
#[test]
fn evaluation_in_parts_agrees_with_training() {
    for (tied, bias) in [(false, true), (true, false)] {
        let problem = problem([150, 7, 40_000], tied, bias, 5);
        let actual = evaluated(&problem, 2);
        assert_eq!(actual, evaluated(&problem, 1));
        let Results { nll, square, entropy, log_partition, .. } = problem.run::<f64>(false, 2);
        for (actual, expected) in actual.iter().zip([nll, square, entropy, log_partition]) {
            assert_near("evaluated", actual, &expected, 1e-13);
        }
    }
}

/// The first part has no class that counts, and one token's logits are not numbers.
#[test]
fn a_part_without_classes_does_not_disturb_evaluation() {
    let mut problem = problem([150, 7, 40_000], false, true, 5);
    problem.bias.as_mut().unwrap()[..10_000].fill(f64::NEG_INFINITY);
    problem.targets.fill(20_000);
    let [expected, _, entropy, _] = evaluated(&problem, 1);
    problem.hidden[7] = f64::NAN;
    let [nll, ..] = evaluated(&problem, 1);
    assert!(nll[1].is_nan() && nll[0] == expected[0] && nll[2..] == expected[2..]);
    let plain = problem.run::<f64>(false, 1);
    assert_near("nll", &expected[2..], &plain.nll[2..], 1e-13);
    assert_near("entropy", &entropy[2..], &plain.entropy[2..], 1e-13);
}

/// One hidden unit that is 1, so that the weights are the logits.
fn of_logits(logits: &[f64], target: usize) -> Problem {
    Problem {
        hidden: vec![1.0],
        weight: logits.to_vec(),
        targets: vec![target],
        nll_grad: vec![1.0],
        ..problem([1, 1, logits.len()], false, false, 0)
    }
}

#[test]
fn large_logits_neither_overflow_nor_lose_the_small_ones() {
    for size in [80.0, 1e4] {
        let single = |target| {
            let problem = of_logits(&[size, -size, size, 0.0], target);
            let problem = Problem { square_grad: None, log_partition_grad: None, ..problem };
            (problem.run::<f32>(true, 1), problem.run::<f32>(false, 1))
        };
        // p = [½, 0, ½, 0] up to e^−80.
        let ln_2 = std::f64::consts::LN_2;
        for (target, nll) in [(0, ln_2), (1, ln_2 + 2.0 * size), (3, ln_2 + size)] {
            let (plain, kept) = single(target);
            assert_near("nll", &plain.nll, &[nll], 1e-7);
            assert_near("nll", &kept.nll, &[nll], 1e-7);
            assert_near("entropy", &kept.entropy, &[ln_2], 1e-7);
            assert_near("square", &kept.square, &[3.0 * size * size], 1e-7);
            assert_near("log_partition", &kept.log_partition, &[size + ln_2], 1e-7);
            let mut expected = [0.5, 0.0, 0.5, 0.0];
            expected[target] -= 1.0;
            assert_near("plain", &plain.weight_grad, &expected, 1e-6);
            // The gradient of the entropy is 0: of the classes that count, both are alike.
            assert_near("kept", &kept.weight_grad, &expected, 1e-6);
        }
    }
}

#[test]
fn a_class_may_be_excluded() {
    let problem = Problem {
        bias: Some(vec![0.0, f64::NEG_INFINITY, 0.0]),
        square_grad: None,
        log_partition_grad: None,
        ..of_logits(&[0.0; 3], 2)
    };
    for plain in [true, false] {
        let results = problem.run::<f32>(plain, 1);
        assert_near("nll", &results.nll, &[std::f64::consts::LN_2], 1e-7);
        assert_near("gradient", &results.bias_grad, &[0.5, 0.0, -0.5], 1e-6);
    }
    assert_near("entropy", &problem.run::<f64>(false, 1).entropy, &[2.0_f64.ln()], 1e-12);
}

#[test]
fn not_a_number_is_passed_on_and_stays_in_its_token() {
    for place in [0, 36, 40] {
        for plain in [true, false] {
            let mut problem = problem([3, 2, 41], true, true, 3);
            problem.hidden[2] = f64::NAN;
            let results = problem.run::<f32>(plain, 1);
            assert_eq!(
                results.nll.iter().map(|x| x.is_nan()).collect::<Vec<_>>(),
                [false, true, false]
            );

            let mut logits = vec![0.0; 41];
            logits[place] = f64::NAN;
            let results = of_logits(&logits, 20).run::<f32>(plain, 1);
            assert!(results.nll[0].is_nan() && results.bias_grad.iter().all(|x| x.is_nan()));
        }
    }
}

#[test]
fn no_tokens_give_zero_gradients() {
    for plain in [true, false] {
        let results = problem([0, 3, 4], false, true, 0).run::<f32>(plain, 2);
        assert_eq!(results.weight_grad, [0.0; 12]);
        assert_eq!(results.bias_grad, [0.0; 4]);
    }
}

#[test]
#[should_panic(expected = "the target 37 of token 1 is none of the 37 classes")]
fn targets_are_checked() {
    let mut problem = problem([2, 3, 37], false, true, 0);
    problem.targets[1] = 37;
    problem.run::<f32>(true, 1);
}
