#!/usr/bin/env python3
"""Information from pairwise distances and from critic scores, in float64.

    python3 crates/anp-core/tests/reference/estimators.py

Writes ../fixtures/estimators.json, with which ../estimators.rs compares values and gradients.

Conventions
    mixtures    one Gaussian per example, all equally likely; distances by torch.distributions and
                from determinants of full covariance matrices
    errors      delete-one jackknife: each bound is computed again without each example
    truth       I(X; T) and I(Y; T) of the mixture by Monte Carlo over T, with standard error
    scores      row i, column j: f(x_i, t_j); the gradient is that of the value or of the loss
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal
from torch.distributions import Normal, kl_divergence

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.fixtures import Draw, generate

NUM_SAMPLES = 400_000


def kl(mean, variance, i, j):
    p, q = (MultivariateNormal(mean[n], torch.diag(variance[n])) for n in (i, j))
    return kl_divergence(p, q)


def bhattacharyya(mean, variance, i, j):
    between = torch.diag((variance[i] + variance[j]) / 2)
    difference = mean[i] - mean[j]
    logdet = torch.logdet(between)
    logdet = logdet - (torch.logdet(torch.diag(variance[i] * variance[j]))) / 2
    return difference @ torch.linalg.solve(between, difference) / 8 + logdet / 2


def distances(distance, mean, variance):
    size = range(len(mean))
    return torch.stack([torch.stack([distance(mean, variance, i, j) for j in size]) for i in size])


def information(distance):
    """-1/N sum_i ln 1/N sum_j exp(-D_ij)"""
    return -(torch.logsumexp(-distance, dim=1) - math.log(len(distance))).mean()


def of_groups(distance, labels):
    """The mean over labels of the same within each, weighted by how often each occurs."""
    total = 0
    for label in labels.unique():
        among = (labels == label).nonzero().flatten()
        total += len(among) / len(labels) * information(distance[among][:, among])
    return total


def jackknife(statistic, size):
    values = []
    for left_out in range(size):
        values.append(statistic(torch.tensor([n for n in range(size) if n != left_out])))
    values = torch.stack(values)
    return ((size - 1) / size * (values - values.mean()).pow(2).sum()).sqrt()


def monte_carlo(mean, variance, labels, seed):
    torch.manual_seed(seed)
    size = len(mean)
    x = torch.randint(size, (NUM_SAMPLES,))
    t = mean[x] + variance[x].sqrt() * torch.randn(NUM_SAMPLES, mean.shape[1])

    def log_density(among):
        components = Independent(Normal(mean[among], variance[among].sqrt()), 1)
        return MixtureSameFamily(Categorical(torch.ones(len(among))), components).log_prob(t)

    everything = log_density(torch.arange(size))
    own = Independent(Normal(mean[x], variance[x].sqrt()), 1).log_prob(t)
    of_label = torch.stack([log_density((labels == y).nonzero().flatten()) for y in range(2)])
    own_label = of_label[labels[x], torch.arange(NUM_SAMPLES)]
    results = {}
    for name, ratio in [("input", own - everything), ("label", own_label - everything)]:
        error = ratio.std() / math.sqrt(NUM_SAMPLES)
        results |= {f"true_{name}": ratio.mean().item(), f"true_{name}_error": error.item()}
    return results


def mixture_case(name, mean, variance, labels, seed, noise_std=None):
    d_kl, d_c = distances(kl, mean, variance), distances(bhattacharyya, mean, variance)

    def bound(first, second=None):
        def statistic(among):
            value = information(first[among][:, among])
            if second is not None:
                value = value - of_groups(second[among][:, among], labels[among])
            return value

        everything = torch.arange(len(mean))
        return {
            "nats": statistic(everything).item(),
            "standard_error": jackknife(statistic, len(mean)).item(),
        }

    case = {"name": name, "means": mean, "variances": variance, "labels": labels}
    case |= {"noise_std": noise_std}
    case |= {"input_lower": bound(d_c), "input_upper": bound(d_kl)}
    case |= {"label_lower": bound(d_c, d_kl), "label_upper": bound(d_kl, d_c)}
    return case | monte_carlo(mean, variance, labels, seed)


def isotropic_case(name, mean, noise_std, labels, seed):
    return mixture_case(name, mean, torch.full_like(mean, noise_std**2), labels, seed, noise_std)


def off_diagonal(scores):
    return scores[~torch.eye(len(scores), dtype=torch.bool)]


def log_mean_exp(values):
    return torch.logsumexp(values, 0) - math.log(len(values))


def jensen_shannon_loss(scores):
    return F.softplus(-scores.diag()).mean() + F.softplus(off_diagonal(scores)).mean()


def smile(clip):
    def value(scores):
        clipped = off_diagonal(scores).exp().clamp(math.exp(-clip), math.exp(clip))
        return scores.diag().mean() - clipped.mean().log()

    return value


ESTIMATES = {
    "info_nce": lambda s: (s.diag() - torch.logsumexp(s, 1) + math.log(len(s))).mean(),
    "nwj": lambda s: s.diag().mean() - (off_diagonal(s) - 1).exp().mean(),
    "donsker_varadhan": lambda s: s.diag().mean() - log_mean_exp(off_diagonal(s)),
    "smile_1": smile(1.0),
    "smile_5": smile(5.0),
}


def with_gradient(function, scores):
    scores = scores.clone().requires_grad_()
    value = function(scores)
    value.backward()
    return {"value": value.item(), "gradient": scores.grad.flatten().tolist()}


def score_case(name, scores):
    estimates = [{"bound": bound} | with_gradient(f, scores) for bound, f in ESTIMATES.items()]
    loss = with_gradient(jensen_shannon_loss, scores)
    return {"name": name, "scores": scores, "estimates": estimates, "jensen_shannon_loss": loss}


def fixture():
    draw = Draw(20170608)
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    normal = draw.normal(7, 3)
    clusters = draw.normal(7, 2) * 0.2 + 3.0 * labels.unsqueeze(1)
    variances = draw.uniform(0.05, 2.0, 7, 3)
    mixtures = [
        isotropic_case("overlapping", normal, 0.8, labels, 1),
        isotropic_case("far_from_the_origin", normal + 100.0, 0.3, labels, 2),
        isotropic_case("two_clusters", clusters, 0.4, labels, 3),
        mixture_case("encoder", normal, variances, labels, 4),
        mixture_case("variances_only", torch.zeros_like(normal), variances, labels, 5),
    ]
    scores = [
        score_case("normal", draw.normal(5, 5)),
        score_case("two_samples", draw.normal(2, 2)),
        score_case("wide", draw.normal(8, 8, scale=6.0)),
        score_case("good_critic", draw.normal(6, 6) - 8.0 + 12.0 * torch.eye(6)),
        score_case("constant", torch.full((4, 4), 0.7)),
    ]
    return {"mixtures": mixtures, "scores": scores}


if __name__ == "__main__":
    generate(__doc__, {"estimators": fixture}, one_line=lambda value: "gradient" in value)
