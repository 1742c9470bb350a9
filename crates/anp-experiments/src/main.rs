//! The `anp` program; see [`anp_experiments::cli`].

use std::process::ExitCode;

/// Tensors of megabytes come and go at every operation. The system's allocator gives such blocks
/// back to the kernel each time and pays a page fault for each page of the next: a quarter of a
/// training step on Linux.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    anp_experiments::startup::prepare();
    anp_experiments::cli::run()
}
