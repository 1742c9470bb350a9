"""WRN-10-2 in PyTorch, float64: forward by site, loss with and without the penalty, all gradients, running statistics.

Writes ../fixtures/wide_resnet_<layout>.json. Run: python wide_resnet.py (PyTorch 2, CPU).

The parameters are not in the fixture: element i of parameter number p (in the order of `named_parameters` below) is
scale · sin(0.7 i + 1.3 p + 0.4) + shift, and pixel i of the images is sin(0.37 i) + 0.3 cos(0.011 i); the test computes
the same. Large arrays are stored as a sum, a sum of squares, and every so many-th element.
"""

import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)

DEPTH, WIDTH, CLASSES, BATCH, SIDE = 10, 2, 7, 3, 16
ETA = 0.02
KEEP = 23  # elements kept of each array


class Block(nn.Module):
    def __init__(self, d_input, d_output, stride, meliketoy):
        super().__init__()
        strides = (1, stride) if meliketoy else (stride, 1)
        self.meliketoy = meliketoy
        self.norm1 = nn.BatchNorm2d(d_input)
        self.conv1 = nn.Conv2d(d_input, d_output, 3, strides[0], 1, bias=meliketoy)
        self.norm2 = nn.BatchNorm2d(d_output)
        self.conv2 = nn.Conv2d(d_output, d_output, 3, strides[1], 1, bias=meliketoy)
        self.shortcut = None
        if stride != 1 or d_input != d_output:
            self.shortcut = nn.Conv2d(d_input, d_output, 1, stride, 0, bias=meliketoy)

    def forward(self, x):
        a = F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(a))))
        if self.shortcut is None:
            return y + x
        return y + self.shortcut(x if self.meliketoy else a)


class Net(nn.Module):
    def __init__(self, meliketoy):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=meliketoy)
        self.groups = nn.ModuleList()
        d_input = 16
        for group in range(3):
            d_output = 16 * WIDTH << group
            blocks = nn.ModuleList()
            for block in range((DEPTH - 4) // 6):
                stride = 2 if group > 0 and block == 0 else 1
                blocks.append(Block(d_input, d_output, stride, meliketoy))
                d_input = d_output
            self.groups.append(blocks)
        self.norm = nn.BatchNorm2d(d_input, momentum=0.9 if meliketoy else 0.1)
        self.linear = nn.Linear(d_input, CLASSES)

    def forward(self, x):
        sites = {}
        x = sites["conv1"] = self.conv1(x)
        for number, blocks in enumerate(self.groups, 1):
            for block in blocks:
                x = block(x)
            sites[f"group{number}"] = x
        x = sites["relu"] = F.relu(self.norm(x))
        x = sites["pooled"] = x.mean((2, 3))
        sites["logits"] = self.linear(x)
        return sites


def wave(count, number, scale, shift):
    i = torch.arange(count)
    return scale * torch.sin(0.7 * i + 1.3 * number + 0.4) + shift


def fill(net):
    for number, (name, parameter) in enumerate(net.named_parameters()):
        is_gamma = "norm" in name and name.endswith("weight")
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            scale, shift = 1.5 / math.sqrt(fan_in), 0.01
        else:
            scale, shift = 0.2, 1.0 if is_gamma else 0.05
        with torch.no_grad():
            parameter.copy_(wave(parameter.numel(), number, scale, shift).reshape(parameter.shape))


def images():
    i = torch.arange(BATCH * 3 * SIDE * SIDE)
    return (torch.sin(0.37 * i) + 0.3 * torch.cos(0.011 * i)).reshape(BATCH, 3, SIDE, SIDE)


def summary(tensor):
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // KEEP)
    return {
        "shape": list(tensor.shape),
        "sum": flat.sum().item(),
        "square": flat.square().sum().item(),
        "step": step,
        "elements": flat[::step].tolist(),
    }


def name_in_burn(name):
    """Burn calls a normalisation's parameters gamma and beta, and has linear weights transposed."""
    if "norm" in name:
        name = name.replace("weight", "gamma").replace("bias", "beta")
    return name


def case(layout):
    net = Net(layout == "meliketoy")
    fill(net)
    labels = torch.tensor([2, 6, 0])
    net.train()
    sites = net(images())
    nll = F.cross_entropy(sites["logits"], labels)
    penalty = ETA / 2 * sites["pooled"].square().sum()
    (nll + penalty).backward()
    gradients = {}
    for name, parameter in net.named_parameters():
        gradient = parameter.grad.T if name == "linear.weight" else parameter.grad
        gradients[name_in_burn(name)] = summary(gradient)
    running = {
        name: summary(buffer) for name, buffer in net.named_buffers() if "num_batches" not in name
    }
    net.eval()
    with torch.no_grad():
        evaluated = net(images())
    return {
        "names": [name_in_burn(name) for name, _ in net.named_parameters()],
        "labels": labels.tolist(),
        "eta": ETA,
        "nll": nll.item(),
        "penalty": penalty.item(),
        "sites": {name: summary(site) for name, site in sites.items()},
        "gradients": gradients,
        "running": running,
        "logits_in_evaluation": summary(evaluated["logits"]),
    }


for layout in ["meliketoy", "original"]:
    path = Path(__file__).parent / f"../fixtures/wide_resnet_{layout}.json"
    path.write_text(json.dumps(case(layout)) + "\n")
    print(path.resolve(), path.stat().st_size)
