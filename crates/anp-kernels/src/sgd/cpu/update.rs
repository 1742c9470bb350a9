//! The step of a dense gradient.
//!
//! ```text
//! g ← scale · gradient + coupled_decay · p
//! v ← momentum · v + (1 − dampening) · g
//! p ← p − decoupled_decay · p − learning_rate · d
//! d = v, or g + momentum · v with Nesterov, or g without momentum
//! ```

use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;
use crate::sgd::SgdOptions;

/// Elements per task.
const TASK: usize = 1 << 15;

/// The numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    scale: f64,
    learning_rate: f64,
    coupled_decay: f64,
    decoupled_decay: f64,
    momentum: f64,
    undamped: f64,
    nesterov: bool,
}

impl Update {
    /// A step whose gradients are multiplied by `scale`.
    pub(super) fn new(options: SgdOptions, scale: f64, is_first: bool) -> Self {
        let SgdOptions { learning_rate, coupled_decay, decoupled_decay, momentum } = options;
        Self {
            scale,
            learning_rate,
            coupled_decay,
            decoupled_decay,
            momentum: momentum.map_or(0.0, |momentum| momentum.factor),
            // As in Burn and PyTorch, the first step's gradient is not dampened.
            undamped: momentum
                .filter(|_| !is_first)
                .map_or(1.0, |momentum| 1.0 - momentum.dampening),
            nesterov: momentum.is_some_and(|momentum| momentum.nesterov),
        }
    }

