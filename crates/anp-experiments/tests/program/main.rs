//! The program as its user meets it: runs that are killed, stopped and continued; bad input;
//! tables.
//!
//! One epoch of the smallest corpus takes a quarter of a minute whatever the model, because of its
//! 6,439 words. So most runs here begin near the end of an epoch: [`support::Workplace::begin`]
//! makes the checkpoint.

#![cfg(feature = "flex")]

mod analysis;
mod bad_input;
mod interruption;
mod memory;
mod reproduction;
mod support;
