use std::sync::OnceLock;

use super::tile::{BLOCK, Product, Sums, TILE};
use crate::cpu::single::is_single;

/// Adds a product to sums.
pub(crate) type Multiply = fn(Product<'_>, &mut Sums);

/// Which instructions multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The matrix units of Intel's server processors from Sapphire Rapids on.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// Dot products of pairs.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Avx512Bf16,
    /// Single precision: as a check of everything else on machines without these instructions.
    #[cfg(test)]
    Portable,
}

impl Kernel {
    /// All of this build, the fastest first.
    pub(super) const ALL: &[Self] = &[
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Self::Amx,
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Self::Avx512Bf16,
        #[cfg(test)]
        Self::Portable,
    ];

    /// The fastest that this machine has; `None` if products in single precision are as fast.
    pub(crate) fn best() -> Option<Self> {
        static BEST: OnceLock<Option<Kernel>> = OnceLock::new();
        *BEST.get_or_init(|| Self::ALL.iter().copied().find(|kernel| kernel.is_fast()))
    }

    /// [`best`](Self::best) for products of this type. In unit tests there always is one for single
    /// precision, so that they try what surrounds it.
    pub(crate) fn of<E: 'static>() -> Option<Self> {
        #[cfg(test)]
        let best = Self::best().or(Some(Self::Portable));
        #[cfg(not(test))]
        let best = Self::best();
        best.filter(|_| is_single::<E>())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => "amx-bf16",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Avx512Bf16 => "avx512-bf16",
            #[cfg(test)]
            Self::Portable => "portable",
        }
    }

    /// Whether this machine has the instructions.
    pub(super) fn is_present(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => super::x86::has_amx(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Avx512Bf16 => super::x86::has_avx512_bf16(),
            #[cfg(test)]
            Self::Portable => true,
        }
    }

    fn is_fast(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => self.is_present(),
            // On Intel's processors a dot product takes as long as two products in single
            // precision; on AMD's, from Zen 4 on, as long as one.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Avx512Bf16 => self.is_present() && super::x86::is_amd(),
            #[cfg(test)]
            Self::Portable => false,
        }
    }

    /// Call `task` with what multiplies, in a thread that is prepared for it. Of each block only
    /// the first `rows` rows are needed.
    ///
    /// # Panics
    ///
    /// If the instructions are not [present](Self::is_present).
    #[inline(always)]
    pub(crate) fn run(self, rows: usize, task: impl FnOnce(Multiply)) {
        assert!(self.is_present(), "this machine has no {self:?}");
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => {
                // A tile with fewer rows takes less time, but there must be one.
                let rows = rows.clamp(TILE + 1, BLOCK) - TILE;
                super::x86::with_tiles(rows, || task(super::x86::multiply_amx));
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Avx512Bf16 => task(super::x86::multiply_avx512_bf16),
            #[cfg(test)]
            Self::Portable => task(super::portable::multiply),
        }
    }
}
