//! Weights of layers that PyTorch trained.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::store::burn_pack::Tensor as StoredTensor;
use burn::store::{ModuleStore, PytorchStore, SafetensorsStore, bridge};
use burn::tensor::{DType, Device, Shape, Tensor};

use super::lstm::{Lstm, LstmConfig, LstmWeights};
use super::sru::{Sru, SruConfig};
use super::stack::{LstmStack, LstmStackConfig, SruStack, SruStackConfig};

/// Why weights could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file's name has no known extension.
    #[error(
        "{} is no file of weights: its name must end in .safetensors, .pt or .pth", .path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The file is missing, damaged, or something else.
    #[error("cannot read weights from {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A weight is missing.
    #[error("{} has no `{key}`, which should be of the shape {expected:?}", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the weight.
        key: String,
        /// Shape it should have.
        expected: Vec<usize>,
    },
    /// A weight is of another size than the configuration says.
    #[error("`{key}` of {} has the shape {actual:?}, but {expected:?} is needed", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the weight.
        key: String,
        /// Shape it should have.
        expected: Vec<usize>,
        /// Shape it has.
        actual: Vec<usize>,
    },
    /// A weight is not of floating-point numbers.
    #[error("`{key}` of {} is of {actual:?}, which is no floating-point type", .path.display())]
    DataType {
        /// The file.
        path: PathBuf,
        /// Name of the weight.
        key: String,
        /// Type it has.
        actual: DType,
    },
    /// The module in the file has a weight that the layer has no place for.
    #[error("{} has `{key}`, which this configuration has no place for", .path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// Name of the weight.
        key: String,
    },
    /// A weight has values that the layer cannot represent.
    #[error(
        "`{key}` of {} is not {expected}, and this layer has no equal of that", .path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Name of the weight.
        key: String,
        /// Value it should have.
        expected: f64,
    },
}

/// The weights of one module of PyTorch and the modules inside of it.
struct StateDict {
    path: PathBuf,
    prefix: String,
    /// By their names in the module.
    tensors: BTreeMap<String, StoredTensor>,
}

impl StateDict {
    /// What `build` makes of the weights of `path` whose names begin with `prefix`; it has to take
    /// them all.
    fn load<T>(
        path: &Path,
        prefix: &str,
        build: impl FnOnce(&mut Self) -> Result<T, LoadError>,
    ) -> Result<T, LoadError> {
        let mut weights = Self::open(path, prefix)?;
        let built = build(&mut weights)?;
        weights.finish()?;
        Ok(built)
    }

    /// Weights of `path` whose names begin with `prefix`; their values are not read yet.
    fn open(path: &Path, prefix: &str) -> Result<Self, LoadError> {
        let path = path.to_owned();
        let read =
            |err: Box<dyn Error + Send + Sync>| LoadError::Read { path: path.clone(), source: err };
        // Names stay as they are: by default, stores renumber modules of a list that has gaps.
        let all = match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => SafetensorsStore::from_file(&path)
                .map_indices_contiguous(false)
                .get_all_tensors()
                .map_err(|err| read(Box::new(err)))?
                .clone(),
            Some("pt" | "pth") => PytorchStore::from_file(&path)
                .map_indices_contiguous(false)
                .get_all_tensors()
                .map_err(|err| read(Box::new(err)))?
                .clone(),
            _ => return Err(LoadError::Format { path }),
        };
        let tensors = all
            .into_iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?.to_owned(), tensor)))
            .collect();
        Ok(Self { path, prefix: prefix.to_owned(), tensors })
    }

    /// Take a weight out, in the float type of `device`.
    fn take<const D: usize>(
        &mut self,
        name: &str,
        expected: [usize; D],
        device: &Device,
    ) -> Result<Tensor<D>, LoadError> {
        let (path, key) = (self.path.clone(), format!("{}{name}", self.prefix));
        let expected = expected.to_vec();
        let Some(stored) = self.tensors.remove(name) else {
            return Err(LoadError::Missing { path, key, expected });
        };
        if stored.shape != Shape::from(expected.clone()) {
            let actual = stored.shape.to_vec();
            return Err(LoadError::Shape { path, key, expected, actual });
        }
        if !stored.dtype.is_float() {
            return Err(LoadError::DataType { path, key, actual: stored.dtype });
        }
        let data = bridge::into_data(stored)
            .map_err(|err| LoadError::Read { path, source: Box::new(err) })?;
        Ok(Tensor::from_data(data, device))
    }

    /// Check that a weight, if there is one of this name, is `expected` everywhere.
    fn take_constant<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        expected: f64,
        device: &Device,
    ) -> Result<(), LoadError> {
        if self.tensors.contains_key(name) {
            let values = self.take(name, shape, device)?.into_data();
            if values.iter::<f64>().any(|value| value != expected) {
                let (path, key) = (self.path.clone(), format!("{}{name}", self.prefix));
                return Err(LoadError::Unsupported { path, key, expected });
            }
        }
        Ok(())
    }

    /// Check that nothing of the module is left.
    fn finish(self) -> Result<(), LoadError> {
        match self.tensors.into_keys().next() {
            Some(name) => Err(LoadError::Unexpected {
                path: self.path,
                key: format!("{}{name}", self.prefix),
            }),
            None => Ok(()),
        }
    }

    /// One layer of a `torch.nn.LSTM`.
    fn lstm(
        &mut self,
        config: &LstmConfig,
        index: usize,
        device: &Device,
    ) -> Result<Lstm, LoadError> {
        let LstmConfig { d_input, d_hidden, .. } = *config;
        let d_gates = 4 * d_hidden;
        let input = self.take(&format!("weight_ih_l{index}"), [d_gates, d_input], device)?;
        let hidden = self.take(&format!("weight_hh_l{index}"), [d_gates, d_hidden], device)?;
        let (mut bias_input, mut bias_hidden) = (None, None);
        if config.bias {
            let input: Tensor<1> = self.take(&format!("bias_ih_l{index}"), [d_gates], device)?;
            let hidden = self.take(&format!("bias_hh_l{index}"), [d_gates], device)?;
            (bias_input, bias_hidden) = match config.num_biases {
                1 => (Some(input + hidden), None),
                _ => (Some(input), Some(hidden)),
            };
        }
        // By way of main memory, so that products read rows that lie one after the other.
        let transposed =
            |weight: Tensor<2>| Tensor::from_data(weight.transpose().into_data(), device);
        let (input, hidden) = (transposed(input), transposed(hidden));
        Ok(config.build(LstmWeights { input, hidden, bias_input, bias_hidden }))
    }

    /// One layer of a `sru.SRU`.
    fn sru(&mut self, config: &SruConfig, index: usize, device: &Device) -> Result<Sru, LoadError> {
        let SruConfig { d_input, d_hidden, .. } = *config;
        let parts = config.num_parts();
        let name = |name| format!("rnn_lst.{index}.{name}");
        let weight: Tensor<2> = self.take(&name("weight"), [d_input, parts * d_hidden], device)?;
        let bias = self.take(&name("bias"), [2 * d_hidden], device)?;
        // Later versions of the cell look at c_{t−1} in their gates and scale the input that is the
        // highway.
        self.take_constant(&name("weight_c"), [2 * d_hidden], 0.0, device)?;
        if parts == 3 {
            self.take_constant(&name("scale_x"), [1], 1.0, device)?;
        } else {
            self.tensors.remove(&name("scale_x"));
        }
        let interleaved = weight.reshape([d_input, d_hidden, parts]);
        let weight = interleaved.swap_dims(1, 2).reshape([d_input, parts * d_hidden]);
        Ok(config.build(weight, bias))
    }
}

