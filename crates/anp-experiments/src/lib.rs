//! The experiments of "From Information Bottleneck to Activation Norm Penalty": data, recipes,
//! training, evaluation, records and tables, and the `anp` program.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`data`] | manifests of the corpora, the store on disk, fetch, import, verify; token ids |
//! | [`recipe`], [`experiments`] | everything that decides a number, as TOML; rows and tables |
//! | [`engine`] | one run: lock, resume, checkpoints |
//! | [`text`] | language models: recipe, windows, training step, perplexity, size of activations |
//! | [`image`] | image classifiers: recipe, batches, training step, accuracy |
//! | [`vib`] | the deep variational information bottleneck on images: recipe, step, information |
//! | [`runs`] | where the kinds of runs meet: running, evaluating a checkpoint |
//! | [`record`] | the JSON of a finished run |
//! | [`analyze`] | norms, spectra, information and gradients of a trained network |
//! | [`plot`] | figures as SVG or PNG |
//! | [`provenance`] | what was built, and where it ran |
//! | [`reproduce`], [`report`] | what has no record yet; tables from records |
//! | [`tuning`] | the choice of a strength on validation |
//! | [`device`], [`random`] | devices by name, counter-based seeds |
//! | [`atomic`] | files that are whole or not there |
//! | [`cli`] | the program; the only module that prints |
//!
//! A text is cut into streams that are read side by side, in windows:
//!
//! ```
//! use anp_experiments::text::batches::{Tail, TokenStreams};
//!
//! let text: Vec<u32> = (0..100).collect();
//! let streams = TokenStreams::new(&text, 4, 8, Tail::Drop)?;
//! assert_eq!((streams.num_windows(), streams.num_tokens()), (3, 96));
//! # Ok::<(), anp_experiments::text::batches::TextTooShort>(())
//! ```

mod activation;
pub mod analyze;
pub mod atomic;
pub mod cli;
pub mod data;
pub mod device;
pub mod engine;
pub mod experiments;
mod gradient_norm;
pub mod image;
mod log_mean_exp;
mod moving_mean;
pub mod plot;
pub mod provenance;
pub mod random;
pub mod recipe;
pub mod record;
pub mod report;
pub mod reproduce;
pub mod runs;
pub mod startup;
pub mod text;
pub mod tuning;
pub mod vib;
