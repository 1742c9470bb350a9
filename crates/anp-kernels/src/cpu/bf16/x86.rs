//! Instructions of x86-64 that multiply bfloat16: all of the unsafe code that they need.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::tile::{Product, Sums, TILE};

/// Whether there are matrix units, and the operating system lets this process use them.
pub(super) fn has_amx() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        /// AMX-BF16 and AMX-TILE in EDX of leaf 7.
        const AMX: u32 = 1 << 22 | 1 << 24;
        /// Whether the operating system has enabled XSAVE, in ECX of leaf 1.
        const OSXSAVE: u32 = 1 << 27;
        /// State of the tiles' configuration and of the tiles.
        const TILES: u64 = 1 << 17 | 1 << 18;

        if __cpuid(0).eax < 7
            || __cpuid_count(7, 0).edx & AMX != AMX
            || __cpuid(1).ecx & OSXSAVE == 0
        {
            return false;
        }
        // SAFETY: XGETBV exists where OSXSAVE is set.
        (unsafe { enabled_state() } & TILES == TILES) && request_tiles()
    })
}

/// # Safety
///
/// The operating system has enabled XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

/// Ask the kernel for memory for the tiles of all threads of this process; whether it agreed.
fn request_tiles() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;

    let result: isize;
    // SAFETY: a system call that changes nothing but this permission.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Whether there are dot products of pairs.
pub(super) fn has_avx512_bf16() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

pub(super) fn is_amd() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// What LDTILECFG reads: palette 1, in which a tile has up to 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// Call `task` with eight tiles configured in this thread for blocks of which the first `rows` rows
/// are needed: a tile with fewer rows takes less time. [`has_amx`] has been asked.
#[inline(always)]
pub(super) fn with_tiles(rows: usize, task: impl FnOnce()) {
    struct Release;

    impl Drop for Release {
        fn drop(&mut self) {
            // SAFETY: there are tiles.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    let mut config = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_per_row: [0; 16],
        rows: [0; 16],
    };
    config.bytes_per_row[..8].fill(4 * TILE as u16);
    config.rows[..8].fill(TILE as u8);
    // There must be one row.
    let lengths = [rows.clamp(1, TILE), rows.clamp(TILE + 1, 2 * TILE) - TILE];
    for (tiles, len) in ROWS_OF_TILES.into_iter().zip(lengths) {
        for tile in tiles {
            config.rows[tile] = len as u8;
        }
    }
    // SAFETY: the processor and the operating system have tiles, and the configuration is one that
    // they accept.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
    let _release = Release;
    task();
}

/// The tiles for both rows of a block: two of sums, one of the left operand.
const ROWS_OF_TILES: [[usize; 3]; 2] = [[0, 1, 4], [2, 3, 5]];

/// With matrix units.
///
/// # Safety
///
/// The thread is inside [`with_tiles`].
pub(super) unsafe fn multiply_amx(product: Product<'_>, sums: &mut Sums) {
    product.check();
    let Product { left, right, steps } = product;
    let offsets = steps.offsets();
    if offsets.is_empty() {
        return;
    }
    // SAFETY: tiles are configured. All reads are inside the operands, as just checked: at each
    // offset 16 lines of 64 bytes; sums have 128 bytes from row to row.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {stride}*2]",
            "tileloadd tmm1, [{sums} + {stride}*2 + 64]",
            "tileloadd tmm2, [{sums} + {stride}*2 + 2048]",
            "tileloadd tmm3, [{sums} + {stride}*2 + 2112]",
            "2:",
            "mov {offset}, [{table}]",
            "lea {tile}, [{left0} + {offset}*2]",
            "tileloadd tmm4, [{tile} + {left_line}*2]",
            "lea {tile}, [{left1} + {offset}*2]",
            "mov {offset}, [{table} + 8]",
            "tileloadd tmm5, [{tile} + {left_line}*2]",
            "lea {tile}, [{right0} + {offset}*2]",
            "tileloadd tmm6, [{tile} + {right_line}*2]",
            "lea {tile}, [{right1} + {offset}*2]",
            "tileloadd tmm7, [{tile} + {right_line}*2]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {table}, 16",
            "dec {depth}",
            "jnz 2b",
            "tilestored [{sums} + {stride}*2], tmm0",
            "tilestored [{sums} + {stride}*2 + 64], tmm1",
            "tilestored [{sums} + {stride}*2 + 2048], tmm2",
            "tilestored [{sums} + {stride}*2 + 2112], tmm3",
            sums = in(reg) sums.as_mut_ptr(),
            stride = in(reg) 64_usize,
            left0 = in(reg) left.numbers[0].as_ptr(),
            left1 = in(reg) left.numbers[1].as_ptr(),
            right0 = in(reg) right.numbers[0].as_ptr(),
            right1 = in(reg) right.numbers[1].as_ptr(),
            left_line = in(reg) left.line,
            right_line = in(reg) right.line,
            table = inout(reg) offsets.as_ptr() => _,
            depth = inout(reg) offsets.len() => _,
            offset = out(reg) _,
            tile = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// With dot products of pairs, for the first `rows` rows.
///
/// # Safety
///
/// The processor has the instructions: [`has_avx512_bf16`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn multiply_avx512_bf16(product: Product<'_>, rows: usize, sums: &mut Sums) {
    /// Rows whose sums stay in registers, two vectors each.
    const ROWS: usize = 8;

    let Product { left, right, steps } = product;
    let tiles = left.numbers.into_iter().zip(sums.as_chunks_mut::<TILE>().0);
    for (tile, (numbers, sums)) in tiles.enumerate() {
        for first in (0..TILE.min(rows.saturating_sub(tile * TILE))).step_by(ROWS) {
            let sums = &mut sums[first..first + ROWS];
            // SAFETY: a row of sums is two vectors.
            let mut block: [[__m512; 2]; ROWS] = std::array::from_fn(|row| unsafe {
                [_mm512_loadu_ps(sums[row].as_ptr()), _mm512_loadu_ps(sums[row][TILE..].as_ptr())]
            });
            for &[left_offset, right_offset] in steps.offsets() {
                let lines: [&[[u16; 2]]; ROWS] = std::array::from_fn(|row| {
                    let line = &numbers[left_offset + (first + row) * left.line..];
                    line[..2 * TILE].as_chunks().0
                });
                for pair in 0..TILE {
                    let [right0, right1] = right.numbers.map(|numbers| {
                        let line = &numbers[right_offset + pair * right.line..][..2 * TILE];
                        // SAFETY: it is one vector.
                        unsafe { bf16(_mm512_loadu_si512(line.as_ptr().cast())) }
                    });
                    for (line, block) in lines.iter().zip(&mut block) {
                        let [low, high] = line[pair].map(u32::from);
                        let left = _mm512_set1_epi32((low | high << 16) as i32);
                        // SAFETY: any bits are 32 numbers of bfloat16.
                        let left = unsafe { bf16(left) };
                        block[0] = _mm512_dpbf16_ps(block[0], left, right0);
                        block[1] = _mm512_dpbf16_ps(block[1], left, right1);
                    }
                }
            }
            for (sums, block) in sums.iter_mut().zip(block) {
                // SAFETY: a row of sums is two vectors.
                unsafe {
                    _mm512_storeu_ps(sums.as_mut_ptr(), block[0]);
                    _mm512_storeu_ps(sums[TILE..].as_mut_ptr(), block[1]);
                }
            }
        }
    }
}

/// # Safety
///
/// None is needed: any bits are 32 numbers of bfloat16.
#[inline(always)]
unsafe fn bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which any are valid.
    unsafe { std::mem::transmute(bits) }
}
