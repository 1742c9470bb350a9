"""The LSTM with variational dropout of Gal & Ghahramani: sequences have masks, recurrences too.

torch.nn.LSTM has no place for a mask on its recurrence, so the steps are a loop: one product for
the inputs of all steps, and one per step for the recurrence of all gates.
"""

import torch
from torch import nn
from torch.nn import functional as F

from anp_reference import cells
from lstm import initialize


def sample_mask(like, shape, p):
    return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)


def cell(gates, c):
    return cells.lstm(*gates.chunk(4, 1), c)


class Layer(nn.Module):
    def __init__(self, d_input, d_hidden, compiled):
        super().__init__()
        self.weight_input = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hidden = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(4 * d_hidden))
        self.cell = torch.compile(cell) if compiled else cell

    def forward(self, x, mask, h, c):
        weight = self.weight_hidden
        if torch.is_autocast_enabled(x.device.type):
            # Once for all steps; autocast would convert it at each.
            weight = weight.to(torch.get_autocast_dtype(x.device.type))
        weight = weight.t()
        hidden = []
        for gates in F.linear(x, self.weight_input, self.bias).unbind(0):
            masked = h if mask is None else h * mask
            h, c = self.cell(torch.addmm(gates, masked, weight), c)
            hidden.append(h)
        return torch.stack(hidden), h, c


class VdLstm(nn.Module):
    def __init__(self, case, compiled):
        super().__init__()
        self.name = "PyTorch cell loop"
        self.compiled = compiled
        self.case = case
        d_hidden = case["d_hidden"]
        self.embedding = nn.Embedding(case["vocab_size"], d_hidden)
        layers = (Layer(d_hidden, d_hidden, compiled) for _ in range(case["num_layers"]))
        self.layers = nn.ModuleList(layers)
        self.softmax = nn.Linear(d_hidden, case["vocab_size"])
        initialize(self.parameters())

    def zero_state(self, batch_size):
        return [torch.zeros(batch_size, self.case["d_hidden"])] * (2 * len(self.layers))

    def decoder(self):
        return self.softmax.weight, self.softmax.bias

    def masked(self, x, shape, place):
        p = self.case[place] if self.training else 0.0
        return x * sample_mask(x, shape, p) if p > 0 else x

    def forward(self, tokens, state):
        steps, batch_size = tokens.shape
        sequence = (1, batch_size, self.case["d_hidden"])
        x = self.masked(self.embedding(tokens), (steps, batch_size, 1), "word_dropout")
        x = self.masked(x, sequence, "input_dropout")
        after = []
        for index, layer in enumerate(self.layers):
            if index > 0:
                x = self.masked(x, sequence, "inter_layer_dropout")
            h, c = state[2 * index : 2 * index + 2]
            p = self.case["recurrent_dropout"] if self.training else 0.0
            x, h, c = layer(x, sample_mask(h, h.shape, p) if p > 0 else None, h, c)
            after += [h, c]
        return self.masked(x, sequence, "output_dropout"), after
