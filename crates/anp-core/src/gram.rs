//! Cholesky factorisation of a shifted Gram matrix, on the host and in double precision.

/// Cholesky factor of `C = scale·ΦΦᵀ + shift·I`, for Φ of N rows and K columns.
///
/// What is factorised is the smaller of C and `scale·ΦᵀΦ + shift·I`. They share the eigenvalues
/// that are not `shift`:
///
/// ```text
/// ln det(scale·ΦΦᵀ + shift·I) = ln det(scale·ΦᵀΦ + shift·I) + (N − K)·ln shift
/// (scale·ΦΦᵀ + shift·I)⁻¹ Φ   = Φ (scale·ΦᵀΦ + shift·I)⁻¹
/// ```
///
/// In exact arithmetic no pivot is below `shift`. A pivot that rounding takes below it, such as
/// that of a repeated row, is raised to it, so that logarithm and inverse stay finite.
pub(crate) struct GramFactor {
    /// Φ, or Φᵀ if that has fewer rows, row by row.
    rows: Vec<f64>,
    num_rows: usize,
    /// The lower triangle L with C = LLᵀ, row by row; what is above the diagonal has no meaning.
    lower: Vec<f64>,
    is_transposed: bool,
    log_determinant: f64,
}

impl GramFactor {
    /// Factorise for `rows`, the elements of Φ row by row.
    pub(crate) fn new(rows: &[f64], num_features: usize, scale: f64, shift: f64) -> Self {
        let num_examples = rows.len() / num_features;
        let is_transposed = num_examples > num_features;
        let (rows, num_rows) = if is_transposed {
            (transpose(rows, num_features), num_features)
        } else {
            (rows.to_vec(), num_examples)
        };
        let mut lower = gram(&rows, num_rows, scale, shift);
        let excess = (num_examples - num_rows) as f64;
        let log_determinant = factorize(&mut lower, num_rows, shift) + excess * shift.ln();
        Self { rows, num_rows, lower, is_transposed, log_determinant }
    }

    /// ln det C.
    pub(crate) fn log_determinant(&self) -> f64 {
        self.log_determinant
    }

    /// C⁻¹Φ, row by row as Φ.
    pub(crate) fn solve(self) -> Vec<f64> {
        let Self { mut rows, num_rows, lower, is_transposed, .. } = self;
        solve(&lower, num_rows, &mut rows);
        if is_transposed { transpose(&rows, rows.len() / num_rows) } else { rows }
    }
}

/// The transpose of a matrix with `num_columns` columns.
fn transpose(matrix: &[f64], num_columns: usize) -> Vec<f64> {
    (0..num_columns)
        .flat_map(|column| matrix[column..].iter().step_by(num_columns))
        .copied()
        .collect()
}

/// Lower triangle of `scale·AAᵀ + shift·I`.
fn gram(rows: &[f64], num_rows: usize, scale: f64, shift: f64) -> Vec<f64> {
    let num_columns = rows.len() / num_rows;
    let row = |i: usize| &rows[i * num_columns..][..num_columns];
    let mut gram = vec![0.0; num_rows * num_rows];
    for i in 0..num_rows {
        let products = &mut gram[i * num_rows..][..=i];
        let (fours, rest) = products.as_chunks_mut::<4>();
        for (four, products) in fours.iter_mut().enumerate() {
            *products = dots(row(i), [0, 1, 2, 3].map(|j| row(4 * four + j)));
        }
        for (j, product) in rest.iter_mut().enumerate() {
            *product = dot(row(i), row(4 * fours.len() + j));
        }
        for product in products.iter_mut() {
            *product *= scale;
        }
        products[i] += shift;
    }
    gram
}

/// Replace the lower triangle of a matrix by its Cholesky factor. Returns the logarithm of the
/// matrix's determinant.
fn factorize(lower: &mut [f64], size: usize, min_pivot: f64) -> f64 {
    let mut log_determinant = 0.0;
    for i in 0..size {
        let (above, row) = lower.split_at_mut(i * size);
        for (j, other) in above.chunks_exact(size).enumerate() {
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        // Not `max`, which would hide a NaN.
        let pivot = if pivot < min_pivot { min_pivot } else { pivot };
        row[i] = pivot.sqrt();
        log_determinant += pivot.ln();
    }
    log_determinant
}

/// Replace `rows` by X with `LLᵀX = rows`.
fn solve(lower: &[f64], size: usize, rows: &mut [f64]) {
    let num_columns = rows.len() / size;
    for i in 0..size {
        let (before, row) = rows.split_at_mut(i * num_columns);
        let row = &mut row[..num_columns];
        subtract(row, before, |j| lower[i * size + j]);
        divide(row, lower[i * size + i]);
    }
    for i in (0..size).rev() {
        let (row, after) = rows.split_at_mut((i + 1) * num_columns);
        let row = &mut row[i * num_columns..];
        subtract(row, after, |j| lower[(i + 1 + j) * size + i]);
        divide(row, lower[i * size + i]);
    }
}

/// Sum of products. The compiler may not reorder a sum; eight of them fill vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        add_products(&mut sums, a, b);
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Products with four rows at a time: more than twice as fast, as `a` is loaded once for all.
fn dots(a: &[f64], rows: [&[f64]; 4]) -> [f64; 4] {
    let (chunks, rest) = a.as_chunks::<4>();
    let [b0, b1, b2, b3] = rows.map(|row| row.as_chunks::<4>().0);
    let mut sums = [[0.0; 4]; 4];
    for ((((a, b0), b1), b2), b3) in chunks.iter().zip(b0).zip(b1).zip(b2).zip(b3) {
        add_products(&mut sums[0], a, b0);
        add_products(&mut sums[1], a, b1);
        add_products(&mut sums[2], a, b2);
        add_products(&mut sums[3], a, b3);
    }
    let start = 4 * chunks.len();
    let mut row = rows.into_iter();
    sums.map(|sums| {
        let row_rest = &row.next().expect("four rows")[start..];
        sums.iter().sum::<f64>() + rest.iter().zip(row_rest).map(|(a, b)| a * b).sum::<f64>()
    })
}

fn add_products<const N: usize>(sums: &mut [f64; N], a: &[f64; N], b: &[f64; N]) {
    for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
        *sum += a * b;
    }
}

/// `row −= Σⱼ weight(j)·rows[j]`. Four rows at a time: each pass reads and writes `row` once.
fn subtract(row: &mut [f64], rows: &[f64], weight: impl Fn(usize) -> f64) {
    let num_columns = row.len();
    let fours = rows.chunks_exact(4 * num_columns);
    let rest = fours.remainder();
    let num_fours = fours.len();
    for (four, rows) in fours.enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| &rows[j * num_columns..][..num_columns]);
        let [wa, wb, wc, wd] = [0, 1, 2, 3].map(|j| weight(4 * four + j));
        for ((((x, a), b), c), d) in row.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *x -= wa * a + wb * b + wc * c + wd * d;
        }
    }
    for (j, other) in rest.chunks_exact(num_columns).enumerate() {
        let w = weight(4 * num_fours + j);
        for (x, other) in row.iter_mut().zip(other) {
            *x -= w * other;
        }
    }
}

fn divide(row: &mut [f64], divisor: f64) {
    let factor = 1.0 / divisor;
    for x in row {
        *x *= factor;
    }
}
