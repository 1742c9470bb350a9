#!/usr/bin/env python3
"""The information bound and coding rates by singular values in float64.

    python3 crates/anp-core/tests/reference/information_bound.py

Writes ../fixtures/information_bound.json and ../fixtures/coding_rate.json, with which
../information_bound.rs and ../coding_rate.rs compare values and gradients.

Conventions
    bound       eta / 2 * (trace + N * eps - ln det(Phi Phi^T / K + eps I) - N), summed over groups,
                with trace = factor / K * sum of squares; eta / 2 * trace if it is alone
    groups      "time_step": the batch at each step; "minibatch": all rows
    rates       R = ln det(I + d / (m eps2) Z^T Z) / 2, R_c by class, examples are rows
    precision   from singular values s of Phi = U diag(s) V^T, which are exact to the rounding error
                of the largest; activations are exact in float32. Each result is checked here
                against torch.linalg.slogdet and autograd, and divergences against those of
                torch.distributions
    condition   largest by smallest eigenvalue: the size of rounding errors of a Cholesky factor
"""

import sys
from pathlib import Path

import torch
from torch.distributions import MultivariateNormal, kl_divergence

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate


def multiple(factor, rows):
    return {"corrected": 1.0, "printed": float(len(rows))}[factor]


def check(name, phi, function, value, gradient, condition):
    """Against slogdet and autograd, within their rounding errors."""
    leaf = phi.clone().requires_grad_()
    plain = function(leaf)
    plain.backward()
    tolerance = 1e-14 * condition * len(phi)
    assert abs(plain - value) <= tolerance * (1 + abs(value)), name
    assert (leaf.grad - gradient).abs().max() <= tolerance * (1 + gradient.abs().max()), name


def log_determinant(phi, scale, shift):
    return torch.linalg.slogdet(scale * phi @ phi.T + shift * torch.eye(len(phi)))[1]


def spectrum(phi, scale, shift):
    """All N eigenvalues of scale * phi phi^T + shift * I, and what its inverse does to phi."""
    u, s, vt = torch.linalg.svd(phi, full_matrices=False)
    eigenvalues = scale * s.pow(2) + shift
    missing = torch.full((len(phi) - len(s),), shift)
    return torch.cat([eigenvalues, missing]), u @ torch.diag(s / eigenvalues) @ vt


def group_bound(name, phi, eps, terms, factor, eta):
    n, k = phi.shape
    weight = multiple(factor, phi) / k
    if terms == "trace":
        return eta / 2 * weight * phi.pow(2).sum(), eta * weight * phi, 1.0
    eigenvalues, solved = spectrum(phi, 1 / k, eps)
    trace = weight * phi.pow(2).sum() + n * eps
    value = eta / 2 * (trace - eigenvalues.log().sum() - n)
    gradient = eta * (weight * phi - solved / k)
    condition = (eigenvalues.max() / eigenvalues.min()).item()

    def plain(phi):
        trace = weight * phi.pow(2).sum() + n * eps
        return eta / 2 * (trace - log_determinant(phi, 1 / k, eps) - n)

    check(name, phi, plain, value, gradient, condition)
    if factor == "corrected" and condition < 1e5:
        covariance = phi @ phi.T / k + eps * torch.eye(n)
        normal = MultivariateNormal(torch.zeros(n), torch.eye(n))
        divergence = kl_divergence(MultivariateNormal(torch.zeros(n), covariance), normal)
        assert abs(eta * divergence - value) < 1e-9 * (1 + abs(value)), name
    return value, gradient, condition


def bound_case(name, activation, eps, eta=0.7):
    """`activation` is [B, T, K], or [N, K] without time."""
    activation = activation.float().double()
    sequence = activation if activation.dim() == 3 else activation.unsqueeze(1)
    steps, flat = sequence.unbind(1), sequence.reshape(-1, activation.shape[-1])
    groupings = {"time_step": steps, "minibatch": [flat]}
    results = []
    for group, members in groupings.items():
        for terms in ("trace", "trace_and_log_determinant"):
            for factor in ("corrected", "printed"):
                parts = [group_bound(name, phi, eps, terms, factor, eta) for phi in members]
                values, gradients, conditions = zip(*parts)
                gradient = torch.stack(gradients, 1) if group == "time_step" else gradients[0]
                results.append(
                    {
                        "group": group,
                        "terms": terms,
                        "trace_factor": factor,
                        "value": sum(values).item(),
                        "condition": max(conditions),
                        "gradient": gradient.flatten().tolist(),
                    }
                )
    return {
        "name": name,
        "eta": eta,
        "epsilon": eps,
        "activation": activation,
        "results": results,
    }


