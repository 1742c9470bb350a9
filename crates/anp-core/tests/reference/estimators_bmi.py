#!/usr/bin/env python3
"""Samples of the BMI benchmark, and what its estimators and scikit-learn make of them.

    pip install benchmark-mi==0.1.3 "jax==0.4.20" "jaxlib==0.4.20" "scipy<1.12" "scikit-learn<1.5"
    python crates/anp-core/tests/reference/estimators_bmi.py

(pip complains about chex; the versions are the newest that the package works with.) Writes
../fixtures/estimators_bmi.json, with which ../estimators.rs compares values.

Conventions
    samples     rounded to seven decimals, so that the fixture stays small and no distances tie
    ksg         bmi.estimators.KSGEnsembleFirstEstimator with the maximum norm; it returns 0 for a
                negative estimate
    histogram   bmi.estimators.HistogramEstimator: bins of equal width from the smallest to the
                largest value of each coordinate
    labels      sklearn.metrics.mutual_info_score between the same bins of t and a label
"""

import json
import sys
from pathlib import Path

import bmi
import numpy as np
from sklearn.metrics import mutual_info_score

NEIGHBORS = (1, 3, 5)
TASKS = {
    "1v1-normal-0.75": 300,
    "1v1-bimodal-0.75": 300,
    "1v1-additive-0.1": 200,
    "student-identity-1-1-1": 200,
    "swissroll_x-normal_cdf-1v1-normal-0.75": 200,
    "multinormal-sparse-5-5-2-2.0": 200,
    "spiral-multinormal-sparse-3-3-2-2.0": 200,
}


def ksg(x, y, standardize):
    estimator = bmi.estimators.KSGEnsembleFirstEstimator(
        NEIGHBORS, standardize=standardize, metric_x="chebyshev"
    )
    estimator.fit(x, y)
    values = estimator.get_predictions()
    return [float(values[k]) for k in NEIGHBORS]


def histogram(x, y, bins):
    return float(bmi.estimators.HistogramEstimator(bins, standardize=False).estimate(x, y))


def bins_of(values, bins):
    edges = np.linspace(values.min(), values.max(), bins + 1)
    return np.digitize(values, edges[1:-1])


def case(name, size, seed):
    task = bmi.benchmark.BENCHMARK_TASKS[name]
    x, y = (np.round(np.asarray(s, dtype=np.float64), 7) for s in task.sample(size, seed))
    result = {
        "name": name,
        "information": float(task.mutual_information),
        "x": {"shape": list(x.shape), "data": x.flatten().tolist()},
        "t": {"shape": list(y.shape), "data": y.flatten().tolist()},
        "neighbors": NEIGHBORS,
        "ksg": ksg(x, y, True),
        "ksg_unscaled": ksg(x, y, False),
    }
    if x.shape[1] == y.shape[1] == 1:
        label = (x[:, 0] > 0.3).astype(int) + 2 * (x[:, 0] > 1.0).astype(int)
        result |= {
            "histogram_bins": 6,
            "histogram": histogram(x, y, 6),
            "labels": label.tolist(),
            "label_information": float(mutual_info_score(label, bins_of(y[:, 0], 6))),
        }
    return result


def main():
    cases = [case(name, size, seed) for seed, (name, size) in enumerate(TASKS.items(), 1)]
    lines = ",\n".join(
        "  {\n" + ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in c.items()) + "\n  }"
        for c in cases
    )
    script = Path(__file__).resolve()
    made_by = str(script.relative_to(script.parents[4]))
    path = script.parents[1] / "fixtures/estimators_bmi.json"
    path.write_text(f'{{\n "made_by": {json.dumps(made_by)},\n "cases": [\n{lines}\n ]\n}}\n')
    print(path)
    for c in cases:
        print(c["name"], round(c["information"], 4), np.round(c["ksg"], 4), file=sys.stderr)


if __name__ == "__main__":
    main()
