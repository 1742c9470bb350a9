#!/usr/bin/env python3
"""AWD-LSTM's training over seven windows by PyTorch, in float64: torch.nn.LSTM, torch.optim.SGD, torch.optim.ASGD.

Writes the fixture with which tests/awd_lstm.rs compares.

    python3 awd_lstm.py --out ../fixtures

Made with Python 3.11, PyTorch 2.15.0 and NumPy 2.4.6; any recent versions give the same numbers, but
perhaps for the last digits. Needs no GPU and reads no file.

What happens to a window is that of Merity, Keskar & Socher 2017, arXiv:1708.02182, and of their code: dropped elements
of the recurrent matrices, masks constant over the window, words dropped in all sequences together, mean loss with
activation and temporal activation regularisation, learning rate in proportion to the length that was drawn, clip, weight
decay in the optimiser. The first two windows are trained by SGD, the others by ASGD with t0 = 0 and lambd = 0.

Windows follow each other and carry the state; the last is cut by the end of the text. Masks are already scaled by
1 / (1 - p). Parameters have the names and the layouts of RecurrentLm.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call

VOCAB_SIZE = 7
BATCH = 3
WIDTHS = [3, 4, 4, 3]
BPTT = 4
DRAWN = [5, 3, 6, 4, 2, 6, 7]
# Steps that have a successor: the last window has 4 of its 7.
STEPS = 30
SGD_WINDOWS = 2
LEARNING_RATE = 3.0
CLIP = 0.25
WEIGHT_DECAY = 1e-3
ALPHA, BETA = 2.0, 1.0


def draw_masks(rng):
    def mask(*shape, prob):
        keep = rng.random(shape) >= prob
        return torch.tensor(keep / (1 - prob))

    return {
        "words": mask(VOCAB_SIZE, prob=0.1),
        "input": mask(1, BATCH, WIDTHS[0], prob=0.4),
        "inter_layer": [mask(1, BATCH, width, prob=0.25) for width in WIDTHS[1:-1]],
        "output": mask(1, BATCH, WIDTHS[-1], prob=0.4),
        "weight": [mask(1, width, 4 * width, prob=0.5) for width in WIDTHS[1:]],
    }


def window_loss(modules, parameters, inputs, targets, states, masks):
    """Mean loss of a window, activation and temporal activation regularisation, states after it."""
    steps = parameters["embedding"][inputs] * masks["words"][inputs].unsqueeze(2) * masks["input"]
    finals = []
    for layer, (module, state) in enumerate(zip(modules, states)):
        own = {k: parameters[f"layers.{layer}.Lstm.{k}"] for k in
               ["weight_input", "weight_hidden", "bias_input", "bias_hidden"]}
        weights = {
            "weight_ih_l0": own["weight_input"].T,
            "weight_hh_l0": (own["weight_hidden"] * masks["weight"][layer][0]).T,
            "bias_ih_l0": own["bias_input"],
            "bias_hh_l0": own["bias_hidden"],
        }
        raw, (hidden, cell) = functional_call(module, weights, (steps, state))
        finals.append((hidden.detach(), cell.detach()))
        last = layer + 1 == len(modules)
        steps = raw * (masks["output"] if last else masks["inter_layer"][layer])
    logits = steps @ parameters["embedding"].T + parameters["decoder_bias"]
    nll = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB_SIZE), targets.reshape(-1))
    activation = ALPHA * steps.pow(2).mean()
    temporal = BETA * (raw[1:] - raw[:-1]).pow(2).mean()
    return nll, activation, temporal, finals


def train():
    rng = np.random.default_rng(17)
    modules = [torch.nn.LSTM(*dims) for dims in zip(WIDTHS, WIDTHS[1:])]
    shapes = {"embedding": [VOCAB_SIZE, WIDTHS[0]]}
    for layer, (d_input, width) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        shapes |= {
            f"layers.{layer}.Lstm.weight_input": [d_input, 4 * width],
            f"layers.{layer}.Lstm.weight_hidden": [width, 4 * width],
            f"layers.{layer}.Lstm.bias_input": [4 * width],
            f"layers.{layer}.Lstm.bias_hidden": [4 * width],
        }
    shapes["decoder_bias"] = [VOCAB_SIZE]
    values = {name: torch.tensor(0.5 * rng.normal(size=shape)) for name, shape in shapes.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    text = torch.tensor(rng.integers(0, VOCAB_SIZE, (STEPS + 1, BATCH)))
    states = [(torch.zeros(1, BATCH, w), torch.zeros(1, BATCH, w)) for w in WIDTHS[1:]]

    optimizer = torch.optim.SGD(leaves.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    windows, start = [], 0
    for index, drawn in enumerate(DRAWN):
        if index == SGD_WINDOWS:
            optimizer = torch.optim.ASGD(
                leaves.values(), lr=LEARNING_RATE, t0=0, lambd=0.0, weight_decay=WEIGHT_DECAY
            )
        masks = draw_masks(rng)
        steps = min(drawn, STEPS - start)
        inputs, targets = text[start : start + steps], text[start + 1 : start + 1 + steps]
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * drawn / BPTT
        optimizer.zero_grad()
        nll, activation, temporal, states = window_loss(
            modules, leaves, inputs, targets, states, masks
        )
        (nll + activation + temporal).backward()
        gradients = {name: leaf.grad.clone() for name, leaf in leaves.items()}
        # clip_grad_norm_ adds 1e-6 to the norm so as not to divide by zero; the clip proper does not.
        norm = torch.nn.utils.get_total_norm([leaf.grad for leaf in leaves.values()])
        for leaf in leaves.values():
            leaf.grad.mul_((CLIP / norm).clamp(max=1))
        optimizer.step()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE

        window = {
            "steps": steps,
            "masks": masks | {"words": masks["words"][inputs].unsqueeze(2)},
            "nll": nll.item(),
            "penalties": [activation.item(), temporal.item()],
            "grad_norm": norm.item(),
            "parameters": {name: leaf.detach().clone() for name, leaf in leaves.items()},
        }
        if index == 0:
            window["gradients"] = gradients
        if index >= SGD_WINDOWS:
            window["average"] = {k: optimizer.state[leaf]["ax"].clone() for k, leaf in leaves.items()}
        windows.append(window)
        start += steps
        print(f"window {index}: {steps} steps, loss {nll.item():.4f}, norm {norm.item():.4f}")
    assert start == STEPS
    return {
        "config": {
            "vocab_size": VOCAB_SIZE,
            "widths": WIDTHS,
            "batch_size": BATCH,
            "bptt": BPTT,
            "drawn": DRAWN,
            "learning_rate": LEARNING_RATE,
            "grad_clip_norm": CLIP,
            "weight_decay": WEIGHT_DECAY,
            "alpha": ALPHA,
            "beta": BETA,
        },
        # Stream after stream.
        "text": text.T.flatten().tolist(),
        "parameters": values,
        "windows": windows,
    }


def plain(value):
    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "data": value.detach().flatten().tolist()}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def write(value, indent=""):
    """JSON with one line a tensor, so that a changed fixture shows what changed."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
        if set(value) != {"shape", "data"}:
            items = [f"{inner}{json.dumps(k)}: {write(v, inner)}" for k, v in value.items()]
            return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[\n" + ",\n".join(f"{inner}{write(v, inner)}" for v in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def main():
    parser = argparse.ArgumentParser(description="Write the fixture of AWD-LSTM's training (float64).")
    default = Path(__file__).resolve().parent.parent / "fixtures"
    parser.add_argument(
        "--out", type=Path, default=default, help="folder to write to (default: %(default)s)"
    )
    out = parser.parse_args().out

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out.mkdir(parents=True, exist_ok=True)
    fixture = {
        "made_by": "crates/anp-experiments/tests/reference/awd_lstm.py",
        "versions": {
            "python": ".".join(map(str, sys.version_info[:2])),
            "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
        },
        **train(),
    }
    (out / "awd_lstm.json").write_text(write(plain(fixture)) + "\n")


if __name__ == "__main__":
    main()