impl LstmConfig {
    /// Load the weights of a `torch.nn.LSTM` of one layer and one direction.
    ///
    /// The file is a state dict, alone or inside of dictionaries, written by `torch.save` (`.pt`,
    /// `.pth`) or the safetensors package (`.safetensors`). `prefix` is what its keys have before
    /// `weight_ih_l0`: `"encoder.rnn."`, or `""` if the file is of the LSTM itself. Where this
    /// configuration has one bias, it is the sum of the file's two.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file cannot be read, or a weight is missing, has another shape, or is
    /// one too many.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn load_pytorch(
        &self,
        path: impl AsRef<Path>,
        prefix: &str,
        device: &Device,
    ) -> Result<Lstm, LoadError> {
        StateDict::load(path.as_ref(), prefix, |weights| weights.lstm(self, 0, device))
    }
}

impl LstmStackConfig {
    /// Load the weights of a `torch.nn.LSTM` of one direction; see [`LstmConfig::load_pytorch`].
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file cannot be read, or a weight is missing, has another shape, or is
    /// one too many.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn load_pytorch(
        &self,
        path: impl AsRef<Path>,
        prefix: &str,
        device: &Device,
    ) -> Result<LstmStack, LoadError> {
        let layers = StateDict::load(path.as_ref(), prefix, |weights| {
            let layers = self.layers().enumerate();
            layers.map(|(index, layer)| weights.lstm(&layer, index, device)).collect()
        })?;
        Ok(self.build(layers))
    }
}

impl SruConfig {
    /// Load the weights of a `sru.SRU` of one layer and one direction, made with `v1=True` and, if
    /// the input is as wide as the layer, `rescale=False`.
    ///
    /// `path` is as for [`LstmConfig::load_pytorch`]; `prefix` is what keys have before
    /// `rnn_lst.0.weight`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file cannot be read, or a weight is missing, has another shape, is one
    /// too many, or is of a later version of the cell.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn load_pytorch(
        &self,
        path: impl AsRef<Path>,
        prefix: &str,
        device: &Device,
    ) -> Result<Sru, LoadError> {
        StateDict::load(path.as_ref(), prefix, |weights| weights.sru(self, 0, device))
    }
}

impl SruStackConfig {
    /// Load the weights of a `sru.SRU` of one direction; see [`SruConfig::load_pytorch`].
    ///
    /// # Errors
    ///
    /// As [`SruConfig::load_pytorch`].
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn load_pytorch(
        &self,
        path: impl AsRef<Path>,
        prefix: &str,
        device: &Device,
    ) -> Result<SruStack, LoadError> {
        let layers = StateDict::load(path.as_ref(), prefix, |weights| {
            let layers = self.layers().enumerate();
            layers.map(|(index, layer)| weights.sru(&layer, index, device)).collect()
        })?;
        Ok(self.build(layers))
    }
}
