use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::yield_now;

/// Call `task(step, chunk)` for all chunks of all steps, with a barrier after each step.
///
/// `shares` lists the chunks that each thread takes first. They are the same at every step, so that
/// their data stays in the core's cache. A thread that has finished its share takes chunks that
/// others have not yet started. Threads spin at the barrier: a recurrence has hundreds of steps of
/// a few microseconds each, which is less than it takes to put a thread to sleep and wake it.
///
/// No thread waits for one that may never come: a thread claims a chunk just before it runs it, and
/// one thread alone would run them all. So this works in pools of any size and inside other rayon
/// tasks. A caller from outside the pool waits until one of its threads is free. `task` itself must
/// not wait for another thread.
///
/// # Panics
///
/// If `task` does, after all threads have left.
pub(crate) fn lockstep(steps: usize, shares: &[Range<usize>], task: impl Fn(usize, usize) + Sync) {
    if let [share] = shares {
        return (0..steps).for_each(|step| share.clone().for_each(|chunk| task(step, chunk)));
    }
    let threads = shares.len();
    let chunks: usize = shares.iter().map(ExactSizeIterator::len).sum();
    let claimed = counters(steps * threads);
    let done = counters(steps);
    let work = |thread: usize| {
        for step in 0..steps {
            for owner in (thread..threads).chain(0..thread) {
                let Counter(claimed) = &claimed[step * threads + owner];
                let share = &shares[owner];
                loop {
                    let chunk = share.start + claimed.fetch_add(1, Ordering::Relaxed);
                    if chunk >= share.end {
                        break;
                    }
                    let _done = CountOnDrop(&done[step].0);
                    task(step, chunk);
                }
            }
            wait_until(|| done[step].0.load(Ordering::Acquire) == chunks);
        }
    };
    // Not `in_place_scope`: a caller from outside the pool would be one thread more than there are
    // cores.
    rayon::scope(|scope| {
        for thread in 1..threads {
            let work = &work;
            scope.spawn(move |_| work(thread));
        }
        work(0);
    });
}

/// Alone in its cache line, and in the adjacent line that the processor prefetches.
#[repr(align(128))]
struct Counter(AtomicUsize);

fn counters(len: usize) -> Vec<Counter> {
    (0..len).map(|_| Counter(AtomicUsize::new(0))).collect()
}

/// Counts a chunk as done, even if its task panics: the other threads wait for it.
struct CountOnDrop<'a>(&'a AtomicUsize);

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        // Whoever reads the count sees what the task wrote.
        self.0.fetch_add(1, Ordering::Release);
    }
}

fn wait_until(done: impl Fn() -> bool) {
    /// Checks before yielding the core, which is necessary if there are more threads than cores.
    const SPINS: usize = 2_000;

    for _ in 0..SPINS {
        if done() {
            return;
        }
        spin_loop();
    }
    while !done() {
        yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rayon::ThreadPoolBuilder;
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    use super::*;

    /// Every chunk of every step runs once, and none before all chunks of the previous step.
    fn check(steps: usize, shares: &[Range<usize>]) {
        let chunks: usize = shares.iter().map(ExactSizeIterator::len).sum();
        let runs: Vec<AtomicUsize> = (0..steps * chunks).map(|_| AtomicUsize::new(0)).collect();
        let early = AtomicBool::new(false);
        lockstep(steps, shares, |step, chunk| {
            let before = &runs[step.saturating_sub(1) * chunks..step * chunks];
            let waited = before.iter().all(|runs| runs.load(Ordering::Relaxed) == 1);
            early.fetch_or(!waited, Ordering::Relaxed);
            runs[step * chunks + chunk].fetch_add(1, Ordering::Relaxed);
        });
        assert!(!early.into_inner(), "a step began before the one before it was done");
        assert!(runs.into_iter().all(|runs| runs.into_inner() == 1));
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn steps_follow_each_other_in_pools_of_any_size() {
        for threads in [1, 2, 5] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                check(300, &[0..7]);
                check(300, &[0..2, 2..5]);
                check(300, &[0..1, 1..1, 1..6, 6..7]);
                check(0, &[0..2, 2..4]);
            });
        }
    }

    /// Each waits for its own steps only, never for a free thread of the pool.
    #[test]
    fn many_at_once_do_not_wait_for_each_other() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| (0..50).into_par_iter().for_each(|_| check(20, &[0..2, 2..3, 3..5])));
    }

    #[test]
    fn a_panic_leaves_no_thread_waiting() {
        let result = std::panic::catch_unwind(|| {
            lockstep(3, &[0..2, 2..4], |step, chunk| {
                assert!((step, chunk) != (1, 2), "chunk {chunk} fails");
            });
        });
        assert!(result.is_err());
    }
}
