use pulp::Arch;

/// Run `f`, compiled for the widest vectors of this machine: AVX-512, AVX2 with FMA, NEON, or the target's baseline.
///
/// The loops in `f` are plain Rust; the compiler vectorises them. All that `f` calls must be `#[inline(always)]`, or it
/// is compiled for the baseline only.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}