def bounds():
    draw = Draw(20171027)
    row = draw.normal(1, 6)
    repeated = draw.normal(3, 2, 4)
    repeated[2] = repeated[0]
    zeros = draw.normal(3, 2, 4)
    zeros[1] = 0.0
    zeros[:, 1] = 0.0
    cases = [
        bound_case("wide", draw.normal(3, 2, 5), 1e-2),
        bound_case("square", draw.normal(4, 1, 4), 1e-2),
        bound_case("tall", draw.normal(7, 2, 3), 1e-2),
        bound_case("one_example", draw.normal(1, 3, 4), 1e-1),
        bound_case("one_feature", draw.normal(4, 2, 1), 1e-1),
        bound_case("images", draw.normal(5, 9), 1e-3),
        bound_case("more_images_than_features", draw.normal(9, 5), 1e-3),
        # Each loop over sixteen columns or four rows has a rest.
        bound_case("many_rows_and_columns", draw.normal(18, 21), 1e-3),
        bound_case("saturated_units", torch.sign(draw.normal(4, 2, 20)) * 0.97, 1e-3),
        bound_case("repeated_examples", repeated, 1e-4),
        bound_case("zeros", zeros, 1e-3),
        bound_case("all_zero", torch.zeros(2, 2, 3), 1e-3),
        bound_case("small_activations", draw.normal(3, 2, 5, scale=1e-3), 1e-6),
        bound_case("large_activations", draw.normal(3, 2, 5, scale=1e3), 1e-1),
        # Their Gram matrix in float32 is off by more than epsilon.
        bound_case("nearly_equal_examples", row + draw.normal(4, 1, 6, scale=1e-3), 1e-8),
        bound_case("nearly_equal_and_tall", row + draw.normal(9, 1, 6, scale=1e-3), 1e-8),
    ]
    return {"bounds": cases}


def rate(name, z, eps2, share=1.0):
    m, d = z.shape
    scale = d / (m * eps2)
    eigenvalues, solved = spectrum(z, scale, 1.0)
    value, gradient = share * eigenvalues.log().sum() / 2, share * scale * solved
    condition = eigenvalues.max().item()
    plain = lambda z: share * log_determinant(z, scale, 1.0) / 2
    check(name, z, plain, value, gradient, condition)
    return value, gradient


def rate_case(name, features, labels, num_classes, eps2):
    features = features.float().double()
    value, gradient = rate(name, features, eps2)
    class_value, class_gradient = torch.zeros(()), torch.zeros_like(features)
    for label in range(num_classes):
        members = labels == label
        if members.any():
            share = members.sum().item() / len(features)
            part, part_gradient = rate(name, features[members], eps2, share)
            class_value += part
            class_gradient[members] = part_gradient
    return {
        "name": name,
        "epsilon_squared": eps2,
        "num_classes": num_classes,
        "features": features,
        "labels": labels,
        "rate": value.item(),
        "rate_gradient": gradient,
        "class_rate": class_value.item(),
        "class_rate_gradient": class_gradient,
    }


def rates():
    draw = Draw(20200615)
    unit = torch.nn.functional.normalize(draw.normal(12, 5), dim=1)
    cases = [
        rate_case("unit_features", unit, draw.integers(3, 12), 3, 0.5),
        rate_case("wide", draw.normal(4, 7), draw.integers(2, 4), 2, 0.5),
        rate_case("an_empty_class", draw.normal(6, 4), torch.tensor([0, 3, 0, 3, 3, 1]), 4, 0.25),
        rate_case("one_class", draw.normal(5, 3), torch.zeros(5, dtype=torch.int64), 1, 1.0),
        rate_case("small_error", draw.normal(8, 4), draw.integers(2, 8), 2, 1e-3),
        rate_case("zeros", torch.zeros(4, 3), torch.tensor([0, 1, 1, 0]), 2, 0.5),
    ]
    return {"rates": cases}


if __name__ == "__main__":
    makers = {"information_bound": bounds, "coding_rate": rates}
    generate(__doc__, makers, one_line=lambda value: "condition" in value)
