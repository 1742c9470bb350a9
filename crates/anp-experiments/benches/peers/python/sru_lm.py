"""The SRU language model of Lei & Zhang, v1.

Weights are tied; each layer has one variational mask on its input and one on its cell.

On NVIDIA GPUs the `sru` package has a kernel. On the CPU it has one for inference only; its
training is a loop of PyTorch's operations over the steps. `CompiledSru` is the same equations
written for torch.compile, which fuses that loop.
"""

import math
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from vd_lstm import sample_mask


class SruLm(nn.Module):
    """What is around the layers."""

    def __init__(self, case, compiled):
        super().__init__()
        self.compiled = compiled
        self.case = case
        d_hidden = case["d_hidden"]
        spread = math.sqrt(3 / d_hidden)
        self.embedding = nn.Embedding(case["vocab_size"], d_hidden)
        nn.init.uniform_(self.embedding.weight, -spread, spread)
        self.bias = nn.Parameter(torch.zeros(case["vocab_size"]))

    def zero_state(self, batch_size):
        return [torch.zeros(batch_size, self.case["d_hidden"])] * self.case["num_layers"]

    def decoder(self):
        return self.embedding.weight, self.bias

    def forward(self, tokens, state):
        x = F.dropout(self.embedding(tokens), self.case["input_dropout"], self.training)
        after = []
        for layer, c in zip(self.layers, state):
            x, c = layer(x, c)
            after.append(c)
        return F.dropout(x, self.case["output_dropout"], self.training), after

    def layer_dropouts(self):
        """For each layer those of input and cell; the top layer's cell has none."""
        p, num_layers = self.case["recurrent_dropout"], self.case["num_layers"]
        return [(p, p if index + 1 < num_layers else 0.0) for index in range(num_layers)]


class PackageSru(SruLm):
    def __init__(self, case, compiled):
        super().__init__(case, compiled)
        from sru import SRUCell

        self.name = "sru package"
        # It warns at every step of training on the CPU.
        warnings.filterwarnings("ignore", message="Running SRU on CPU")
        d_hidden = case["d_hidden"]
        options = {"highway_bias": -3, "rescale": False, "v1": True}
        self.layers = nn.ModuleList(
            SRUCell(d_hidden, d_hidden, rnn_dropout=p_input, dropout=p_cell, **options)
            for p_input, p_cell in self.layer_dropouts()
        )


def scan(u, x, bias_forget, bias_reset, mask, c):
    candidate, forget, reset = u.unflatten(2, (3, -1)).unbind(2)
    forget, reset = torch.sigmoid(forget + bias_forget), torch.sigmoid(reset + bias_reset)
    cells = []
    for f, z in zip(forget.unbind(0), candidate.unbind(0)):
        c = z + (c - z) * f
        cells.append(c)
    cell = torch.stack(cells)
    return x + (cell * mask - x) * reset, c


class Layer(nn.Module):
    def __init__(self, d_hidden, dropouts):
        super().__init__()
        spread = math.sqrt(3 / d_hidden)
        self.weight = nn.Parameter(torch.empty(d_hidden, 3 * d_hidden).uniform_(-spread, spread))
        self.bias_forget = nn.Parameter(torch.zeros(d_hidden))
        self.bias_reset = nn.Parameter(torch.full((d_hidden,), -3.0))
        self.dropouts = dropouts
        self.scan = torch.compile(scan)

    def forward(self, x, c):
        p_input, p_cell = self.dropouts if self.training else (0.0, 0.0)
        masked = x * sample_mask(c, c.shape, p_input) if p_input > 0 else x
        mask = sample_mask(c, c.shape, p_cell) if p_cell > 0 else torch.ones_like(c)
        return self.scan(masked @ self.weight, x, self.bias_forget, self.bias_reset, mask, c)


class CompiledSru(SruLm):
    def __init__(self, case, compiled):
        super().__init__(case, compiled)
        self.name = "PyTorch scan"
        layers = (Layer(case["d_hidden"], dropouts) for dropouts in self.layer_dropouts())
        self.layers = nn.ModuleList(layers)
