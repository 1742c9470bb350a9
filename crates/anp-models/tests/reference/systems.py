#!/usr/bin/env python3
"""Whole language models over one window by PyTorch's autograd, in float64.

    python3 crates/anp-models/tests/reference/systems.py

Writes one fixture per system to ../fixtures, with which ../systems.rs compares loss, all gradients
and final states.

The cells are written from their equations, one time step, one gate and one matrix at a time:

    lstm    Zaremba et al. 2014, arXiv:1409.2329; masks of Gal & Ghahramani 2016, arXiv:1512.05287:
            gates that share a mask are their "tied weights", gates with one each their "untied
            weights" and weight drop, masks on recurrent matrices: Merity et al. 2017,
            arXiv:1708.02182
    sru     Lei & Zhang 2017, arXiv:1709.02755v1
    rhn     Zilly et al. 2016, arXiv:1607.03474, the carry gate is one minus the transform gate
    lstm with noise on its output: equations 8 and 9 of the paper
    nas     Zoph & Le 2016, arXiv:1611.01578, as in TensorFlow's NASCell with base 8

A model is embedding, mask on words, mask on the embedding, layers with masks between them, mask on
the output, decoder. Its loss is the sum over steps of the batch's mean negative log-likelihood.
Parameters have the names and the layouts of RecurrentLm. Masks are already scaled by 1 / (1 - p).
Sequences are time first.
"""

import math
import sys
from functools import partial
from pathlib import Path

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference import cells
from anp_reference.fixtures import Draw, generate, gradients, leaves

VOCAB_SIZE = 11
TIME = 5
BATCH = 3
# What the divergence of a noisy output counts in the loss.
INFORMATION_WEIGHT = 0.03
# What the supervision of a pointer counts.
SUPERVISION_WEIGHT = 0.7
# What the divergence of drawn weights from their prior counts, and this prior.
DIVERGENCE_WEIGHT = 0.02
PRIOR_PI = 0.25
PRIOR_LOG_SIGMAS = [0.0, -1.0]


# --- Cells: parameters with their shapes, parts of the state, one layer over a window


class Lstm:
    state = ["hidden", "cell"]

    def __init__(self, num_biases=1, forget_bias=0.0):
        self.biases = ["bias_input", "bias_hidden"][:num_biases]
        self.forget_bias = forget_bias
        self.means = []

    def shapes(self, d_input, width):
        shapes = {"weight_input": [d_input, 4 * width], "weight_hidden": [width, 4 * width]}
        return shapes | {name: [4 * width] for name in self.biases}

    def forward(self, p, inputs, state, product=None, recurrent=None, weight=None, noise=None):
        """`noise` is for each step, and whether the next step sees it."""
        hidden, cell = state["hidden"], state["cell"]
        weight_hidden = masked(p["weight_hidden"], weight)
        outputs = []
        for t, x in enumerate(inputs):
            sums = []
            for gate in range(4):
                block = slice(gate * cell.shape[1], (gate + 1) * cell.shape[1])
                input_sum = masked(x, product, gate) @ p["weight_input"][:, block]
                total = input_sum + masked(hidden, recurrent, gate) @ weight_hidden[:, block]
                for bias in self.biases:
                    total = total + p[bias][block]
                sums.append(total)
            i, f, g, o = sums
            hidden, cell = cells.lstm(i, f + self.forget_bias, g, o, cell)
            if noise is None:
                outputs.append(hidden)
                continue
            self.means.append(hidden)
            outputs.append(hidden + noise[0][t])
            if noise[1]:
                hidden = outputs[-1]
        return outputs, {"hidden": hidden, "cell": cell}


