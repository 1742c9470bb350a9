"""One step of each recurrent layer, from its sums on: what all programs here have in common."""

from torch import sigmoid, tanh


def lstm(i, f, g, o, cell):
    """Hidden and cell state of an LSTM; a constant of the forget gate is part of `f`."""
    cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(cell), cell


def sru(candidate, forget, reset, highway, cell, activation, mask=1):
    """Hidden and cell state of an SRU of version 1; its gates come activated."""
    cell = forget * cell + (1 - forget) * candidate
    return reset * (activation(cell) * mask) + (1 - reset) * highway, cell


def rhn(h, t, state):
    """State of a recurrent highway network after a micro-step; the carry gate is 1 - t."""
    t = sigmoid(t)
    return tanh(h) * t + state * (1 - t)
