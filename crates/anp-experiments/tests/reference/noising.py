#!/usr/bin/env python3
"""Statistics of data noising (Xie et al., 2017) on small texts, in float64.

    python3 crates/anp-experiments/tests/reference/noising.py

Writes ../fixtures/noising.json, with which the tests in src compare: for each text and kind the
probability of replacing each word, and the distribution that replacements are drawn from.

Everything comes from one dense matrix of bigram counts C[left, right]:

    bigram_kneser_ney     gamma(w) = gamma * |{v: C[w, v] > 0}| / sum_v C[w, v]
    modified_kneser_ney   gamma(w) = gamma * (D1 N1 + D2 N2 + D3 N3+)(w) / sum_v C[w, v], with Chen
                          & Goodman's discounts
    q(v)                  number of w with C[w, v] > 0, of the text's first token at least 1;
                          normalised
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import begin


def zipf_text(seed, vocab_size, length):
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, vocab_size + 1)
    return rng.choice(vocab_size, size=length, p=weights / weights.sum()).tolist()


def divide(a, b):
    return np.divide(a, b, out=np.zeros_like(a, dtype=float), where=np.asarray(b) > 0)


def case(name, tokens, vocab_size, gamma):
    counts = np.zeros((vocab_size, vocab_size))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1.0)

    n1, n2, n3, n4 = ((counts == times).sum() for times in (1, 2, 3, 4))
    # All of these exist in every text but the last, whose discounts are 0 and 3 by our convention.
    y = n1 / (n1 + 2 * n2)
    d1 = 1 - 2 * y * n2 / n1
    d2 = 2 - 3 * y * n3 / n2 if n2 else 2.0
    d3 = 3 - 4 * y * n4 / n3 if n3 else 3.0
    assert 0 <= d1 <= 1 and 0 <= d2 <= 2 and 0 <= d3 <= 3

    total = counts.sum(axis=1)
    distinct = (counts > 0).sum(axis=1).astype(float)
    modified = d1 * (counts == 1).sum(axis=1) + d2 * (counts == 2).sum(axis=1)
    modified = modified + d3 * (counts >= 3).sum(axis=1)
    left = (counts > 0).sum(axis=0).astype(float)
    left[tokens[0]] = max(left[tokens[0]], 1)
    left = (left / left.sum()).tolist()
    unigram = np.bincount(tokens, minlength=vocab_size) / len(tokens)
    kinds = {
        "blank": ([gamma] * vocab_size, None),
        "unigram": ([gamma] * vocab_size, unigram.tolist()),
        "bigram_kneser_ney": ((gamma * divide(distinct, total)).tolist(), left),
        "modified_kneser_ney": ((gamma * divide(modified, total)).tolist(), left),
    }
    return {
        "name": name,
        "vocab_size": vocab_size,
        "gamma": gamma,
        "tokens": tokens,
        "discounts": [d1, d2, d3],
        "kinds": {
            kind: {"probabilities": probabilities, "frequencies": frequencies}
            for kind, (probabilities, frequencies) in kinds.items()
        },
    }


CASES = [
    # The last word of the vocabulary is in no text.
    case("zipf", zipf_text(1, 12, 400), 13, 0.2),
    # The first word stands nowhere else.
    case("first_word_once", [12] + zipf_text(2, 12, 150), 14, 0.35),
    case("no_repeated_bigram", [0, 1, 2, 3, 1, 0, 2, 0], 4, 1.0),
]

if __name__ == "__main__":
    path = begin(__doc__) / "noising.json"
    lines = ",\n".join(map(json.dumps, CASES))
    path.write_text(f'{{"cases": [\n{lines}\n]}}\n')
    print(path)
