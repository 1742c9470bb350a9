//! The bound on I(X; T) that the activation norm penalty is a part of.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::activation_norm::ActivationNormConfig;
use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_range, validate_strength};
use crate::gram::GramFactor;
use crate::host_function::host_function;
use crate::information_options::{ExampleGroup, InformationTerms, TraceFactor};
use crate::widen::no_penalty;

/// Configuration of [`InformationBound`].
#[derive(Config, Debug, PartialEq)]
pub struct InformationBoundConfig {
    /// Strength η ≥ 0; 0 turns the bound off.
    pub eta: f64,
    /// Variance ε > 0 that is added to each example's own.
    #[config(default = 1e-3)]
    pub epsilon: f64,
    /// Which terms of the divergence count.
    #[config(default = "InformationTerms::TraceAndLogDeterminant")]
    pub terms: InformationTerms,
    /// Factor of the trace.
    #[config(default = "TraceFactor::Corrected")]
    pub trace_factor: TraceFactor,
    /// The examples that have one Gaussian together.
    #[config(default = "ExampleGroup::TimeStep")]
    pub group: ExampleGroup,
    /// Whether sequences are `[batch_size, seq_length, d_hidden]` or
    /// `[seq_length, batch_size, d_hidden]`.
    #[config(default = true)]
    pub batch_first: bool,
}

impl InformationBoundConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `eta` is negative, infinite or NaN, or `epsilon` is not
    /// positive and finite.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_strength("eta", self.eta)?;
        let is_positive = self.epsilon.is_finite() && self.epsilon > 0.0;
        validate_range("epsilon", self.epsilon, "(0, ∞)", is_positive)
    }

    /// Build the bound.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> InformationBound {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        InformationBound {
            eta: self.eta,
            epsilon: self.epsilon,
            terms: self.terms,
            trace_factor: self.trace_factor,
            group: self.group,
            batch_first: self.batch_first,
        }
    }
}

/// Bound on the information I(X; T) that an activation has of its input, in nats.
///
/// The activations Φ of N examples, rows of K features, are the covariance of one Gaussian over the
/// examples. Its divergence from independent standard normals bounds the information:
///
/// ```text
/// bound(Φ) = η · KL(N(0, K̂) ‖ N(0, I)) = (η/2) · (tr K̂ − ln det K̂ − N),   K̂ = ΦΦᵀ/K + εI
///
/// ∂bound/∂Φ = η · (I − K̂⁻¹) Φ / K
/// ```
///
/// "From Information Bottleneck to Activation Norm Penalty", ICLR 2018 submission SySpa-Z0Z,
/// equation 10, with two corrections: the printed trace has a factor N too many (see
/// [`TraceFactor`]), and the printed right-hand side lacks −N. The paper drops the determinant as
/// hard to evaluate. It is not, and it changes what the term does:
///
/// - the whole divergence pulls each eigenvalue of K̂ towards 1. Gradient descent makes those below
///   1 grow and those above 1 shrink;
/// - the trace alone shrinks all of them. It is the activation norm penalty.
///
/// ```
/// use anp_core::InformationBoundConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::default().autodiff();
/// let shape = [8, 5, 32]; // sequences, steps, features
/// let hidden = Tensor::<3>::random(shape, Distribution::Default, &device).require_grad();
///
/// let bound = InformationBoundConfig::new(1e-4).init().forward(hidden.clone());
/// let gradients = bound.backward(); // in training: of the loss plus the bound
/// assert!(hidden.grad(&gradients).is_some());
/// ```
///
/// # Groups
///
/// A sequence model has a Gaussian for each time step, over the examples of its batch, and the
/// bounds of the steps add up: [`ExampleGroup::TimeStep`]. That is the paper's theory beside a loss
/// that is summed over time. [`ExampleGroup::Minibatch`] makes all tokens one group. Nothing is
/// divided by N: beside a mean over B examples, η = β/B gives each example's share the weight β.
///
/// # The trace alone
///
/// Without the determinant, `(η/2)·tr(ΦΦᵀ)/K` is [`ActivationNorm`](crate::ActivationNorm), up to
/// the strength; ε and −N, which have no gradient, are left out. Equation 11 has no ½, so its η
/// stands for twice this η:
///
/// | group | factor | [`HalfSum`](crate::Reduction::HalfSum) at | λ beside a sum over time |
/// | --- | --- | --- | --- |
/// | any | corrected | η/K | [`lambda_corrected_trace`](crate::lambda_corrected_trace) at η/2 |
/// | time step | printed | η·B/K | [`lambda_eq11_per_step`](crate::lambda_eq11_per_step) at η/2 |
/// | minibatch | printed | η·B·T/K | [`lambda`](crate::lambda) of `eq11_literal` at η/2 |
///
/// # What ε decides
///
/// A direction without activation has the eigenvalue ε in K̂ and costs `(η/2)·(ε − ln ε − 1)`, 3.0
/// nats at η = 1 and ε = 1e-3. Repeated examples, zeros, and groups of more examples than features
/// have such directions. At exactly 0 there is no force; near 0 it is outward and at most
/// `η / (2·√(Kε))` along each singular direction of Φ.
///
/// # Precision and cost
///
/// Products, Cholesky factor and gradient are computed on the host in double precision, whatever
/// the device. A Gram matrix in single precision has errors near 1e-7 times its largest eigenvalue,
/// often more than ε: nearly equal examples would leave it indefinite. In double precision the
/// relative error is near 1e-16 times the largest eigenvalue over ε; a pivot that rounding takes
/// below ε is raised to it, so that value and gradient stay finite for every ε. Burn's own linear
/// algebra (`burn::linalg`) has LU and determinant, but neither Cholesky nor solve, and its
/// determinant underflows in single precision.
///
/// The work is `m²·(3n/2 + m/6)` multiplications for each group, m the smaller of N and K and n
/// the larger, and a copy of the activation to the host and of the gradient back. 35 steps of 20
/// examples with 512 features take about 10 ms of one core (AMD EPYC, release build), and one group
/// of 700 such examples about 0.1 s; see `benches/information_bound.rs`. Value and gradient are
/// found together, in the forward pass; without autodiff only the value is.
///
/// Holds no parameters and draws no noise: it is the same on a device with and without autodiff.
/// Leave it out of any loss that is reported.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InformationBound {
    eta: f64,
    epsilon: f64,
    #[module(skip)]
    terms: InformationTerms,
    #[module(skip)]
    trace_factor: TraceFactor,
    #[module(skip)]
    group: ExampleGroup,
    batch_first: bool,
}

