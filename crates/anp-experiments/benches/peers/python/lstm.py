"""The LSTM language model of Zaremba et al., with torch.nn.LSTM.

That is oneDNN on the CPU, and cuDNN on NVIDIA GPUs.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Lstm(nn.Module):
    def __init__(self, case, compiled):
        super().__init__()
        self.name = "PyTorch nn.LSTM"
        self.compiled = compiled
        d_hidden = case["d_hidden"]
        self.num_layers, self.d_hidden = case["num_layers"], d_hidden
        self.input_dropout, self.output_dropout = case["input_dropout"], case["output_dropout"]
        self.embedding = nn.Embedding(case["vocab_size"], d_hidden)
        self.rnn = nn.LSTM(d_hidden, d_hidden, self.num_layers, dropout=case["inter_layer_dropout"])
        self.softmax = nn.Linear(d_hidden, case["vocab_size"])
        initialize(self.parameters())

    def zero_state(self, batch_size):
        zeros = torch.zeros(self.num_layers, batch_size, self.d_hidden)
        return [zeros, zeros]

    def decoder(self):
        return self.softmax.weight, self.softmax.bias

    def forward(self, tokens, state):
        embedded = F.dropout(self.embedding(tokens), self.input_dropout, self.training)
        hidden, state = self.rnn(embedded, state)
        return F.dropout(hidden, self.output_dropout, self.training), state


def initialize(parameters):
    for parameter in parameters:
        nn.init.uniform_(parameter, -0.1, 0.1)
