mod rows;
mod update;

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{SgdBackend, SgdOptions, SgdRows, SgdStep, SgdUpdated};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use rows::Rows;
use update::Update;

impl<B: CpuBackend> SgdBackend for B {
    fn sgd_step(step: SgdStep<B>) -> SgdUpdated<B> {
        with_scalar!(step.tensor.dtype(), dense::<B>(step))
    }

    fn sgd_rows(step: SgdRows<B>) -> FloatTensor<B> {
        with_scalar!(step.tensor.dtype(), sparse::<B>(step))
    }

    fn rows_square_norm(
        values: FloatTensor<B>,
        rows: IntTensor<B>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        with_scalar!(values.dtype(), square_norm::<B>(values, rows, num_rows))
    }
}

fn dense<B: CpuBackend, E: CpuScalar>(step: SgdStep<B>) -> SgdUpdated<B> {
    let SgdStep { tensor, gradient, scale, velocity, options } = step;
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let scale = B::values::<E>(scale)[0].to_f64();
    let gradient = B::values::<E>(gradient);
    let mut values = B::owned::<E>(tensor);
    let last = velocity.into_option().map(B::owned::<E>);
    let update = Update::new(options, scale, last.is_none());
    if options.momentum.is_none() {
        update.apply(&mut values, &gradient, threads());
        return SgdUpdated { tensor: like.tensor(values, shape), velocity: Optional::Absent };
    }
    let mut velocity = last.unwrap_or_else(|| vec![E::ZERO; values.len()]);
    update.apply_with_momentum(&mut values, &mut velocity, &gradient, threads());
    let len = velocity.len();
    SgdUpdated {
        tensor: like.tensor(values, shape),
        velocity: Optional::Present(like.tensor(velocity, [len])),
    }
}

fn sparse<B: CpuBackend, E: CpuScalar>(step: SgdRows<B>) -> FloatTensor<B> {
    let SgdRows { tensor, values, rows, scale, learning_rate } = step;
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let scale = B::values::<E>(scale)[0].to_f64();
    let gradient = B::values::<E>(values);
    let rows = Rows::new(&B::indices(rows), &gradient, shape.dims());
    let options =
        SgdOptions { learning_rate, coupled_decay: 0.0, decoupled_decay: 0.0, momentum: None };
    let mut values = B::owned::<E>(tensor);
    rows.step(&Update::new(options, scale, true), &mut values, threads());
    like.tensor(values, shape)
}

fn square_norm<B: CpuBackend, E: CpuScalar>(
    values: FloatTensor<B>,
    rows: IntTensor<B>,
    num_rows: usize,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&values);
    let [_, width] = values.shape().dims();
    let values = B::values::<E>(values);
    let rows = Rows::new(&B::indices(rows), &values, [num_rows, width]);
    like.tensor(vec![E::from_f64(rows.square_norm(threads()))], [1])
}