impl InformationBound {
    /// Bound of a sequence model's activation, to add to the loss. Its value is the one to log.
    ///
    /// With η = 0 the result is a constant 0, whatever the activation holds. An infinity or NaN in
    /// the activation makes it NaN or infinite.
    ///
    /// # Shapes
    ///
    /// - `activation`: `[batch_size, seq_length, d_hidden]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_hidden]`
    /// - returns: `[1]`, f64 for an f64 activation, else f32
    ///
    /// # Panics
    ///
    /// If `activation` has no element: there is no covariance.
    pub fn forward(&self, activation: Tensor<3>) -> Tensor<1> {
        let [first, second, d_hidden] = activation.dims();
        let groups = match self.group {
            ExampleGroup::TimeStep if self.batch_first => activation.swap_dims(0, 1),
            ExampleGroup::TimeStep => activation,
            ExampleGroup::Minibatch => activation.reshape([1, first * second, d_hidden]),
        };
        self.sum_over_groups(groups)
    }

    /// Bound of examples without time, such as images: one group.
    ///
    /// Otherwise the same as [`forward`](Self::forward).
    ///
    /// # Shapes
    ///
    /// - `activation`: `[batch_size, d_hidden]`
    /// - returns: `[1]`, f64 for an f64 activation, else f32
    ///
    /// # Panics
    ///
    /// If `activation` has no element.
    pub fn forward_examples(&self, activation: Tensor<2>) -> Tensor<1> {
        self.sum_over_groups(activation.unsqueeze_dim(0))
    }

    /// `groups`: `[num_groups, num_examples, d_hidden]`.
    fn sum_over_groups(&self, groups: Tensor<3>) -> Tensor<1> {
        let dims @ [_, num_examples, num_features] = groups.dims();
        assert!(
            dims.iter().all(|&size| size > 0),
            "the bound needs an activation, got {dims:?} (groups, examples, features)"
        );
        if self.eta == 0.0 {
            return no_penalty(&groups);
        }

        let per_feature = 1.0 / num_features as f64;
        let multiple = self.trace_factor.multiple(num_examples);
        if self.terms == InformationTerms::Trace {
            let penalty = ActivationNormConfig::new(self.eta * multiple * per_feature).init();
            return penalty.forward(groups);
        }
        host_function(groups, |elements, mut gradient| {
            let group_size = num_examples * num_features;
            let sum: f64 = elements
                .chunks_exact(group_size)
                .enumerate()
                .map(|(index, group)| {
                    let factor = GramFactor::new(group, num_features, per_feature, self.epsilon);
                    let square_sum: f64 = group.iter().map(|x| x * x).sum();
                    let trace = multiple * per_feature * square_sum
                        + num_examples as f64 * (self.epsilon - 1.0);
                    let divergence = 0.5 * (trace - factor.log_determinant());
                    if let Some(gradient) = &mut gradient {
                        let gradient = &mut gradient[index * group_size..][..group_size];
                        let solved = factor.solve();
                        for (g, (x, solved)) in gradient.iter_mut().zip(group.iter().zip(solved)) {
                            *g = self.eta * per_feature * (multiple * x - solved);
                        }
                    }
                    divergence
                })
                .sum();
            self.eta * sum
        })
    }

    /// Strength η.
    pub fn eta(&self) -> f64 {
        self.eta
    }

    /// Variance ε that is added to each example's own.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Which terms of the divergence count.
    pub fn terms(&self) -> InformationTerms {
        self.terms
    }

    /// Factor of the trace.
    pub fn trace_factor(&self) -> TraceFactor {
        self.trace_factor
    }

    /// The examples that have one Gaussian together.
    pub fn group(&self) -> ExampleGroup {
        self.group
    }
}

display_on_one_line!(
    InformationBound, it: "eta" = it.eta, "epsilon" = it.epsilon, "terms" = it.terms.to_string(),
    "trace_factor" = it.trace_factor.to_string(), "group" = it.group.to_string(),
    "batch_first" = it.batch_first
);