class Sru:
    state = ["cell"]

    def __init__(self, activation):
        self.activation = activation

    def shapes(self, d_input, width):
        parts = 3 if d_input == width else 4
        return {"weight": [d_input, parts * width], "bias": [2 * width]}

    def forward(self, p, inputs, state, product=None, recurrent=None):
        cell = state["cell"]
        width = cell.shape[1]
        matrices = p["weight"].split(width, dim=1)
        bias_f, bias_r = p["bias"].split(width)
        outputs = []
        for x in inputs:
            dropped = masked(x, product)
            candidate = dropped @ matrices[0]
            f = torch.sigmoid(dropped @ matrices[1] + bias_f)
            r = torch.sigmoid(dropped @ matrices[2] + bias_r)
            highway = dropped @ matrices[3] if len(matrices) == 4 else x
            mask = 1 if recurrent is None else recurrent[0]
            hidden, cell = cells.sru(candidate, f, r, highway, cell, self.activation, mask)
            outputs.append(hidden)
        return outputs, {"cell": cell}


class Rhn:
    state = ["hidden"]

    def __init__(self, depth):
        self.depth = depth

    def shapes(self, d_input, width):
        return {
            "weight_input": [d_input, 2 * width],
            "weight_hidden": [self.depth, width, 2 * width],
            "bias": [self.depth, 2 * width],
        }

    def forward(self, p, inputs, state, product=None, recurrent=None, weight=None):
        s = state["hidden"]
        width = s.shape[1]
        outputs = []
        for x in inputs:
            x = masked(x, product)
            for level in range(self.depth):
                matrix, bias = p["weight_hidden"][level], p["bias"][level]
                matrix = masked(matrix, weight, level)
                h = masked(s, recurrent, 0) @ matrix[:, :width] + bias[:width]
                t = masked(s, recurrent, 1) @ matrix[:, width:] + bias[width:]
                if level == 0:
                    h = h + x @ p["weight_input"][:, :width]
                    t = t + x @ p["weight_input"][:, width:]
                s = cells.rhn(h, t, s)
            outputs.append(s)
        return outputs, {"hidden": s}


class Nas:
    state = ["hidden", "cell"]

    def shapes(self, d_input, width):
        return {"weight_input": [d_input, 8 * width], "weight_hidden": [width, 8 * width]}

    def forward(self, p, inputs, state, product=None, recurrent=None, weight=None):
        m, c = state["hidden"], state["cell"]
        weight_hidden = masked(p["weight_hidden"], weight)
        sigmoid, tanh, relu = torch.sigmoid, torch.tanh, torch.relu
        outputs = []
        for x in inputs:
            x, m = masked(x, product), masked(m, recurrent)
            u = [x @ block for block in p["weight_input"].chunk(8, dim=1)]
            v = [m @ block for block in weight_hidden.chunk(8, dim=1)]
            first = [sigmoid, relu, sigmoid, None, tanh, sigmoid, tanh, sigmoid]
            a = [relu(u[k] * v[k]) if k == 3 else first[k](u[k] + v[k]) for k in range(8)]
            b = [tanh(a[0] * a[1]), tanh(a[2] + a[3]), tanh(a[4] * a[5]), sigmoid(a[6] + a[7])]
            c = tanh(b[0] + c) * b[1]
            m = tanh(c * tanh(b[2] + b[3]))
            outputs.append(m)
        return outputs, {"hidden": m, "cell": c}


def masked(x, masks, group=0):
    """`x` times the mask of a group; fewer masks than groups are shared in turn."""
    return x if masks is None else x * masks[group % len(masks)]


# --- Models


def language_model(cell, parameters, tokens, targets, states, masks, in_recurrence, pointer):
    """Loss and final states."""

    def drop(steps, mask):
        """A mask of one step is that of every step."""
        return [masked(step, mask, t) for t, step in enumerate(steps)]

    steps = [parameters["embedding"][tokens_t] for tokens_t in tokens]
    steps = drop(drop(steps, masks.get("words")), masks.get("input"))
    finals = []
    between = masks["inter_layer"] + [None]
    for layer, state in enumerate(states):
        prefix = f"layers.{layer}.{type(cell).__name__}."
        own = {k.removeprefix(prefix): p for k, p in parameters.items() if k.startswith(prefix)}
        inside = dict(masks["layers"][layer])
        if "noise" in masks and layer + 1 == len(states):
            sigma = softplus(parameters["stochastic.rho"])
            inside["noise"] = (masks["noise"] * sigma, in_recurrence)
        steps, final = cell.forward(own, steps, state, **inside)
        finals.append(final)
        steps = drop(steps, between[layer])
    raw = steps
    steps = drop(steps, masks.get("output"))

    decoder = parameters.get("decoder_weight")
    if decoder is None:
        decoder = parameters["embedding"].T
    loss = 0
    if pointer is not None:
        loss = pointer_loss(parameters, tokens, targets, steps, raw, decoder, pointer)
    else:
        for step, target in zip(steps, targets):
            log_probs = torch.log_softmax(step @ decoder + parameters["decoder_bias"], dim=1)
            loss = loss - log_probs[torch.arange(BATCH), target].mean()
    if "noise" in masks:
        for mean in cell.means:
            prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
            divergence = kl_divergence(Normal(mean, sigma), prior)
            loss = loss + INFORMATION_WEIGHT * divergence.sum()
    return loss, finals


