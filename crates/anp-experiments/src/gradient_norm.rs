use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// L2 norm of all gradients together, `[1]`. Does not wait for the device.
///
/// ```text
/// ‖g‖₂² = Σ over all parameters and elements of g²
/// ```
///
/// # Panics
///
/// If no parameter of `module` has a gradient.
pub(crate) fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Tensor<1> {
    let mut squares = SumOfSquares { gradients, sum: None };
    module.visit(&mut squares);
    squares.sum.expect("a parameter has a gradient").sqrt()
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}
