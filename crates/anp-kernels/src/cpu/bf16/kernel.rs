use std::marker::PhantomData;
use std::sync::OnceLock;

use super::tile::{Product, Sums};
use crate::cpu::single::is_single;

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
    /// the first `rows` rows are computed.
    ///
    /// `task` must not wait for rayon: another such task might run in this thread meanwhile, and
    /// take what is prepared with it when it ends.
    ///
    /// # Panics
    ///
    /// If the instructions are not [present](Self::is_present).
    #[inline(always)]
    pub(crate) fn run(self, rows: usize, task: impl FnOnce(&Multiplier)) {
        assert!(self.is_present(), "this machine has no {self:?}");
        let multiplier = Multiplier { kernel: self, rows, in_this_thread: PhantomData };
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => super::x86::with_tiles(rows, || task(&multiplier)),
            _ => task(&multiplier),
        }
    }
}

/// What multiplies, in a thread that is prepared for it and only there.
#[derive(Debug)]
pub(crate) struct Multiplier {
    kernel: Kernel,
    rows: usize,
    in_this_thread: PhantomData<*const ()>,
}

impl Multiplier {
    /// Add a product to sums.
    ///
    /// # Panics
    ///
    /// If a tile does not lie inside its slice.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) fn multiply(&self, product: Product<'_>, sums: &mut Sums) {
        match self.kernel {
            // SAFETY: `Kernel::run` has asked for the instructions and configured tiles.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kernel::Amx => unsafe { super::x86::multiply_amx(product, sums) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kernel::Avx512Bf16 => unsafe {
                super::x86::multiply_avx512_bf16(product, self.rows, sums);
            },
            #[cfg(test)]
            Kernel::Portable => super::portable::multiply(product, self.rows, sums),
        }
    }
}
