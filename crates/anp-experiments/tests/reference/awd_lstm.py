#!/usr/bin/env python3
"""AWD-LSTM's training over seven windows by PyTorch, in float64.

    python3 crates/anp-experiments/tests/reference/awd_lstm.py

Writes ../fixtures/awd_lstm.json, with which ../awd_lstm.rs compares; made by torch.nn.LSTM,
torch.optim.SGD and torch.optim.ASGD.

What happens to a window is that of Merity, Keskar & Socher 2017, arXiv:1708.02182, and of their
code: dropped elements of the recurrent matrices, masks constant over the window, words dropped in
all sequences together, mean loss with activation and temporal activation regularisation, learning
rate in proportion to the length that was drawn, clip, weight decay in the optimiser. The first two
windows are trained by SGD, the others by ASGD with t0 = 0 and lambd = 0.

Windows follow each other and carry the state; the last is cut by the end of the text. Masks are
already scaled by 1 / (1 - p). Parameters have the names and the layouts of RecurrentLm.
"""

import sys
from pathlib import Path

import torch
from torch.func import functional_call

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate, gradients, leaves

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


def draw_masks(draw):
    return {
        "words": draw.mask(VOCAB_SIZE, prob=0.1),
        "input": draw.mask(1, BATCH, WIDTHS[0], prob=0.4),
        "inter_layer": [draw.mask(1, BATCH, width, prob=0.25) for width in WIDTHS[1:-1]],
        "output": draw.mask(1, BATCH, WIDTHS[-1], prob=0.4),
        "weight": [draw.mask(1, width, 4 * width, prob=0.5) for width in WIDTHS[1:]],
    }


def window_loss(modules, parameters, inputs, targets, states, masks):
    """Mean loss of a window, activation and temporal activation regularisation, final states."""
    steps = parameters["embedding"][inputs] * masks["words"][inputs].unsqueeze(2) * masks["input"]
    after = masks["inter_layer"] + [masks["output"]]
    finals = []
    for layer, (module, state) in enumerate(zip(modules, states)):
        prefix = f"layers.{layer}.Lstm."
        weights = {
            "weight_ih_l0": parameters[prefix + "weight_input"].T,
            "weight_hh_l0": (parameters[prefix + "weight_hidden"] * masks["weight"][layer][0]).T,
            "bias_ih_l0": parameters[prefix + "bias_input"],
            "bias_hh_l0": parameters[prefix + "bias_hidden"],
        }
        raw, final = functional_call(module, weights, (steps, state))
        finals.append(tuple(part.detach() for part in final))
        steps = raw * after[layer]
    logits = steps @ parameters["embedding"].T + parameters["decoder_bias"]
    nll = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB_SIZE), targets.reshape(-1))
    activation = ALPHA * steps.pow(2).mean()
    temporal = BETA * (raw[1:] - raw[:-1]).pow(2).mean()
    return nll, activation, temporal, finals


def train():
    draw = Draw(17)
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
    values = {name: draw.normal(*shape, scale=0.5) for name, shape in shapes.items()}
    parameters = leaves(values)
    tensors = list(parameters.values())
    text = draw.integers(VOCAB_SIZE, STEPS + 1, BATCH)
    states = [(torch.zeros(1, BATCH, w), torch.zeros(1, BATCH, w)) for w in WIDTHS[1:]]

    options = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    optimizer = torch.optim.SGD(tensors, **options)
    windows, start = [], 0
    for index, drawn in enumerate(DRAWN):
        if index == SGD_WINDOWS:
            optimizer = torch.optim.ASGD(tensors, t0=0, lambd=0.0, **options)
        masks = draw_masks(draw)
        steps = min(drawn, STEPS - start)
        inputs, targets = text[start : start + steps], text[start + 1 : start + 1 + steps]
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * drawn / BPTT
        optimizer.zero_grad()
        nll, *penalties, states = window_loss(modules, parameters, inputs, targets, states, masks)
        (nll + sum(penalties)).backward()
        window = {
            "steps": steps,
            "masks": masks | {"words": masks["words"][inputs].unsqueeze(2)},
            "nll": nll.item(),
            "penalties": [penalty.item() for penalty in penalties],
        }
        raw = {name: grad.clone() for name, grad in gradients(parameters).items()}
        # clip_grad_norm_ adds 1e-6 to the norm so as not to divide by zero; the clip here does not.
        norm = torch.nn.utils.get_total_norm([tensor.grad for tensor in tensors])
        for tensor in tensors:
            tensor.grad.mul_((CLIP / norm).clamp(max=1))
        optimizer.step()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE

        window["grad_norm"] = norm.item()
        window["parameters"] = {k: p.detach().clone() for k, p in parameters.items()}
        if index == 0:
            window["gradients"] = raw
        if index >= SGD_WINDOWS:
            averages = {k: optimizer.state[p]["ax"].clone() for k, p in parameters.items()}
            window["average"] = averages
        windows.append(window)
        start += steps
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


if __name__ == "__main__":
    generate(__doc__, {"awd_lstm": train})
