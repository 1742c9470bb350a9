//! What the programs ask of their allocator, mimalloc.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's C header; its Rust crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Keep freed memory for what comes next, as long as the program runs.
///
/// A training step frees hundreds of megabytes that the next one needs again. Left to itself, mimalloc returns them to the system
/// after some milliseconds, and the system clears each page before it hands it out again: 7 % of a step. The
/// environment variable `MIMALLOC_PURGE_DELAY`, in milliseconds, has the last word.
pub fn keep_memory() {
    // SAFETY: it sets a number, and only one that the environment has not set.
    #[allow(unsafe_code)]
    unsafe {
        mi_option_set_default(PURGE_DELAY, -1);
    }
}