def pointer_loss(parameters, tokens, targets, steps, raw, decoder, pointer):
    """Merity et al. 2016, one stream and one token after the other, in probabilities.

    `pointer["final_..."]` become what the next window may point at.
    """
    length = len(pointer["words"])
    loss, final_states, final_words = 0, [], []
    for stream in range(BATCH):
        seen = list(zip(pointer["words"][:, stream].tolist(), pointer["states"][:, stream]))
        for step, state, word, target in zip(steps, raw, tokens, targets):
            state = state[stream] if pointer["state_gradient"] else state[stream].detach()
            seen = (seen + [(word[stream].item(), state)])[-length:]
            places = [(w, h) for w, h in seen if w >= 0]
            query = torch.tanh(
                step[stream] @ parameters["pointer.weight"] + parameters["pointer.bias"]
            )
            scores = [query @ h for _, h in places] + [query @ parameters["pointer.sentinel"]]
            attention = torch.softmax(torch.stack(scores), dim=0)
            copied = sum(a for a, (w, _) in zip(attention, places) if w == target[stream].item())
            gate = attention[-1]
            logits = step[stream] @ decoder + parameters["decoder_bias"]
            vocabulary = torch.softmax(logits, dim=0)[target[stream]]
            loss = loss - torch.log(gate * vocabulary + copied) / BATCH
            loss = loss - SUPERVISION_WEIGHT * torch.log(gate + copied) / BATCH
        final_words.append(torch.tensor([w for w, _ in seen]))
        final_states.append(torch.stack([h for _, h in seen]))
    pointer["final_words"] = torch.stack(final_words, dim=1)
    pointer["final_states"] = torch.stack(final_states, dim=1)
    return loss


def draw_weights(parameters, noises, over):
    """All parameters, those that have a rho drawn, and the divergence of these from the prior.

    The prior draws each weight by itself from one of its two components, or all of a row.
    """
    values, divergence = dict(parameters), 0
    weights = [k for k in parameters if k != "decoder_bias" and not k.startswith("posterior.")]
    for index, (name, noise) in enumerate(zip(weights, noises, strict=True)):
        mean = parameters[name]
        rho = parameters[f"posterior.rho.{index}"].reshape(mean.shape)
        posterior = Normal(mean, softplus(rho) + 1e-5)
        weight = posterior.loc + posterior.scale * noise.reshape(mean.shape)
        shares = torch.tensor([PRIOR_PI, 1 - PRIOR_PI])
        sigmas = torch.tensor(PRIOR_LOG_SIGMAS).exp()
        each = Normal(0.0, sigmas).log_prob(weight.unsqueeze(-1))
        if over == "row":
            each = each.sum(-2)
        prior = torch.logsumexp(shares.log() + each, -1)
        divergence = divergence + posterior.log_prob(weight).sum() - prior.sum()
        values[name] = weight
    return values, divergence