    /// The step without momentum, in place.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub(super) fn apply<E: Scalar>(self, values: &mut [E], gradient: &[E], threads: usize) {
        assert_eq!(gradient.len(), values.len(), "length of a gradient and its parameter's");
        let tasks = values.chunks_mut(TASK).zip(gradient.chunks(TASK)).collect();
        map(tasks, threads, |(values, gradient)| {
            vectorized(
                #[inline(always)]
                || self.step(values, gradient),
            );
        });
    }

    /// The step with momentum, in place. Before the first step, the velocity is zero.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub(super) fn apply_with_momentum<E: Scalar>(
        self,
        values: &mut [E],
        velocity: &mut [E],
        gradient: &[E],
        threads: usize,
    ) {
        assert_eq!(gradient.len(), values.len(), "length of a gradient and its parameter's");
        assert_eq!(velocity.len(), values.len(), "length of a velocity and its parameter's");
        let tasks = values.chunks_mut(TASK).zip(velocity.chunks_mut(TASK));
        let tasks = tasks.zip(gradient.chunks(TASK)).collect();
        map(tasks, threads, |((values, velocity), gradient)| {
            vectorized(
                #[inline(always)]
                || self.step_with_momentum(values, velocity, gradient),
            );
        });
    }

    /// [`apply`](Self::apply) in a task.
    #[inline(always)]
    pub(super) fn step<E: Scalar>(&self, values: &mut [E], gradient: &[E]) {
        let decay = self.decoupled_decay + self.learning_rate * self.coupled_decay;
        let (decay, rate) = (E::from_f64(decay), E::from_f64(self.learning_rate * self.scale));
        for (p, g) in values.iter_mut().zip(gradient) {
            *p -= decay * *p + rate * *g;
        }
    }

    #[inline(always)]
    fn step_with_momentum<E: Scalar>(&self, values: &mut [E], velocity: &mut [E], gradient: &[E]) {
        let (scale, coupled) = (E::from_f64(self.scale), E::from_f64(self.coupled_decay));
        let (momentum, undamped) = (E::from_f64(self.momentum), E::from_f64(self.undamped));
        let (decay, rate) = (E::from_f64(self.decoupled_decay), E::from_f64(self.learning_rate));
        for ((p, v), g) in values.iter_mut().zip(velocity).zip(gradient) {
            let g = scale * *g + coupled * *p;
            *v = momentum * *v + undamped * g;
            let direction = if self.nesterov { g + momentum * *v } else { *v };
            *p -= decay * *p + rate * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sgd::Momentum;

    /// A parameter and what its step reads.
    #[derive(Debug, Clone)]
    struct Case {
        values: Vec<f64>,
        velocity: Vec<f64>,
        gradient: Vec<f64>,
        options: SgdOptions,
    }

    impl Case {
        /// The definition: the parameter and the velocity after the step.
        fn expected(&self, scale: f64) -> [Vec<f64>; 2] {
            let SgdOptions { learning_rate, coupled_decay, decoupled_decay, momentum } =
                self.options;
            let [mut values, mut velocity] = [self.values.clone(), self.velocity.clone()];
            for (i, gradient) in self.gradient.iter().enumerate() {
                let g = scale * gradient + coupled_decay * values[i];
                let direction = match momentum {
                    None => g,
                    Some(Momentum { factor, dampening, nesterov }) => {
                        velocity[i] = factor * velocity[i] + (1.0 - dampening) * g;
                        if nesterov { g + factor * velocity[i] } else { velocity[i] }
                    }
                };
                values[i] = (1.0 - decoupled_decay) * values[i] - learning_rate * direction;
            }
            [values, velocity]
        }

        /// The same as the kernels compute it in `E`.
        fn run<E: Scalar>(&self, scale: f64, threads: usize) -> [Vec<f64>; 2] {
            let narrow =
                |values: &[f64]| -> Vec<E> { values.iter().map(|&x| E::from_f64(x)).collect() };
            let [mut values, mut velocity] = [&self.values, &self.velocity].map(|it| narrow(it));
            let gradient = narrow(&self.gradient);
            let update = Update::new(self.options, scale, false);
            match self.options.momentum {
                None => update.apply(&mut values, &gradient, threads),
                Some(_) => {
                    update.apply_with_momentum(&mut values, &mut velocity, &gradient, threads);
                }
            }
            [values, velocity].map(|values| values.into_iter().map(E::to_f64).collect())
        }
    }

    fn momentum((factor, dampening, nesterov): (f64, f64, bool)) -> Momentum {
        Momentum { factor, dampening, nesterov }
    }

    fn cases() -> impl Strategy<Value = Case> {
        let numbers = |len: usize| prop::collection::vec(-2.0..2.0_f64, len);
        let decay = || prop_oneof![Just(0.0), 0.0..0.1];
        let momenta = (0.0..0.99, prop_oneof![Just(0.0), 0.0..1.0], any::<bool>());
        let momenta = prop::option::of(momenta.prop_map(momentum));
        let options = (0.0..1.0, decay(), decay(), momenta).prop_map(
            |(learning_rate, coupled_decay, decoupled_decay, momentum)| SgdOptions {
                learning_rate,
                coupled_decay,
                decoupled_decay,
                momentum,
            },
        );
        let numbers = (1..360_usize).prop_flat_map(move |len| [(); 3].map(|()| numbers(len)));
        (numbers, options).prop_map(|([values, velocity, gradient], options)| Case {
            values,
            velocity,
            gradient,
            options,
        })
    }

    proptest! {
        #[test]
        fn step_matches_its_definition(case in cases(), scale in 0.0..1.0) {
            let [double, single] = [case.run::<f64>(scale, 2), case.run::<f32>(scale, 1)];
            let results = double.iter().flatten().zip(single.iter().flatten());
            for ((double, single), expected) in results.zip(case.expected(scale).iter().flatten()) {
                // Numbers are below 15, and a step is at most ten operations, each exact to half of
                // 2⁻²⁴ of its size.
                prop_assert!((double - expected).abs() < 1e-12);
                prop_assert!((single - expected).abs() < 1e-5);
            }
        }
    }

    /// More than one task per parameter.
    fn large() -> [Case; 2] {
        let numbers =
            |rate: f64| -> Vec<f64> { (0..91_000).map(|i| (i as f64 * rate).sin()).collect() };
        let options = SgdOptions {
            learning_rate: 0.5,
            coupled_decay: 0.0,
            decoupled_decay: 0.0,
            momentum: None,
        };
        let case =
            Case { values: numbers(0.3), velocity: numbers(0.4), gradient: numbers(0.5), options };
        let momentum = Some(momentum((0.9, 0.0, true)));
        [Case { options: SgdOptions { momentum, ..options }, ..case.clone() }, case]
    }

    #[test]
    fn large_parameters_take_the_same_step() {
        for case in large() {
            let expected = case.expected(0.25);
            for (actual, expected) in
                case.run::<f64>(0.25, 2).iter().flatten().zip(expected.iter().flatten())
            {
                assert!((actual - expected).abs() < 1e-14, "{actual}, not {expected}");
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        for case in large() {
            assert!(case.run::<f32>(0.25, 1) == case.run::<f32>(0.25, 2));
        }
    }
}
