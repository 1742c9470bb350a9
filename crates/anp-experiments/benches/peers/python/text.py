"""The text that every peer trains on: drawn by a rule that is the same in every language."""

import itertools

import torch

WINDOWS = 64


def words(count, vocab_size):
    """`count` words, of which the first of the vocabulary is one in V^(1/3), as in a newspaper."""
    state = 0
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        uniform = (state >> 40) / 2**24
        yield int(vocab_size * uniform * uniform * uniform)


def windows(case):
    """Consecutive windows of `(inputs, targets)`, each `[seq_length, batch_size]`, without end."""
    seq_length, batch_size = case["seq_length"], case["batch_size"]
    length = WINDOWS * seq_length + 1
    text = torch.tensor(list(words(batch_size * length, case["vocab_size"])))
    stream = text.view(batch_size, length).t().contiguous()
    starts = range(0, WINDOWS * seq_length, seq_length)
    shifted = stream[1:]
    return itertools.cycle(
        [(stream[at : at + seq_length], shifted[at : at + seq_length]) for at in starts]
    )
