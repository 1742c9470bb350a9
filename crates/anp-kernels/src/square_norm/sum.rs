#[cfg(feature = "cube")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;

#[cfg(feature = "cube")]
use super::SquareSumsBackend;
use super::square_norm;

/// `Σ x²` over several tensors of one device.
///
/// On a GPU it is spread over many sums until [`total`](Self::total), so that a tensor costs one
/// kernel.
#[derive(Debug, Default)]
pub(crate) struct SquareSum {
    total: Option<Tensor<1>>,
    #[cfg(feature = "cube")]
    spread: Option<Tensor<1>>,
}

impl SquareSum {
    /// Add the squares of `tensor`.
    pub(crate) fn add<const D: usize>(&mut self, tensor: Tensor<D>) {
        #[cfg(feature = "cube")]
        if crate::backend::is_cube(&tensor.device()) {
            let sums = self.spread.take().unwrap_or_else(|| {
                let dtype = crate::cube::wide(tensor.dtype());
                Tensor::zeros([crate::cube::reduce::MOST_CUBES], (&tensor.device(), dtype))
            });
            let sums = Dispatch::add_squares(sums.into_dispatch(), tensor.into_dispatch());
            self.spread = Some(Tensor::from_dispatch(sums));
            return;
        }
        self.add_square(square_norm(tensor));
    }

    /// Add a squared norm, `[1]`.
    pub(crate) fn add_square(&mut self, square: Tensor<1>) {
        self.total = Some(match self.total.take() {
            Some(sum) => sum + square,
            None => square,
        });
    }

    /// `[1]`, or `None` if nothing was added.
    pub(crate) fn total(self) -> Option<Tensor<1>> {
        #[cfg(feature = "cube")]
        let spread = self.spread.map(|sums| sums.sum());
        #[cfg(not(feature = "cube"))]
        let spread = None;
        [self.total, spread].into_iter().flatten().reduce(|sum, square| sum + square)
    }
}
