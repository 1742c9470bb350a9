"""Draw our curves of Table 4's small scale beside PyTorch's, and print how they end.

    python docs/curves/draw.py          # from the top of the repository; Python 3 alone

Reads the records of `experiments/records` and `docs/curves/cifar_10_pytorch.json`, which
`crates/anp-experiments/tests/reference/cifar.py` writes; writes `docs/curves/cifar_10.svg`.
"""

import json
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).parents[2]
ETA = 1e-4
PANELS = [
    # key of the curve, title, lowest and highest value, step of the grid
    ("test_accuracy", "test accuracy, %", 10, 50, 10),
    ("test_nll", "test loss, nats an image", 1.4, 3.4, 0.4),
    ("activation_norm", "mean ‖pooled‖₂, training", 2, 4.5, 0.5),
]
WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 230, 46, 46, 60


def ours(row):
    records = (ROOT / "experiments/records").glob(f"table4-{row}-small-s*.json")
    return [json.loads(path.read_text())["curve"] for path in sorted(records)]


def pytorch(eta):
    path = ROOT / "docs/curves/cifar_10_pytorch.json"
    if not path.exists():
        raise SystemExit(f"{path} is missing; cifar.py writes it in some twenty minutes")
    runs = json.loads(path.read_text())["runs"]
    return [run["curve"] for run in sorted(runs, key=lambda run: run["seed"]) if run["eta"] == eta]


SERIES = [
    # name, runs, colour, dashes
    ("anp, WRN-10-1", ours("cifar_10"), "#1f5fa8", ""),
    ("anp, with the penalty", ours("cifar_10_anp"), "#1f5fa8", "5 3"),
    ("PyTorch, WRN-10-1", pytorch(0.0), "#c4541a", ""),
    ("PyTorch, with the penalty", pytorch(ETA), "#c4541a", "5 3"),
]


def panel(left, key, title, lowest, highest, step):
    epochs = len(SERIES[0][1][0])

    def x(epoch):
        return left + WIDTH * (epoch - 1) / (epochs - 1)

    def y(value):
        inside = min(max(value, lowest), highest)
        return TOP + HEIGHT * (highest - inside) / (highest - lowest)

    yield f'<text x="{left}" y="{TOP - 10}" font-weight="bold">{title}</text>'
    for line in range(round((highest - lowest) / step) + 1):
        value = lowest + line * step
        yield f'<path d="M{left} {y(value):.1f}h{WIDTH}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    for epoch in range(1, epochs + 1):
        yield f'<text x="{x(epoch):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{epoch}</text>'
    yield f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 32}" text-anchor="middle">epoch</text>'
    for _, runs, colour, dashes in SERIES:
        values = [[curve[epoch][key] for curve in runs] for epoch in range(epochs)]
        upper = [f"{x(i + 1):.1f},{y(max(it)):.1f}" for i, it in enumerate(values)]
        lower = [f"{x(i + 1):.1f},{y(min(it)):.1f}" for i, it in enumerate(values)]
        yield f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity="0.13"/>'
        line = " ".join(f"{x(i + 1):.1f},{y(mean(it)):.1f}" for i, it in enumerate(values))
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'


def draw():
    width, height = LEFT + len(PANELS) * (WIDTH + GAP) + 30, TOP + HEIGHT + 70
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    for index, (key, *rest) in enumerate(PANELS):
        yield from panel(LEFT + index * (WIDTH + GAP), key, *rest)
    for index, (name, runs, colour, dashes) in enumerate(SERIES):
        left, middle = LEFT + index * 230, TOP + HEIGHT + 52
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        yield f'<path d="M{left} {middle}h32" stroke="{colour}" stroke-width="1.8"{dash}/>'
        yield f'<text x="{left + 38}" y="{middle + 4}">{name}, {len(runs)} seeds</text>'
    yield "</svg>"


def table():
    yield "| | n | accuracy, % | loss, nats | mean ‖pooled‖₂, training |"
    yield "| --- | --- | --- | --- | --- |"
    for name, runs, *_ in SERIES:
        last = [curve[-1] for curve in runs]

        def cell(key, digits):
            values = [epoch[key] for epoch in last]
            return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"

        cells = [cell("test_accuracy", 2), cell("test_nll", 3), cell("activation_norm", 2)]
        yield f"| {name} | {len(runs)} | {' | '.join(cells)} |"


(ROOT / "docs/curves/cifar_10.svg").write_text("\n".join(draw()) + "\n")
print("\n".join(table()))
