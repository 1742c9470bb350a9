//! Samples on the host, in double precision.

use burn::tensor::{Int, Tensor};

/// A matrix of finite numbers, row by row.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    data: Vec<f64>,
    width: usize,
}

impl Rows {
    /// Read a tensor `[N, K]`, called `name` in messages.
    pub(super) fn read(name: &str, tensor: Tensor<2>) -> Self {
        let [num_rows, width] = tensor.dims();
        assert!(num_rows > 0 && width > 0, "`{name}` is empty: [{num_rows}, {width}]");
        let data: Vec<f64> = tensor.into_data().iter::<f64>().collect();
        assert!(data.iter().all(|value| value.is_finite()), "`{name}` must be finite");
        Self { data, width }
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn row(&self, index: usize) -> &[f64] {
        &self.data[index * self.width..][..self.width]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks_exact(self.width)
    }

    pub(super) fn column(&self, index: usize) -> impl Iterator<Item = f64> {
        self.data.iter().skip(index).step_by(self.width).copied()
    }

    /// Every column with mean 0 and variance 1; a constant column with zeros.
    pub(super) fn standardized(&self) -> Self {
        let count = self.len() as f64;
        let mut data = self.data.clone();
        for column in 0..self.width {
            let mean = self.column(column).sum::<f64>() / count;
            let square = self.column(column).map(|value| (value - mean).powi(2)).sum::<f64>();
            let scale = if square > 0.0 { (count / square).sqrt() } else { 0.0 };
            for value in data.iter_mut().skip(column).step_by(self.width) {
                *value = (*value - mean) * scale;
            }
        }
        Self { data, width: self.width }
    }

    /// Every `step`-th row from `start` on.
    pub(super) fn every(&self, step: usize, start: usize) -> Self {
        let data = self.iter().skip(start).step_by(step).flatten().copied().collect();
        Self { data, width: self.width }
    }
}

/// Read labels `[N]` as group numbers: 0, 1, .. in the order in which the labels first occur.
pub(super) fn read_labels(labels: Tensor<1, Int>, num_rows: usize) -> Vec<usize> {
    let labels: Vec<i64> = labels.into_data().iter::<i64>().collect();
    assert_eq!(labels.len(), num_rows, "there must be one label per example");
    number(labels)
}

/// Number symbols: 0, 1, .. in the order in which they first occur.
pub(super) fn number<S: Eq + std::hash::Hash>(symbols: impl IntoIterator<Item = S>) -> Vec<usize> {
    let mut numbers = std::collections::HashMap::new();
    symbols
        .into_iter()
        .map(|symbol| {
            let next = numbers.len();
            *numbers.entry(symbol).or_insert(next)
        })
        .collect()
}

/// How often each number occurs.
pub(super) fn count(numbers: &[usize]) -> Vec<usize> {
    let mut counts = vec![0; numbers.iter().max().map_or(0, |max| max + 1)];
    for &number in numbers {
        counts[number] += 1;
    }
    counts
}
