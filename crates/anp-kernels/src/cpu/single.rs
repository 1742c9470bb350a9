//! Numbers of any type as what they are: in single precision.

use std::any::{Any, TypeId};

/// Whether the type is that of single precision.
pub(crate) fn is_single<E: 'static>() -> bool {
    TypeId::of::<E>() == TypeId::of::<f32>()
}

/// The same numbers.
///
/// # Panics
///
/// If they are not in single precision.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn single<E: 'static>(values: &[E]) -> &[f32] {
    assert!(is_single::<E>(), "numbers of another type");
    // SAFETY: the types are the same.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// The same numbers, to write.
///
/// # Panics
///
/// If they are not in single precision.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn single_mut<E: 'static>(values: &mut [E]) -> &mut [f32] {
    assert!(is_single::<E>(), "numbers of another type");
    // SAFETY: the types are the same.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

/// The same numbers as of any type.
///
/// # Panics
///
/// If that is not the type of single precision.
pub(crate) fn of_single<E: 'static>(values: Vec<f32>) -> Vec<E> {
    let values: Box<dyn Any> = Box::new(values);
    *values.downcast().expect("numbers of another type")
}
