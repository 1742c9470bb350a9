"""Seeded numbers, gradients, and the format and the command line of fixture generators."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[4]


class Draw:
    """Tensors from NumPy's seeded generator."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape, scale=1.0):
        return torch.tensor(scale * self.rng.normal(size=shape))

    def uniform(self, low, high, *shape):
        return torch.tensor(self.rng.uniform(low, high, shape))

    def integers(self, high, *shape):
        return torch.tensor(self.rng.integers(0, high, shape))

    def mask(self, *shape, prob=0.4):
        """A dropout mask: zero with probability `prob`, else 1 / (1 - prob)."""
        return torch.tensor((self.rng.random(shape) >= prob) / (1 - prob))

    def low_mask(self, *shape, prob):
        """The same, but it keeps the low numbers of the generator, as some fixtures do."""
        return torch.tensor((self.rng.random(shape) < 1 - prob) / (1 - prob))

    def mixed_mask(self, *shape, prob=0.4):
        """A mask that neither drops nor keeps everything."""
        mask = self.mask(*shape, prob=prob)
        return mask if mask.any() and not mask.all() else self.mixed_mask(*shape, prob=prob)


def leaves(tensors):
    """Copies of named tensors, of which gradients can be asked."""
    return {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}


def gradients(leaves):
    return {name: leaf.grad for name, leaf in leaves.items()}


def plain(value):
    """Tensors as {"shape": [...], "data": [...]}, row by row; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "data": value.detach().flatten().tolist()}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def is_flat(value):
    return not any(isinstance(inner, (dict, list)) for inner in value.values())


def to_json(value, one_line=is_flat, indent=""):
    """JSON with one line per tensor, so that a changed fixture shows what changed.

    `one_line` says which other dictionaries take one line, too.
    """
    inner = indent + " "
    if isinstance(value, dict) and set(value) != {"shape", "data"} and not one_line(value):
        items = [f"{json.dumps(k)}: {to_json(v, one_line, inner)}" for k, v in value.items()]
        start, end = "{}"
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = [to_json(v, one_line, inner) for v in value]
        start, end = "[]"
    else:
        return json.dumps(value, allow_nan=False)
    lines = ",\n".join(inner + item for item in items)
    return f"{start}\n{lines}\n{indent}{end}"


def write(path, fixture, one_line=is_flat):
    path.write_text(to_json(plain(fixture), one_line) + "\n")
    print(path)


def begin(description):
    """Read the command line and make PyTorch repeatable, in double precision.

    Returns the folder to write to. `description` is the script's docstring.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    fixtures = script().parents[1] / "fixtures"
    help = "folder to write to (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=fixtures, help=help)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return out


def generate(description, makers, one_line=is_flat):
    """Write the fixtures that `makers` return, by file name, each with who made it."""
    out = begin(description)
    for name, make in makers.items():
        versions = {
            "python": ".".join(map(str, sys.version_info[:2])),
            "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
        }
        write(out / f"{name}.json", made_by() | {"versions": versions} | make(), one_line)


def made_by():
    return {"made_by": str(script().relative_to(REPOSITORY))}


def script():
    return Path(sys.argv[0]).resolve()
