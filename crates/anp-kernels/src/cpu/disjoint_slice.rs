use std::marker::PhantomData;
use std::ops::Range;

/// A slice of which several threads write each its own parts.
#[derive(Debug)]
pub(crate) struct DisjointSlice<'a, E> {
    start: *mut E,
    len: usize,
    borrow: PhantomData<&'a mut [E]>,
}

// SAFETY: it is a `&mut [E]` that is not exclusive; who takes parts of it answers for what they overlap with.
#[allow(unsafe_code)]
unsafe impl<E: Send + Sync> Sync for DisjointSlice<'_, E> {}

impl<'a, E> DisjointSlice<'a, E> {
    pub(crate) fn new(slice: &'a mut [E]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// A part to read.
    ///
    /// # Safety
    ///
    /// While it is borrowed, nobody writes to it.
    ///
    /// # Panics
    ///
    /// If `part` is not inside the slice.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn get(&self, part: Range<usize>) -> &[E] {
        self.check(&part);
        // SAFETY: `part` is inside the slice, which is borrowed for `'a`; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(part.start), part.len()) }
    }

    /// A part to write.
    ///
    /// # Safety
    ///
    /// While it is borrowed, nobody else reads it or writes to it.
    ///
    /// # Panics
    ///
    /// If `part` is not inside the slice.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(crate) unsafe fn get_mut(&self, part: Range<usize>) -> &mut [E] {
        self.check(&part);
        // SAFETY: as in `get`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(part.start), part.len()) }
    }

    #[inline(always)]
    fn check(&self, part: &Range<usize>) {
        assert!(
            part.start <= part.end && part.end <= self.len,
            "{part:?} is not inside {} elements",
            self.len
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn threads_write_their_parts() {
        let mut numbers = [0; 10];
        let shared = DisjointSlice::new(&mut numbers);
        rayon::scope(|scope| {
            for part in [0..3, 3..10] {
                let shared = &shared;
                // SAFETY: the parts do not overlap.
                scope.spawn(move |_| unsafe { shared.get_mut(part.clone()).fill(part.len()) });
            }
        });
        assert_eq!(numbers, [3, 3, 3, 7, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    #[should_panic(expected = "3..11 is not inside 10 elements")]
    #[allow(unsafe_code)]
    fn a_part_lies_inside() {
        // SAFETY: nobody else has it.
        unsafe { DisjointSlice::new(&mut [0; 10]).get(3..11) };
    }
}
