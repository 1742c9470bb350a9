#!/usr/bin/env python3
"""The Gaussian head of the variational information bottleneck, by autograd in float64.

    python3 crates/anp-core/tests/reference/bottleneck.py

Writes ../fixtures/bottleneck.json, with which ../bottleneck.rs compares values and gradients.

Conventions
    weight      [d_input, 2 * d_latent]: the first half of the columns gives the mean
    sigma       softplus(raw - 5)
    kl          torch.distributions.kl_divergence, summed over features: [.., 1]
    loss        penalty + sum(latent * upstream), of which the gradients are
"""

import sys
from pathlib import Path

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate, gradients, leaves


def kl_to_standard(mean, sigma):
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(Normal(mean, sigma.expand_as(mean)), prior).sum(dim=-1, keepdim=True)


def divergence_case(name, draw, mean, log_sigma):
    """`log_sigma` is of the shape of `mean`, or has ones."""
    inputs = leaves({"mean": mean, "log_sigma": log_sigma})
    kl = kl_to_standard(inputs["mean"], inputs["log_sigma"].exp())
    upstream = draw.normal(*kl.shape)
    (kl * upstream).sum().backward()
    return {"name": name, "inputs": inputs, "upstream": upstream, "kl": kl} | {
        "gradients": gradients(inputs)
    }


def head_case(name, draw, batch, d_input, d_latent, beta, shift=0.0, scale=1.0):
    """`shift` is added to the bias of the raw scale, before its shift by 5."""
    bias = draw.normal(2 * d_latent)
    bias[d_latent:] += shift
    inputs = leaves(
        {
            "features": draw.normal(*batch, d_input, scale=scale),
            "weight": draw.normal(d_input, 2 * d_latent, scale=0.5),
            "bias": bias,
        }
    )
    noise = draw.normal(*batch, d_latent)
    upstream = draw.normal(*batch, d_latent)
    mean, raw = F.linear(inputs["features"], inputs["weight"].T, inputs["bias"]).chunk(2, dim=-1)
    sigma = F.softplus(raw - 5)
    kl = kl_to_standard(mean, sigma)
    latent = mean + sigma * noise
    penalty = beta * kl.mean()
    (penalty + (latent * upstream).sum()).backward()
    return {
        "name": name,
        "beta": beta,
        "inputs": inputs,
        "noise": noise,
        "upstream": upstream,
        "mean": mean,
        "sigma": sigma,
        "kl": kl,
        "latent": latent,
        "penalty": penalty.item(),
        "gradients": gradients(inputs),
    }


def fixture():
    draw = Draw(20161201)
    divergences = [
        divergence_case("normal", draw, draw.normal(5, 4), draw.normal(5, 4)),
        divergence_case("near_the_prior", draw, *(draw.normal(6, 3, scale=0.1) for _ in "ms")),
        divergence_case("small_noise", draw, draw.normal(4, 3), draw.normal(4, 3) - 20.0),
        # That of the Bayesian information penalty: one sigma per unit.
        divergence_case("shared_sigma", draw, draw.normal(3, 2, 4), draw.normal(1, 1, 4)),
    ]
    heads = [
        head_case("at_first", draw, (6,), 5, 3, beta=1e-2),
        head_case("much_noise", draw, (4,), 3, 2, beta=0.5, shift=6.0),
        head_case("linear_softplus", draw, (4,), 3, 2, beta=1.0, shift=40.0),
        head_case("sequence", draw, (3, 2), 4, 2, beta=0.1, shift=4.0),
        # softplus of -195, which single precision does not have.
        head_case("no_noise", draw, (4,), 3, 2, beta=1e-3, shift=-190.0),
    ]
    return {"divergences": divergences, "heads": heads}


if __name__ == "__main__":
    generate(__doc__, {"bottleneck": fixture})
