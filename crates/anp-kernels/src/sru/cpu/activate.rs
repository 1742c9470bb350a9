use crate::cpu::scalar::Scalar;

/// An [`Activation`](crate::sru::Activation) as a type.
pub(super) trait Activate {
    /// `g(c)`.
    fn value<E: Scalar>(cell: E) -> E;
    /// `g'(c)`, from `g(c)`.
    fn slope<E: Scalar>(value: E) -> E;
}

pub(super) struct Identity;

impl Activate for Identity {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell
    }

    #[inline(always)]
    fn slope<E: Scalar>(_: E) -> E {
        E::ONE
    }
}

pub(super) struct Tanh;

impl Activate for Tanh {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell.tanh()
    }

    #[inline(always)]
    fn slope<E: Scalar>(value: E) -> E {
        E::ONE - value * value
    }
}

pub(super) struct Relu;

impl Activate for Relu {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell.maximum(E::ZERO)
    }

    #[inline(always)]
    fn slope<E: Scalar>(value: E) -> E {
        if value > E::ZERO { E::ONE } else { E::ZERO }
    }
}
