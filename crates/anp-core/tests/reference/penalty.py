#!/usr/bin/env python3
"""The activation norm penalty in every norm and reduction, and masks times activations, in float64.

Writes the fixture that tests/reference.rs compares values and gradients with.

    python3 penalty.py --out ../fixtures/penalty.json

Made with Python 3.11, PyTorch 2.15.0 and NumPy 2.4.6; any recent versions give the same numbers, but
perhaps for the last digits. Needs no GPU and reads no file.

Conventions
    rows        all dimensions of the activation but the last are tokens; N rows of K features
    half_sum    eta / 2 * sum of squares; for the other norms eta * sum over rows of the norm
    others      eta * w * sum over rows of the norm, w = 1 / (N * K), 1 / N or N / K
    kinks       0 for any norm of a row of zeros and for L1 of a zero; no other row has two largest
                elements
    masks       output = activation * mask; the gradient is that of sum(output * upstream)
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

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
    if reduction == "half_sum":
        return eta / 2 * h.pow(2).sum() if norm == "l2sq" else eta * norms.sum()
    if reduction == "mean_elements":
        if norm == "l2sq":
            return eta * h.pow(2).mean()
        if norm == "l1":
            return eta * h.abs().mean()
        return eta * norms.mean() / rows.shape[1]
    if reduction == "per_token":
        return eta * norms.mean()
    if reduction == "eq11_literal":
        return eta * (rows.shape[0] / rows.shape[1]) * norms.sum()
    raise ValueError(reduction)


def plain(tensor):
    return {"shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}


def penalty_case(name, activation, eta):
    results = []
    for norm in NORMS:
        for reduction in REDUCTIONS:
            h = activation.clone().requires_grad_()
            value = penalty(h, norm, reduction, eta)
            value.backward()
            results.append(
                {
                    "norm": norm,
                    "reduction": reduction,
                    "value": value.item(),
                    "gradient": h.grad.flatten().tolist(),
                }
            )
    return {"name": name, "eta": eta, "activation": plain(activation), "results": results}


def mask_case(name, rng, shape, mask):
    h = torch.tensor(rng.normal(size=shape)).requires_grad_()
    upstream = torch.tensor(rng.normal(size=shape))
    output = h * mask
    (output * upstream).sum().backward()
    return {
        "name": name,
        "activation": plain(h),
        "mask": plain(mask),
        "upstream": plain(upstream),
        "output": plain(output),
        "gradient": plain(h.grad),
    }


def word_mask_case(name, rng, words, tokens):
    """Row b of `words` is the mask of sequence b; one row is everybody's. Tokens are [B, T]."""
    rows = words.expand(tokens.shape[0], -1)
    looked_up = torch.stack([row[sequence] for row, sequence in zip(rows, tokens)]).unsqueeze(-1)
    case = mask_case(name, rng, (*tokens.shape, 2), looked_up)
    return {**case, "words": plain(words), "tokens": plain(tokens)}


def draw_mask(rng, shape, prob):
    keep = 1.0 - prob
    return torch.tensor((rng.random(shape) < keep) / keep)


def make_fixture():
    rng = np.random.default_rng(20171027)
    normal = torch.tensor(rng.normal(size=(2, 3, 4)))
    saturated = torch.tensor(rng.choice([-1.0, 1.0], (3, 2, 5)) * rng.uniform(0.9, 1.0, (3, 2, 5)))
    dropped = torch.tensor(rng.normal(size=(2, 3, 4)))
    dropped[0, 1] = 0.0
    dropped[1, 2, 1:] = 0.0
    small = torch.tensor(rng.normal(size=(2, 2, 3))) * 1e-3
    penalties = [
        penalty_case("normal", normal, 0.3),
        penalty_case("saturated_units", saturated, 2.0),
        penalty_case("zeros_of_dropout", dropped, 0.1),
        penalty_case("small_activations", small, 10.0),
        penalty_case("rows_without_time", normal.reshape(6, 4)[:3], 1.0),
        penalty_case("one_feature", normal[..., :1], 0.5),
    ]
    tokens = torch.tensor(rng.integers(0, 5, (3, 6)))
    masks = [
        mask_case("locked_batch_first", rng, (3, 4, 5), draw_mask(rng, (3, 1, 5), 0.5)),
        mask_case("locked_time_first", rng, (4, 3, 5), draw_mask(rng, (1, 3, 5), 0.65)),
        mask_case("skip_input", rng, (3, 4, 5), draw_mask(rng, (3, 4, 1), 0.2)),
    ]
    word_masks = [
        word_mask_case("shared", rng, draw_mask(rng, (1, 5), 0.4), tokens),
        word_mask_case("per_sequence", rng, draw_mask(rng, (3, 5), 0.4), tokens),
    ]
    return {
        "made_by": "crates/anp-core/tests/reference/penalty.py",
        "versions": {
            "python": ".".join(map(str, sys.version_info[:2])),
            "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
        },
        "penalties": penalties,
        "masks": masks,
        "word_masks": word_masks,
    }


def write(value, indent=""):
    """JSON with one line a tensor and a result, so that a changed fixture shows what changed."""
    inner = indent + " "
    if isinstance(value, dict) and not {"shape", "norm"} & set(value):
        items = [f"{inner}{json.dumps(k)}: {write(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[\n" + ",\n".join(f"{inner}{write(v, inner)}" for v in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def main():
    parser = argparse.ArgumentParser(
        description="Write the fixture of the activation norm penalty and of masks (float64)."
    )
    default = Path(__file__).resolve().parent.parent / "fixtures" / "penalty.json"
    parser.add_argument(
        "--out", type=Path, default=default, help="file to write (default: %(default)s)"
    )
    out = parser.parse_args().out

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    fixture = make_fixture()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(write(fixture) + "\n")
    for kind in ("penalties", "masks", "word_masks"):
        print(f"{kind}: {', '.join(case['name'] for case in fixture[kind])}")


if __name__ == "__main__":
    main()
