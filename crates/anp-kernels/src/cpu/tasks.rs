use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::scalar::Scalar;

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

/// Numbers that tasks write each a part of: `f(task, part)` for parts of these lengths, one behind the other, of zeros.
pub(crate) fn filled<E: Scalar>(
    part_lens: impl IntoIterator<Item = usize>,
    threads: usize,
    f: impl Fn(usize, &mut [E]) + Send + Sync,
) -> Vec<E> {
    filled_with(part_lens.into_iter().zip(0..), threads, f).0
}

/// The same for tasks of any kind, each with the length of its part; also what `f` returns for each.
///
/// The zeros are written by the task itself: they are in its cache when it begins, and a large vector's pages are asked of
/// the system by all threads.
pub(crate) fn filled_with<E: Scalar, T: Send, R: Send>(
    tasks: impl IntoIterator<Item = (usize, T)>,
    threads: usize,
    f: impl Fn(T, &mut [E]) -> R + Send + Sync,
) -> (Vec<E>, Vec<R>) {
    let tasks: Vec<(usize, T)> = tasks.into_iter().collect();
    let len = tasks.iter().map(|(part_len, _)| part_len).sum();
    let mut numbers = Vec::with_capacity(len);
    let mut rest = &mut numbers.spare_capacity_mut()[..len];
    let mut parts = Vec::with_capacity(tasks.len());
    for (part_len, task) in tasks {
        let (part, behind) = rest.split_at_mut(part_len);
        parts.push((task, part));
        rest = behind;
    }
    let results = map(parts, threads, |(task, part): (T, &mut [MaybeUninit<E>])| {
        part.fill(MaybeUninit::new(E::ZERO));
        // SAFETY: it has just been filled.
        #[allow(unsafe_code)]
        f(task, unsafe { part.assume_init_mut() })
    });
    // SAFETY: the parts are all of `len` numbers, and each has been filled.
    #[allow(unsafe_code)]
    unsafe {
        numbers.set_len(len);
    }
    (numbers, results)
}

/// Numbers `[rows, columns, part]` of which the task of a column writes its parts in all rows, zeros before: `f(column, parts)`.
/// Also what `f` returns for each column.
pub(crate) fn filled_columns<E: Scalar, R: Send>(
    [rows, columns, part_len]: [usize; 3],
    threads: usize,
    f: impl Fn(usize, &mut [&mut [E]]) -> R + Send + Sync,
) -> (Vec<E>, Vec<R>) {
    let len = rows * columns * part_len;
    let mut numbers = Vec::with_capacity(len);
    let mut tasks: Vec<(usize, Vec<&mut [MaybeUninit<E>]>)> =
        (0..columns).map(|column| (column, Vec::with_capacity(rows))).collect();
    let parts = numbers.spare_capacity_mut()[..len].chunks_exact_mut(part_len);
    for (index, part) in parts.enumerate() {
        tasks[index % columns].1.push(part);
    }
    let results = map(tasks, threads, |(column, parts)| {
        let mut parts: Vec<&mut [E]> = parts
            .into_iter()
            .map(|part| {
                part.fill(MaybeUninit::new(E::ZERO));
                // SAFETY: it has just been filled.
                #[allow(unsafe_code)]
                unsafe {
                    part.assume_init_mut()
                }
            })
            .collect();
        f(column, &mut parts)
    });
    // SAFETY: the parts are all of `len` numbers, and each has been filled.
    #[allow(unsafe_code)]
    unsafe {
        numbers.set_len(len);
    }
    (numbers, results)
}

/// Lengths of the parts of at most `part_len` numbers that `len` numbers are cut into.
pub(crate) fn part_lens(len: usize, part_len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(part_len.max(1)).map(move |start| part_len.min(len - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_fills_its_part() {
        for threads in [1, 2] {
            let numbers = filled([2, 0, 3], threads, |task, part: &mut [f32]| {
                assert!(part.iter().all(|number| *number == 0.0));
                part.fill(task as f32 + 1.0);
            });
            assert_eq!(numbers, [1.0, 1.0, 3.0, 3.0, 3.0]);
        }
        assert!(filled([], 2, |_, _: &mut [f64]| unreachable!()).is_empty());
        let (numbers, results) = filled_with([(2, 'a'), (1, 'b')], 2, |task, part: &mut [f32]| {
            part.fill(part.len() as f32);
            task
        });
        assert_eq!((numbers, results), (vec![2.0, 2.0, 1.0], vec!['a', 'b']));
        let (numbers, columns) =
            filled_columns([2, 3, 2], 2, |column, parts: &mut [&mut [f32]]| {
                for (row, part) in parts.iter_mut().enumerate() {
                    part.fill((10 * row + column) as f32);
                }
                column
            });
        assert_eq!(numbers, [0., 0., 1., 1., 2., 2., 10., 10., 11., 11., 12., 12.]);
        assert_eq!(columns, [0, 1, 2]);
        assert_eq!(part_lens(7, 3).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(part_lens(0, 3).count(), 0);
    }
}
