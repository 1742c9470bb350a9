#!/usr/bin/env python3
"""Three training steps of the deep variational information bottleneck by PyTorch, in float64.

    python3 crates/anp-experiments/tests/reference/vib.py

Writes ../fixtures/vib.json, with which ../../src/vib/tests.rs compares: Alemi, Fischer, Dillon &
Murphy 2016, arXiv:1612.00410, with torch.distributions, torch.optim.Adam and fixed noise.

Conventions
    weight      [d_input, d_output], the transpose of torch.nn.Linear's; the first half of the
                columns of the head gives the mean
    sigma       softplus(raw - 5)
    loss        mean over images of the cross-entropy of one code each, plus beta times the mean
                over images of KL(N(mean, sigma) || N(0, I)), in nats
    average     after step k: sum over i <= k of decay^(k - i) * parameters after step i, divided
                by the sum of the weights
"""

import sys
from pathlib import Path

import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate, gradients, leaves

IMAGES, D_INPUT, D_HIDDEN, D_LATENT, CLASSES = 6, 12, 5, 3, 4
STEPS = 3
LEARNING_RATE = 0.02
# Numbers that single precision has: Burn's Adam keeps them in it.
BETAS = (0.5, 0.984375)
EPSILON = 1e-8
DECAY = 0.75


def draw_parameters(draw, shift):
    """`shift` is added to the biases of the raw scale, so that there is noise to speak of."""
    layers = {
        "hidden.0": (D_INPUT, D_HIDDEN),
        "hidden.1": (D_HIDDEN, D_HIDDEN),
        "bottleneck.linear": (D_HIDDEN, 2 * D_LATENT),
        "decoder": (D_LATENT, CLASSES),
    }
    parameters = {}
    for name, (d_input, d_output) in layers.items():
        parameters[f"{name}.weight"] = draw.normal(d_input, d_output, scale=0.6)
        parameters[f"{name}.bias"] = draw.normal(d_output, scale=0.2)
    parameters["bottleneck.linear.bias"][D_LATENT:] += shift
    return parameters


def forward(parameters, images, labels, noise, beta):
    def linear(x, name):
        return F.linear(x, parameters[f"{name}.weight"].T, parameters[f"{name}.bias"])

    hidden = F.relu(linear(F.relu(linear(images, "hidden.0")), "hidden.1"))
    mean, raw = linear(hidden, "bottleneck.linear").chunk(2, dim=1)
    encoding = Independent(Normal(mean, F.softplus(raw - 5)), 1)
    prior = Independent(Normal(torch.zeros(D_LATENT), torch.ones(D_LATENT)), 1)
    kl = kl_divergence(encoding, prior.expand((IMAGES,)))
    code = mean if beta is None else mean + encoding.base_dist.scale * noise
    nll = -Categorical(logits=linear(code, "decoder")).log_prob(labels)
    penalty = torch.zeros(()) if beta is None else beta * kl.mean()
    return {"nll": nll, "kl": kl, "sigma": encoding.base_dist.scale, "penalty": penalty}


def case(name, draw, beta, shift=5.0):
    start = draw_parameters(draw, shift)
    images = draw.uniform(-1, 1, IMAGES, D_INPUT)
    labels = draw.integers(CLASSES, IMAGES)
    noises = [draw.normal(IMAGES, D_LATENT) for _ in range(STEPS)]
    parameters = leaves(start)
    optimizer = torch.optim.Adam(parameters.values(), LEARNING_RATE, BETAS, EPSILON)
    after, steps = [], []
    for noise in noises:
        optimizer.zero_grad()
        output = forward(parameters, images, labels, noise, beta)
        (output["nll"].mean() + output["penalty"]).backward()
        grads = {k: g.clone() for k, g in gradients(parameters).items()}
        norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
        steps.append(
            {
                "nll_sum": output["nll"].sum().item(),
                "penalty": output["penalty"].item(),
                "kl": output["kl"],
                "sigma": output["sigma"],
                "gradients": grads,
                "grad_norm": norm.item(),
            }
        )
        optimizer.step()
        after.append({k: p.detach().clone() for k, p in parameters.items()})
    weights = [DECAY ** (STEPS - 1 - i) for i in range(STEPS)]
    average = {
        k: sum(w * it[k] for w, it in zip(weights, after)) / sum(weights) for k in parameters
    }
    return {
        "name": name,
        "beta": beta,
        "images": images,
        "labels": labels,
        "noises": noises,
        "parameters": start,
        "steps": steps,
        "updated": after[-1],
        "average": average,
    }


def fixture():
    draw = Draw(20171201)
    return {
        "sizes": [D_INPUT, D_HIDDEN, D_LATENT, CLASSES],
        "learning_rate": LEARNING_RATE,
        "betas": list(BETAS),
        "epsilon": EPSILON,
        "decay": DECAY,
        "cases": [
            case("weak", draw, beta=1e-3),
            case("strong", draw, beta=0.5),
            case("noise_without_a_price", draw, beta=0.0),
            case("no_bottleneck", draw, beta=None),
        ],
    }


if __name__ == "__main__":
    generate(__doc__, {"vib": fixture})