def system(seed, cell, widths, masks, tied=False, in_recurrence=None, posterior=None, pointer=None):
    """A case: `widths` are those of the embedding and of each layer's output.

    `in_recurrence` is of noise on the output, `posterior` what a prior draws together, and
    `pointer` a pointer's length and whether its states have gradients.
    """
    draw = Draw(seed)
    d_output = widths[-1]
    shapes = {"embedding": [VOCAB_SIZE, widths[0]]}
    for layer, dims in enumerate(zip(widths, widths[1:])):
        own = cell.shapes(*dims)
        shapes |= {f"layers.{layer}.{type(cell).__name__}.{k}": v for k, v in own.items()}
    if not tied:
        shapes["decoder_weight"] = [d_output, VOCAB_SIZE]
    shapes["decoder_bias"] = [VOCAB_SIZE]
    if in_recurrence is not None:
        shapes["stochastic.rho"] = [d_output]
    if pointer is not None:
        shapes["pointer.weight"] = [d_output, d_output]
        shapes |= {"pointer.bias": [d_output], "pointer.sentinel": [d_output]}
    if posterior is not None:
        sizes = [math.prod(shape) for name, shape in shapes.items() if name != "decoder_bias"]
        shapes |= {f"posterior.rho.{index}": [size] for index, size in enumerate(sizes)}
    parameters = {name: draw.normal(*shape, scale=0.7) for name, shape in shapes.items()}
    tokens, targets = (draw.integers(VOCAB_SIZE, TIME, BATCH) for _ in range(2))
    states = [
        {part: draw.normal(BATCH, width, scale=0.5) for part in cell.state} for width in widths[1:]
    ]
    masks = masks(draw, tokens, widths)
    if posterior is not None:
        masks["weights"] = [draw.normal(size) for size in sizes]
    if pointer is not None:
        length, state_gradient = pointer
        words = draw.integers(VOCAB_SIZE, length, BATCH)
        words[:2, 0] = -1
        pointer = {"states": draw.normal(length, BATCH, d_output, scale=0.5), "words": words}
        pointer["state_gradient"] = state_gradient

    tracked = leaves(parameters)
    values, divergence = tracked, 0
    if posterior is not None:
        values, divergence = draw_weights(tracked, masks["weights"], posterior)
    loss, finals = language_model(
        cell, values, tokens, targets, states, masks, in_recurrence, pointer
    )
    loss = loss + DIVERGENCE_WEIGHT * divergence
    loss.backward()
    case = {
        "tokens": tokens,
        "targets": targets,
        "parameters": parameters,
        "state": states,
        "masks": masks,
        "loss": loss.item(),
        "gradients": gradients(tracked),
        "final_state": finals,
    }
    if pointer is not None:
        del pointer["state_gradient"]
        case["pointer"] = pointer
    return case


def word_mask(draw, tokens):
    """All occurrences of a word in one sequence share their mask."""
    words = draw.mixed_mask(BATCH, VOCAB_SIZE, prob=0.3)
    return torch.stack([words[torch.arange(BATCH), tokens_t] for tokens_t in tokens]).unsqueeze(2)


def no_masks(widths):
    return {"inter_layer": [None] * (len(widths) - 2), "layers": [{} for _ in widths[1:]]}


def variational(draw, tokens, widths):
    """Masks constant over the window: words, embedding, between layers, recurrences, output."""
    return {
        "words": word_mask(draw, tokens),
        "input": draw.mixed_mask(1, BATCH, widths[0]),
        "inter_layer": [draw.mixed_mask(1, BATCH, width) for width in widths[1:-1]],
        "layers": [{"recurrent": draw.mixed_mask(1, BATCH, width)} for width in widths[1:]],
        "output": draw.mixed_mask(1, BATCH, widths[-1]),
    }


def inside(input_groups, groups, draw, tokens, widths):
    """The same, but the masks on the layers' inputs lie inside the layers.

    Groups of gates have a mask each.
    """
    masks = {"words": word_mask(draw, tokens)} | no_masks(widths)
    for layer, d_input, width in zip(masks["layers"], widths, widths[1:]):
        layer["product"] = draw.mixed_mask(input_groups, BATCH, d_input)
        layer["recurrent"] = draw.mixed_mask(groups, BATCH, width)
    return masks | {"output": draw.mixed_mask(1, BATCH, widths[-1])}


