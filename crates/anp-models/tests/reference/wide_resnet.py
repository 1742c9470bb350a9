#!/usr/bin/env python3
"""WRN-10-2 in both layouts by PyTorch's autograd, in float64.

    python3 crates/anp-models/tests/reference/wide_resnet.py

Writes ../fixtures/wide_resnet_<layout>.json, with which ../wide_resnet.rs compares: activations by
site, loss with and without the penalty, all gradients, running statistics.

The parameters are not in the fixture: element i of parameter number p (in the order of
`named_parameters`) is scale * sin(0.7 i + 1.3 p + 0.4) + shift, and pixel i of the images is
sin(0.37 i) + 0.3 cos(0.011 i); the test computes the same. Large arrays are stored as a sum, a sum
of squares, and every so many-th element.
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import begin
from anp_reference.wide_resnet import WideResNet

DEPTH, WIDTH, CLASSES, BATCH, SIDE = 10, 2, 7, 3, 16
ETA = 0.02
KEPT = 23  # elements of each array


def fill(net):
    for number, (name, parameter) in enumerate(net.named_parameters()):
        if parameter.dim() > 1:
            scale, shift = 1.5 / math.sqrt(parameter[0].numel()), 0.01
        else:
            scale, shift = 0.2, 1.0 if name.endswith("weight") else 0.05
        wave = torch.sin(0.7 * torch.arange(parameter.numel()) + 1.3 * number + 0.4)
        with torch.no_grad():
            parameter.copy_((scale * wave + shift).reshape(parameter.shape))


def images():
    i = torch.arange(BATCH * 3 * SIDE * SIDE)
    return (torch.sin(0.37 * i) + 0.3 * torch.cos(0.011 * i)).reshape(BATCH, 3, SIDE, SIDE)


def summary(tensor):
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // KEPT)
    return {
        "shape": list(tensor.shape),
        "sum": flat.sum().item(),
        "square": flat.square().sum().item(),
        "step": step,
        "elements": flat[::step].tolist(),
    }


def summaries(tensors):
    return {name: summary(tensor) for name, tensor in tensors.items()}


def burn_name(name):
    """Burn calls a normalisation's parameters gamma and beta."""
    if "norm" in name:
        name = name.replace("weight", "gamma").replace("bias", "beta")
    return name


def case(layout):
    net = WideResNet(DEPTH, WIDTH, CLASSES, layout)
    fill(net)
    labels = torch.tensor([2, 6, 0])
    sites = net.sites(images())
    nll = F.cross_entropy(sites["logits"], labels)
    penalty = ETA / 2 * sites["pooled"].square().sum()
    (nll + penalty).backward()
    gradients = {burn_name(name): p.grad for name, p in net.named_parameters()}
    # Burn stores the weight of a linear layer transposed.
    gradients["linear.weight"] = gradients["linear.weight"].T
    running = {name: b for name, b in net.named_buffers() if "num_batches" not in name}
    result = {
        "names": list(gradients),
        "labels": labels.tolist(),
        "eta": ETA,
        "nll": nll.item(),
        "penalty": penalty.item(),
        "sites": summaries(sites),
        "gradients": summaries(gradients),
        "running": summaries(running),
    }
    with torch.no_grad():
        result["logits_in_evaluation"] = summary(net.eval()(images())[0])
    return result


folder = begin(__doc__)
for layout in ["meliketoy", "original"]:
    path = folder / f"wide_resnet_{layout}.json"
    path.write_text(json.dumps(case(layout)) + "\n")
    print(path)
