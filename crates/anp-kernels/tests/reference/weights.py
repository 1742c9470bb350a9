#!/usr/bin/env python3
"""Files of trained weights as users of PyTorch have them, and what the layers in them compute.

Writes lstm.safetensors, lstm.pt, sru.pt and weights.json, which tests/nn.rs loads.

    pip install torch safetensors sru==2.6.0
    python3 weights.py --out ../fixtures

Made with Python 3.11, PyTorch 2.15.0, safetensors 0.8.0 and sru 2.6.0; needs no GPU and reads no file.

    lstm.safetensors    the state dict of a model with an LSTM of two layers at `encoder.rnn`, one of one layer and
                        without biases at `head`, and whole numbers in place of weights at `integers`
    lstm.pt             the same inside a checkpoint, at `model`
    sru.pt              state dicts of sru.SRU: version 1 of the cell in two layers at `first`, the same in one layer
                        with a scaled highway at `scaled`, and the later version at `later`
    weights.json        inputs, initial states, outputs and final states, in float64
"""

import argparse
import warnings
from pathlib import Path
from unittest import mock

import torch
from kernels import plain_all, write
from safetensors.torch import save_file


def import_sru():
    """The SRU package, without the CUDA kernels that it would compile on import."""
    with (
        mock.patch("torch.utils.cpp_extension.load"),
        mock.patch("torch.jit.script", lambda function: function),
    ):
        import sru
    return sru


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 2, num_layers=2)


class Integers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight_ih_l0", torch.arange(4).reshape(4, 1))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = torch.nn.LSTM(2, 1, bias=False)
        self.decoder = torch.nn.Linear(1, 4)
        self.integers = Integers()


def main():
    parser = argparse.ArgumentParser(description="Write files of weights and what they compute.")
    default = Path(__file__).resolve().parent.parent / "fixtures"
    parser.add_argument(
        "--out", type=Path, default=default, help="folder to write to (default: %(default)s)"
    )
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(1)
    model = Model()
    save_file(model.state_dict(), out / "lstm.safetensors")
    (out / "lstm.safetensors").chmod(0o644)
    torch.save({"model": model.state_dict(), "epoch": 3}, out / "lstm.pt")
    input = torch.randn(4, 2, 3, dtype=torch.float64)
    hidden0, cell0 = torch.randn(2, 2, 2, 2, dtype=torch.float64)
    output, (hidden, cell) = model.encoder.rnn.double()(input, (hidden0, cell0))
    predicted, _ = model.head.double()(output)
    lstm = {
        "input": input, "hidden0": hidden0, "cell0": cell0,
        "output": output, "hidden": hidden, "cell": cell, "head": predicted,
    }

    sru_package = import_sru()
    layer = sru_package.SRU(3, 2, num_layers=2, v1=True, rescale=False)
    for cell in layer.rnn_lst:
        torch.nn.init.normal_(cell.bias)
    state_dicts = {
        "first": layer.state_dict(),
        "scaled": sru_package.SRU(2, 2, num_layers=1, v1=True, rescale=True).state_dict(),
        "later": sru_package.SRU(3, 2, num_layers=1).state_dict(),
    }
    torch.save(state_dicts, out / "sru.pt")
    input = torch.randn(4, 2, 3, dtype=torch.float64)
    cell0 = torch.randn(2, 2, 2, dtype=torch.float64)
    with warnings.catch_warnings():
        # That gradients are on, without which the package wants a kernel that is not compiled here.
        warnings.simplefilter("ignore")
        output, cell = layer.double()(input, cell0)
    sru = {"input": input, "cell0": cell0, "output": output, "cell": cell}

    fixture = {
        "made_by": "crates/anp-kernels/tests/reference/weights.py",
        "lstm": plain_all(lstm),
        "sru": plain_all(sru),
    }
    (out / "weights.json").write_text(write(fixture) + "\n")


if __name__ == "__main__":
    main()
