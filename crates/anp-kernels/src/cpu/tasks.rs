use rayon::prelude::*;

/// Results of `f` for all `tasks` in their order; in rayon's pool if `threads` is above 1.
///
/// The tasks are the caller's, so what they compute does not depend on the number of threads.
pub(crate) fn map<T: Send, R: Send>(
    tasks: Vec<T>,
    threads: usize,
    f: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    if threads > 1 && tasks.len() > 1 {
        tasks.into_par_iter().map(f).collect()
    } else {
        tasks.into_iter().map(f).collect()
    }
}
