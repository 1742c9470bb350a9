//! Parameters and gradients of a whole module.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, IndexingUpdateOp, Int, Tensor};

use crate::compare::assert_close;
use crate::device::TestDevice;
use crate::fixture::Array;

/// Arrays by the path of their parameter in a module, such as `layers.0.Lstm.bias_input`.
pub type Arrays = BTreeMap<String, Array>;

/// The values of all parameters and running statistics.
pub fn parameters<M: Module>(module: &M) -> Arrays {
    collect(module, Itself)
}

/// The gradients of the parameters that have one.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Arrays {
    collect(module, gradients)
}

/// The gradients as an optimiser gets them, those of rows added to the dense ones.
pub fn optimizer_gradients<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    rows: Option<RowsOf>,
) -> Arrays {
    collect(module, (gradients, rows))
}

/// A gradient that is zero but for some rows.
#[derive(Debug, Clone)]
pub struct RowsOf {
    /// The matrix.
    pub id: ParamId,
    /// Which rows, `[num_rows]`; one may come twice.
    pub rows: Tensor<1, Int>,
    /// Their gradients, `[num_rows, width]`.
    pub values: Tensor<2>,
}

/// Give each parameter its value, in the precision of `device`.
///
/// # Panics
///
/// If the module lacks a parameter or has one more, or a shape differs.
#[track_caller]
pub fn with_parameters<M: Module>(module: M, arrays: &Arrays, device: &TestDevice) -> M {
    let mut load = Load { arrays, device, path: Vec::new(), num_loaded: 0 };
    let module = module.map(&mut load);
    assert_eq!(load.num_loaded, arrays.len(), "the module lacks a parameter");
    module
}

/// Compare arrays of the same names with [`assert_close`].
///
/// # Panics
///
/// If they have other names, or one differs in its shape or in an element.
#[track_caller]
pub fn assert_arrays_close(what: &str, actual: &Arrays, expected: &Arrays, tolerance: f64) {
    let names = |arrays: &Arrays| arrays.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected), "{what}: other arrays");
    for (name, expected) in expected {
        let actual = &actual[name];
        assert_eq!(actual.shape, expected.shape, "{what}: {name} has another shape");
        assert_close(&format!("{what}: {name}"), &actual.data, &expected.data, tolerance);
    }
}

/// What to take of a parameter.
trait Pick {
    fn pick<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Tensor<D>>;
}

struct Itself;

impl Pick for Itself {
    fn pick<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        Some(param.val())
    }
}

impl Pick for &Gradients {
    fn pick<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        param.val().grad(self)
    }
}

impl Pick for (&GradientsParams, Option<RowsOf>) {
    fn pick<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        let dense = self.0.get::<D>(param.id);
        let Some(RowsOf { rows, values, .. }) = self.1.clone().filter(|it| it.id == param.id)
        else {
            return dense;
        };
        let dense = dense.unwrap_or_else(|| param.val().inner().zeros_like());
        let matrix = dense.reshape([param.dims()[0], values.dims()[1]]);
        let sum = matrix.select_assign(0, rows, values, IndexingUpdateOp::Add);
        Some(sum.reshape(param.dims()))
    }
}

struct Collect<P> {
    pick: P,
    path: Vec<String>,
    arrays: Arrays,
}

fn collect<M: Module>(module: &M, pick: impl Pick) -> Arrays {
    let mut collect = Collect { pick, path: Vec::new(), arrays: Arrays::new() };
    module.visit(&mut collect);
    collect.arrays
}

impl<P: Pick> ModuleVisitor for Collect<P> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(tensor) = self.pick.pick(param) {
            self.arrays.insert(self.path.join("."), Array::of(tensor));
        }
    }
}

struct Load<'a> {
    arrays: &'a Arrays,
    device: &'a TestDevice,
    path: Vec<String>,
    num_loaded: usize,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let array = self.arrays.get(&path).unwrap_or_else(|| panic!("there is no `{path}`"));
        assert_eq!(param.dims().as_slice(), array.shape, "{path} has another shape");
        self.num_loaded += 1;
        param.map(|old| array.tensor(self.device).set_require_grad(old.is_require_grad()))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        rows: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
    }

    fn device() -> TestDevice {
        TestDevice { device: Device::flex().autodiff(), dtype: DType::F64 }
    }

    fn net() -> Net {
        let device = device();
        let [rows, bias] = [device.random(1, [3, 2], 1.0), device.random(2, [3, 2], 1.0)];
        Net {
            rows: Param::from_tensor(rows),
            bias: Param::from_tensor(bias.narrow(0, 0, 1).reshape([2])),
        }
    }

    #[test]
    fn parameters_come_back_by_path() {
        let arrays = parameters(&net());
        assert_eq!(arrays.keys().collect::<Vec<_>>(), ["bias", "rows"]);
        let mut changed = arrays.clone();
        changed.get_mut("bias").unwrap().data[1] = 7.0;
        let loaded = with_parameters(net(), &changed, &device());
        assert!(loaded.bias.val().is_require_grad());
        assert_eq!(parameters(&loaded), changed);
        assert_ne!(changed, arrays);
    }

    #[test]
    fn gradients_of_rows_are_added_to_dense_ones() {
        let net = net();
        let backward = || (net.rows.val().sum() + net.bias.val().square().sum()).backward();
        let plain = gradients(&net, &backward());
        assert_eq!(plain["rows"].data, [1.0; 6]);
        let dense = GradientsParams::from_grads(backward(), &net);
        assert_arrays_close("dense", &optimizer_gradients(&net, &dense, None), &plain, 1e-15);

        let device = TestDevice { device: Device::flex(), dtype: DType::F64 };
        let rows = RowsOf {
            id: net.rows.id,
            rows: Tensor::from_data([2, 0, 2], &device.device),
            values: device.tensor(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]),
        };
        let alone = optimizer_gradients(&net, &GradientsParams::new(), Some(rows.clone()));
        assert_eq!(alone["rows"].data, [3.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
        assert!(!alone.contains_key("bias"));
        let both = optimizer_gradients(&net, &dense, Some(rows));
        assert_eq!(both["rows"].data, [4.0, 5.0, 1.0, 1.0, 7.0, 9.0]);
        assert_eq!(both["bias"], plain["bias"]);
    }
}
