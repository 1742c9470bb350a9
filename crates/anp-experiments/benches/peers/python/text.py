"""The text that every peer trains on: drawn by a rule that is the same in every language."""

import itertools

import torch

WINDOWS = 64


def words(count, vocab_size):
    """`count` words, the frequent ones first in the vocabulary.

    One word in V^(1/3) is the most frequent, as in a newspaper.
    """
    state = 0
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        uniform = (state >> 40) / 2**24
        yield int(vocab_size * uniform * uniform * uniform)


def windows(case):
    """Windows of `(inputs, targets)`, each `[seq_length, batch_size]`, in order without end."""
    seq_length, batch_size = case["seq_length"], case["batch_size"]
    length = WINDOWS * seq_length + 1
    text = torch.tensor(list(words(batch_size * length, case["vocab_size"])))
    stream = text.view(batch_size, length).t().contiguous()
    starts = range(0, WINDOWS * seq_length, seq_length)
    return itertools.cycle(
        [(stream[at : at + seq_length], stream[at + 1 : at + seq_length + 1]) for at in starts]
    )