def sru_masks(draw, tokens, widths):
    """Embedding and output: a mask per step; products: all layers; activations: all but the top."""
    layers = [{"product": draw.mixed_mask(1, BATCH, width)} for width in widths[:-1]]
    for layer, width in zip(layers[:-1], widths[1:]):
        layer["recurrent"] = draw.mixed_mask(1, BATCH, width)
    return {
        "input": draw.mixed_mask(TIME, BATCH, widths[0]),
        **no_masks(widths),
        "layers": layers,
        "output": draw.mixed_mask(TIME, BATCH, widths[-1]),
    }


def output_mask(draw, tokens, widths):
    """A mask per step on the output."""
    return no_masks(widths) | {"output": draw.mixed_mask(TIME, BATCH, widths[-1])}


def noise(draw, tokens, widths):
    """Noise on the output of the last layer, and a mask per step after it."""
    masks = output_mask(draw, tokens, widths)
    return masks | {"noise": draw.normal(TIME, BATCH, widths[-1])}


def awd_masks(draw, tokens, widths):
    """AWD-LSTM: a mask per window at each place and for each word, one on each recurrent matrix."""
    words = draw.mixed_mask(VOCAB_SIZE, prob=0.3)
    return {
        "words": words[tokens].unsqueeze(2),
        "input": draw.mixed_mask(1, BATCH, widths[0]),
        "inter_layer": [draw.mixed_mask(1, BATCH, width) for width in widths[1:-1]],
        "layers": [{"weight": draw.mixed_mask(1, width, 4 * width)} for width in widths[1:]],
        "output": draw.mixed_mask(1, BATCH, widths[-1]),
    }


def weight_drop(levels, gates, draw, tokens, widths):
    """Masks on the recurrent matrices and on what they multiply."""
    masks = no_masks(widths)
    for layer, width in zip(masks["layers"], widths[1:]):
        layer["recurrent"] = draw.mixed_mask(1, BATCH, width)
        layer["weight"] = draw.mixed_mask(levels, width, gates * width)
    return masks


SYSTEMS = {
    "vd_lstm": lambda: system(1, Lstm(), [3, 4, 5], variational),
    "vd_lstm_tied": lambda: system(2, Lstm(2, 1.0), [4, 5, 4], partial(inside, 1, 1), tied=True),
    "vd_lstm_separate": lambda: system(3, Lstm(), [3, 4, 4], partial(inside, 4, 4)),
    "sru": lambda: system(4, Sru(lambda cell: cell), [4, 5, 5, 4], sru_masks, tied=True),
    "sru_tanh": lambda: system(5, Sru(torch.tanh), [3, 4, 4], sru_masks),
    "rhn": lambda: system(6, Rhn(3), [3, 4], variational),
    "rhn_separate": lambda: system(7, Rhn(3), [3, 4], partial(inside, 1, 2)),
    "information": lambda: system(9, Lstm(1, 1.0), [3, 4, 5], noise, in_recurrence=True),
    "information_outside": lambda: system(10, Lstm(1, 1.0), [3, 4, 5], noise, in_recurrence=False),
    "pointer": lambda: system(13, Lstm(), [3, 4, 5], output_mask, pointer=(7, True)),
    "pointer_short": lambda: system(14, Lstm(), [3, 4, 5], output_mask, pointer=(3, True)),
    "pointer_detached": lambda: system(15, Lstm(), [3, 4, 5], output_mask, pointer=(7, False)),
    "bayes": lambda: system(11, Lstm(), [3, 4, 5], output_mask, posterior="weight"),
    "bayes_row": lambda: system(
        12, Lstm(2, 1.0), [4, 5, 4], output_mask, tied=True, posterior="row"
    ),
    "nas": lambda: system(8, Nas(), [3, 4, 5], partial(inside, 1, 1)),
    "awd_lstm": lambda: system(11, Lstm(2), [4, 6, 6, 4], awd_masks, tied=True),
    "rhn_weight_drop": lambda: system(12, Rhn(3), [3, 4], partial(weight_drop, 3, 2)),
    "nas_weight_drop": lambda: system(13, Nas(), [3, 4, 5], partial(weight_drop, 1, 8)),
}

if __name__ == "__main__":
    generate(__doc__, SYSTEMS)
