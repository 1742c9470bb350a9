#!/usr/bin/env python3
"""The rivals of the activation norm penalty, by autograd in float64.

    python3 crates/anp-core/tests/reference/rivals.py

Writes ../fixtures/rivals.json, with which ../rivals.rs compares values and gradients.

Conventions
    activations [seq_length, batch_size, d_hidden], as in anp-models
    squares     summed over N pairs of steps or N tokens; times 1/2, 1 / (N * K), 1 / N or N / K
    kinks       0 for the norm of a row of zeros; no two classes have equal sums in DARC1
    smoothing   cross-entropy with soft targets minus that with hard targets
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate

NORMS = ("l2sq", "l2", "l1", "linf")
REDUCTIONS = ("half_sum", "mean_elements", "per_token", "eq11_literal")


def result(of, leaf, **about):
    """Value and gradient of `of` at `leaf`."""
    leaf = leaf.clone().requires_grad_()
    value = of(leaf)
    value.backward()
    return about | {"value": value.item(), "gradient": leaf.grad.flatten().tolist()}


def reduced(each, features, reduction, half):
    """One number from the penalties of pairs or tokens."""
    match reduction:
        case "half_sum":
            return each.sum() / 2 if half else each.sum()
        case "mean_elements":
            return each.mean() / features
        case "per_token":
            return each.mean()
        case "eq11_literal":
            return each.sum() * each.numel() / features


def temporal(h, beta, norm, reduction):
    differences = torch.stack([h[t] - h[t - 1] for t in range(1, len(h))])
    if (norm, reduction) == ("l2sq", "mean_elements"):
        # As in awd-lstm-lm.
        return beta * (h[1:] - h[:-1]).pow(2).mean()
    order = {"l2sq": 2, "l2": 2, "l1": 1, "linf": float("inf")}[norm]
    norms = torch.linalg.vector_norm(differences, order, dim=2)
    each = norms.pow(2) if norm == "l2sq" else norms
    return beta * reduced(each, h.shape[2], reduction, half=norm == "l2sq")


def stabilizer(h, beta, reduction):
    norms = torch.linalg.vector_norm(h, dim=2)
    each = torch.stack([(norms[t] - norms[t - 1]) ** 2 for t in range(1, len(h))])
    return beta * reduced(each, h.shape[2], reduction, half=True)


def target_norm(h, beta, target, reduction):
    each = (torch.linalg.vector_norm(h, dim=2) - target) ** 2
    return beta * reduced(each, h.shape[2], reduction, half=True)


def activation_case(name, h, beta, target):
    return {
        "name": name,
        "beta": beta,
        "target": target,
        "activation": h,
        "temporal": [
            result(lambda h: temporal(h, beta, norm, reduction), h, norm=norm, reduction=reduction)
            for norm in NORMS
            for reduction in REDUCTIONS
        ],
        "stabilizer": [
            result(lambda h: stabilizer(h, beta, reduction), h, reduction=reduction)
            for reduction in REDUCTIONS
        ],
        "target_norm": [
            result(lambda h: target_norm(h, beta, target, reduction), h, reduction=reduction)
            for reduction in REDUCTIONS
        ],
    }


def logits_case(name, logits, targets, counts, strength, alpha):
    def entropy(z):
        return torch.distributions.Categorical(logits=z).entropy()

    def smoothing(z, prior):
        soft = (1 - alpha) * F.one_hot(targets, z.shape[1]) + alpha * prior
        return F.cross_entropy(z, soft) - F.cross_entropy(z, targets)

    def uniform(z):
        smoothed = F.cross_entropy(z, targets, label_smoothing=alpha)
        return smoothed - F.cross_entropy(z, targets)

    unigram = counts / counts.sum()
    terms = {
        "confidence": lambda z: -strength * entropy(z).mean(),
        "uniform": uniform,
        "unigram": lambda z: smoothing(z, unigram),
        # The largest sum of magnitudes in a column.
        "darc1": lambda z: strength / len(z) * torch.linalg.matrix_norm(z, ord=1),
        "logit_norm": lambda z: strength / 2 * z.pow(2).sum(),
    }
    return {
        "name": name,
        "strength": strength,
        "alpha": alpha,
        "logits": logits,
        "targets": targets,
        "counts": counts,
        "terms": {term: result(of, logits) for term, of in terms.items()},
    }


def fixture():
    draw = Draw(20171101)
    normal = draw.normal(4, 3, 5)
    silent = draw.normal(4, 2, 3)
    silent[0, 0] = 0.0
    silent[1, 0] = 0.0
    silent[2, 1] = 0.0
    silent[3, 1, 1:] = 0.0
    activations = [
        activation_case("normal", normal, 0.7, 2.0),
        activation_case("zero_states", silent, 50.0, 0.5),
        activation_case("two_steps", normal[:2], 1.0, 0.0),
        activation_case("one_stream", normal[:, :1], 2.0, 1.5),
        activation_case("one_feature", normal[..., :1], 3.0, 1.0),
    ]
    counts = torch.tensor([40.0, 0.0, 7.0, 2.0, 1.0, 3.0])
    cases = [
        ("normal", draw.normal(8, 6), draw.integers(6, 8), 2.0, 0.1),
        ("confident", draw.normal(5, 6, scale=12.0), draw.integers(6, 5), 0.3, 0.4),
        ("shifted", draw.normal(4, 6) - 30.0, draw.integers(6, 4), 1.0, 0.2),
        ("one_token", draw.normal(1, 6), draw.integers(6, 1), 0.1, 0.9),
    ]
    logits = [logits_case(name, z, y, counts, *strengths) for name, z, y, *strengths in cases]
    return {"activations": activations, "logits": logits}


if __name__ == "__main__":
    generate(__doc__, {"rivals": fixture}, one_line=lambda value: "gradient" in value)
