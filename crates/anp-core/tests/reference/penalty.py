#!/usr/bin/env python3
"""The activation norm penalty in every norm and reduction, and masks, by autograd in float64.

    python3 crates/anp-core/tests/reference/penalty.py

Writes ../fixtures/penalty.json, with which ../reference.rs compares values and gradients.

Conventions
    rows        all dimensions of the activation but the last are tokens; N rows of K features
    half_sum    eta / 2 * sum of squares; for the other norms eta * sum over rows of the norm
    others      eta * w * sum over rows of the norm, w = 1 / (N * K), 1 / N or N / K
    kinks       0 for any norm of a row of zeros and for L1 of a zero; no other row has two largest
                elements
    masks       output = activation * mask; the gradient is that of sum(output * upstream)
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate

NORMS = ("l2sq", "l2", "l1", "linf")
REDUCTIONS = ("half_sum", "mean_elements", "per_token", "eq11_literal")


def penalty(h, norm, reduction, eta):
    """The definition, in PyTorch's own functions and not by a table of weights."""
    rows = h.reshape(-1, h.shape[-1])
    if norm == "l2sq":
        norms = rows.pow(2).sum(dim=1)
    else:
        order = {"l2": 2, "l1": 1, "linf": float("inf")}[norm]
        norms = torch.linalg.vector_norm(rows, order, dim=1)
    match reduction:
        case "half_sum":
            return eta / 2 * h.pow(2).sum() if norm == "l2sq" else eta * norms.sum()
        case "mean_elements" if norm == "l2sq":
            return eta * h.pow(2).mean()
        case "mean_elements" if norm == "l1":
            return eta * h.abs().mean()
        case "mean_elements":
            return eta * norms.mean() / rows.shape[1]
        case "per_token":
            return eta * norms.mean()
        case "eq11_literal":
            return eta * (rows.shape[0] / rows.shape[1]) * norms.sum()


def penalty_case(name, activation, eta):
    results = []
    for norm in NORMS:
        for reduction in REDUCTIONS:
            h = activation.clone().requires_grad_()
            value = penalty(h, norm, reduction, eta)
            value.backward()
            result = {"norm": norm, "reduction": reduction, "value": value.item()}
            results.append(result | {"gradient": h.grad.flatten().tolist()})
    return {"name": name, "eta": eta, "activation": activation, "results": results}


def mask_case(name, draw, shape, mask):
    h = draw.normal(*shape).requires_grad_()
    upstream = draw.normal(*shape)
    output = h * mask
    (output * upstream).sum().backward()
    return {
        "name": name,
        "activation": h,
        "mask": mask,
        "upstream": upstream,
        "output": output,
        "gradient": h.grad,
    }


def word_mask_case(name, draw, words, tokens):
    """Row b of `words` is the mask of sequence b; one row is everybody's. Tokens are [B, T]."""
    rows = words.expand(tokens.shape[0], -1)
    looked_up = torch.stack([row[sequence] for row, sequence in zip(rows, tokens)]).unsqueeze(-1)
    case = mask_case(name, draw, (*tokens.shape, 2), looked_up)
    return case | {"words": words, "tokens": tokens}


def fixture():
    draw = Draw(20171027)
    normal = draw.normal(2, 3, 4)
    signs = torch.tensor(draw.rng.choice([-1.0, 1.0], (3, 2, 5)))
    saturated = signs * draw.uniform(0.9, 1.0, 3, 2, 5)
    dropped = draw.normal(2, 3, 4)
    dropped[0, 1] = 0.0
    dropped[1, 2, 1:] = 0.0
    penalties = [
        penalty_case("normal", normal, 0.3),
        penalty_case("saturated_units", saturated, 2.0),
        penalty_case("zeros_of_dropout", dropped, 0.1),
        penalty_case("small_activations", draw.normal(2, 2, 3) * 1e-3, 10.0),
        penalty_case("rows_without_time", normal.reshape(6, 4)[:3], 1.0),
        penalty_case("one_feature", normal[..., :1], 0.5),
    ]
    tokens = draw.integers(5, 3, 6)
    masks = []
    for name, shape, mask, prob in [
        ("locked_batch_first", (3, 4, 5), (3, 1, 5), 0.5),
        ("locked_time_first", (4, 3, 5), (1, 3, 5), 0.65),
        ("skip_input", (3, 4, 5), (3, 4, 1), 0.2),
    ]:
        masks.append(mask_case(name, draw, shape, draw.low_mask(*mask, prob=prob)))
    word_masks = [
        word_mask_case("shared", draw, draw.low_mask(1, 5, prob=0.4), tokens),
        word_mask_case("per_sequence", draw, draw.low_mask(3, 5, prob=0.4), tokens),
    ]
    return {"penalties": penalties, "masks": masks, "word_masks": word_masks}


if __name__ == "__main__":
    generate(__doc__, {"penalty": fixture}, one_line=lambda value: "norm" in value)
