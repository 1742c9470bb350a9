//! What a program sets up before anything else.

use std::env;
use std::num::NonZero;
use std::thread::available_parallelism;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use rayon::ThreadPoolBuilder;

/// `mi_option_purge_delay` of mimalloc's C header; its Rust crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// To be called by `main`, on the thread that will train, before a tensor is made.
pub fn prepare() {
    keep_memory();
    join_pool();
}

/// Keep freed memory for what comes next, as long as the program runs.
///
/// A training step frees hundreds of megabytes that the next one needs again. Left to itself,
/// mimalloc returns them to the system after some milliseconds, and the system clears each page
/// before it hands it out again: 7 % of a step. The environment variable `MIMALLOC_PURGE_DELAY`, in
/// milliseconds, has the last word.
fn keep_memory() {
    // SAFETY: it sets a number, and only one that the environment has not set.
    #[allow(unsafe_code)]
    unsafe {
        mi_option_set_default(PURGE_DELAY, -1);
    }
}

/// Make this thread one of rayon's, as many as there would be without it.
///
/// A thread outside the pool hands each product to it and sleeps: two cores then have three
/// threads, of which the system often runs the wrong two, and every product begins with waking
/// others. 7 % of a step. The pool has one thread fewer while this one does something else: a run
/// on several devices, which have threads of their own, should not be on CPUs.
fn join_pool() {
    let asked = env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let threads = asked.filter(|threads| *threads > 0);
    let threads = threads.or_else(|| available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    // Alone in the pool, this thread would keep work of others waiting for as long as it waits for
    // them.
    if threads > 1 {
        let pool = ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
        // It fails where there is a pool already, which will do as well.
        let _ = pool.build_global();
    }
}
