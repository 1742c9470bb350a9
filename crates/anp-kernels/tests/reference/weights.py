#!/usr/bin/env python3
"""Files of trained weights as users of PyTorch have them, and what the layers in them compute.

    python3 crates/anp-kernels/tests/reference/weights.py

Writes to ../fixtures what ../nn.rs loads:

    lstm.safetensors    the state dict of a model with an LSTM of two layers at `encoder.rnn`, one
                        of one layer and without biases at `head`, and whole numbers in place of
                        weights at `integers`
    lstm.pt             the same inside a checkpoint, at `model`
    sru.pt              state dicts of sru.SRU: version 1 of the cell in two layers at `first`, the
                        same in one layer with a scaled highway at `scaled`, and the later version
                        at `later`
    weights.json        inputs, initial states, outputs and final states, in float64
"""

import sys
import warnings
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import begin, made_by, write


def import_sru():
    """The SRU package, without the CUDA kernels that it would compile on import."""
    with (
        mock.patch("torch.utils.cpp_extension.load"),
        mock.patch("torch.jit.script", lambda function: function),
    ):
        import sru
    return sru


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 2, num_layers=2)})
        self.head = torch.nn.LSTM(2, 1, bias=False)
        self.decoder = torch.nn.Linear(1, 4)
        self.integers = torch.nn.Module()
        self.integers.register_buffer("weight_ih_l0", torch.arange(4).reshape(4, 1))


def lstm(folder):
    model = Model()
    save_file(model.state_dict(), folder / "lstm.safetensors")
    (folder / "lstm.safetensors").chmod(0o644)
    torch.save({"model": model.state_dict(), "epoch": 3}, folder / "lstm.pt")
    input = torch.randn(4, 2, 3, dtype=torch.float64)
    hidden0, cell0 = torch.randn(2, 2, 2, 2, dtype=torch.float64)
    output, (hidden, cell) = model.encoder.rnn.double()(input, (hidden0, cell0))
    head, _ = model.head.double()(output)
    return {
        "input": input, "hidden0": hidden0, "cell0": cell0,
        "output": output, "hidden": hidden, "cell": cell, "head": head,
    }


def sru(folder):
    package = import_sru()
    layer = package.SRU(3, 2, num_layers=2, v1=True, rescale=False)
    for cell in layer.rnn_lst:
        torch.nn.init.normal_(cell.bias)
    state_dicts = {
        "first": layer.state_dict(),
        "scaled": package.SRU(2, 2, num_layers=1, v1=True, rescale=True).state_dict(),
        "later": package.SRU(3, 2, num_layers=1).state_dict(),
    }
    torch.save(state_dicts, folder / "sru.pt")
    input = torch.randn(4, 2, 3, dtype=torch.float64)
    cell0 = torch.randn(2, 2, 2, dtype=torch.float64)
    with warnings.catch_warnings():
        # While gradients are on, the package wants a kernel that is not compiled here.
        warnings.simplefilter("ignore")
        output, cell = layer.double()(input, cell0)
    return {"input": input, "cell0": cell0, "output": output, "cell": cell}


if __name__ == "__main__":
    folder = begin(__doc__)
    # The files have the precision that people train in.
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    write(folder / "weights.json", made_by() | {"lstm": lstm(folder), "sru": sru(folder)})
