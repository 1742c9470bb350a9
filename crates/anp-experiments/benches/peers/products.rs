//! The matrix products of a step and nothing else: what no fusing can save.

use burn::tensor::{Device, Distribution, Tensor};

use crate::case::{Case, Mode, Model};
use crate::steps::Steps;

/// Both sides of each product, as they lie in memory when a step comes to them.
pub struct Products {
    products: Vec<(Tensor<2>, Tensor<2>)>,
    loss: Tensor<1>,
}

impl Products {
    pub fn new(case: &Case, device: &Device) -> Self {
        let random = |rows, columns| Tensor::random([rows, columns], Distribution::Default, device);
        let train = case.mode == Mode::Train;
        let (rows, d_hidden) = (case.tokens(), case.d_hidden);
        let mut products = Vec::new();
        // x w; and for its gradients dy wᵀ and xᵀ dy.
        let mut linear = |m, k, n| {
            let (x, w) = (random(m, k), random(k, n));
            products.push((x.clone(), w.clone()));
            if train {
                let dy = random(m, n);
                products.push((dy.clone(), w.transpose()));
                products.push((x.transpose(), dy));
            }
        };
        let num_gates = if case.model == Model::Sru { 3 } else { 4 };
        for _ in 0..case.num_layers {
            linear(rows, d_hidden, num_gates * d_hidden);
        }
        linear(rows, d_hidden, case.vocab_size);

        // A product each step forward and one backward; the weight's gradient is one product for
        // all.
        if case.model != Model::Sru {
            for _ in 0..case.num_layers {
                let w = random(d_hidden, 4 * d_hidden);
                let forward = (random(case.batch_size, d_hidden), w.clone());
                products.extend(vec![forward; case.seq_length]);
                if train {
                    let backward = (random(case.batch_size, 4 * d_hidden), w.transpose());
                    products.extend(vec![backward; case.seq_length]);
                    products.push((random(rows, d_hidden).transpose(), random(rows, 4 * d_hidden)));
                }
            }
        }
        Self { products, loss: Tensor::zeros([1], device) }
    }
}

impl Steps for Products {
    fn step(&mut self) -> Tensor<1> {
        for (a, b) in &self.products {
            a.clone().matmul(b.clone());
        }
        self.loss.clone()
    }
}
