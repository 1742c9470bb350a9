use pulp::{Arch, Simd, WithSimd};

/// Run `op` with the widest vectors of this machine: AVX-512, AVX2 with FMA, NEON, or the target's
/// baseline.
///
/// `Arch` alone does not suffice: the instruction sets that it detects depend on Cargo features,
/// which other crates influence.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, op);
        }
    }
    Arch::new().dispatch(op)
}

/// Name of the vectors that [`dispatch`] selects.
pub(crate) fn name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::try_new().is_some() {
            return "avx512";
        }
        if pulp::x86::V3::try_new().is_some() {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "baseline" }
}

/// Run `f` compiled for the widest vectors of this machine: AVX-512, AVX2 with FMA, NEON, or the
/// target's baseline.
///
/// The loops in `f` are plain Rust that the compiler vectorises. `f` must be a closure written in
/// place. It and everything it calls must be `#[inline(always)]`; otherwise they are compiled for
/// the baseline only.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    dispatch(f)
}

/// [`vectorized`] for the vectors `simd`.
// Not `Simd::vectorize` directly: its bound is `WithSimd`, and a closure that is not inferred as
// `FnOnce` is called through a function that is not always inlined.
#[inline(always)]
pub(crate) fn vectorized_for<S: Simd, R>(simd: S, f: impl FnOnce() -> R) -> R {
    simd.vectorize(f)
}

/// A scalar with explicit vectors, for loops that must keep them in registers
/// ([`panels`](super::panels)).
pub(crate) trait Vectors: Copy {
    /// As many scalars as a register of `S` holds.
    type Vector<S: Simd>: Copy;

    /// The whole vectors of a slice, from its start.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// The whole vectors of a slice, from its start.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// The same value in all lanes.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    /// `a · b + c`, fused where that is as fast as two operations.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// Scalars in a vector.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
}

macro_rules! vectors {
    ($real:ty, $vector:ident, $view:ident, $view_mut:ident, $splat:ident, $mul_add:ident) => {
        impl Vectors for $real {
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$view(slice).0
            }

            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$view_mut(slice).0
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn mul_add<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                c: S::$vector,
            ) -> S::$vector {
                simd.$mul_add(a, b, c)
            }
        }
    };
}

vectors!(f32, f32s, as_simd_f32s, as_mut_simd_f32s, splat_f32s, mul_add_e_f32s);
vectors!(f64, f64s, as_simd_f64s, as_mut_simd_f64s, splat_f64s, mul_add_e_f64s);
