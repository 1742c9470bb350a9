//! x

pub mod atomic;
pub mod batches;
pub mod cli;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod experiments;
pub mod provenance;
pub mod random;
pub mod recipe;
pub mod record;
pub mod report;
pub mod reproduce;
pub mod train;
