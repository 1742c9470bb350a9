#!/usr/bin/env python3
"""One full training step of the LSTM language model, in float64.

    python3 crates/anp-experiments/tests/reference/lstm_step.py

Writes ../fixtures/lstm_step.json, with which ../training_step.rs compares its model: inputs,
parameters, dropout masks and carried state go in; hidden states, loss, penalty, every gradient, the
clipped step and the next state come out. Before that it checks itself against torch.nn.LSTM and
torch.optim.SGD.

Conventions
    tensors     time first: [seq_length, batch_size, ...]; flattened row by row in the JSON
    gates       order (i, f, g, o), stacked along the last axis of 4 * d_hidden
    cell        i, f, o = sigmoid, g = tanh of the gates' sums x @ w_input + b + h @ w_recurrent
                (+ b_recurrent where there are two biases), `forget_bias` added to f's;
                c' = f * c + i * g, h' = o * tanh(c')
    dropout     masks are inputs, already scaled by 1 / (1 - p), a fresh element for every step: on
                the embedding's output, on each layer's output below the top, and on the top layer's
                output; the recurrence itself sees the undropped h
    decoder     logits = dropped_top @ weight + bias; tied: weight is the embedding's transpose
    loss        sum over time of the mean over the batch of the negative log-likelihood, in nats,
                plus eta / 2 * sum of squares of the activation at the penalty's site
    step        one norm over all gradients; if it exceeds `grad_clip_norm`, all are scaled by
                grad_clip_norm / norm; then w -= learning_rate * gradient
"""

import math
import sys
from pathlib import Path

import torch
from torch.func import functional_call

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference import cells
from anp_reference.fixtures import Draw, generate, gradients, leaves

CASES = [
    {
        "name": "one_bias_untied_masks_clipped",
        "vocab_size": 11, "batch_size": 3, "seq_length": 4, "d_embed": 5, "d_hidden": 6,
        "num_layers": 2, "num_biases": 1, "zero_biases": True, "forget_bias": 1.0, "tied": False,
        "dropout": 0.5, "init_range": 0.5, "learning_rate": 1.0, "grad_clip_norm": 0.5,
        "penalties": [{"site": "output_dropped", "eta": 0.05}],
        "zero_state": False, "seed": 1,
    },
    {
        "name": "two_biases_no_masks_unclipped",
        "vocab_size": 11, "batch_size": 3, "seq_length": 4, "d_embed": 6, "d_hidden": 6,
        "num_layers": 2, "num_biases": 2, "zero_biases": False, "forget_bias": 0.0, "tied": False,
        "dropout": 0.0, "init_range": 0.5, "learning_rate": 1.0, "grad_clip_norm": 50.0,
        "penalties": [], "zero_state": False, "seed": 2,
    },
    {
        "name": "tied_masks_two_penalties_clipped",
        "vocab_size": 11, "batch_size": 2, "seq_length": 5, "d_embed": 6, "d_hidden": 6,
        "num_layers": 2, "num_biases": 1, "zero_biases": False, "forget_bias": 1.0, "tied": True,
        "dropout": 0.65, "init_range": 0.5, "learning_rate": 0.7, "grad_clip_norm": 1.0,
        "penalties": [
            {"site": "output_dropped", "eta": 0.05},
            {"site": "output_raw", "eta": 0.02},
        ],
        "zero_state": True, "seed": 3,
    },
]


def draw_inputs(case):
    """Token ids, parameters, masks and state of a case."""
    draw = Draw(case["seed"])
    vocab, batch, time = case["vocab_size"], case["batch_size"], case["seq_length"]
    d_embed, d_hidden, layers = case["d_embed"], case["d_hidden"], case["num_layers"]
    bound = case["init_range"]

    def weight(*shape):
        return draw.uniform(-bound, bound, *shape)

    def bias(width):
        drawn = weight(width)
        return torch.zeros_like(drawn) if case["zero_biases"] else drawn

    def mask(width):
        if case["dropout"] > 0:
            return draw.low_mask(time, batch, width, prob=case["dropout"])

    # Few distinct words in a window, so that rows of the embedding collect several gradients.
    stream = draw.integers(vocab, time + 1, batch)
    parameters = {"embedding": weight(vocab, d_embed)}
    for layer in range(layers):
        d_input = d_embed if layer == 0 else d_hidden
        parameters[f"layers.{layer}.w_input"] = weight(d_input, 4 * d_hidden)
        parameters[f"layers.{layer}.w_recurrent"] = weight(d_hidden, 4 * d_hidden)
        parameters[f"layers.{layer}.b_input"] = bias(4 * d_hidden)
        if case["num_biases"] == 2:
            parameters[f"layers.{layer}.b_recurrent"] = bias(4 * d_hidden)
    if not case["tied"]:
        parameters["decoder.weight"] = weight(d_hidden, vocab)
    parameters["decoder.bias"] = weight(vocab)

    def state(bound):
        drawn = draw.uniform(-bound, bound, layers, batch, d_hidden)
        return torch.zeros_like(drawn) if case["zero_state"] else drawn

    return {
        "inputs": stream[:-1],
        "targets": stream[1:],
        "parameters": parameters,
        "masks": {
            "embedding": mask(d_embed),
            "between": [mask(d_hidden) for _ in range(layers - 1)],
            "output": mask(d_hidden),
        },
        "initial_state": {"h": state(0.9), "c": state(2.0)},
    }


def lstm_layer(x, h, c, weights, forget_bias):
    """Run one layer over `x` [T, B, d_input]; returns hidden and cell states, [T, B, H] each."""
    hidden, cell = [], []
    for x_t in x:
        gates = x_t @ weights["w_input"] + weights["b_input"] + h @ weights["w_recurrent"]
        if "b_recurrent" in weights:
            gates = gates + weights["b_recurrent"]
        i, f, g, o = gates.chunk(4, dim=-1)
        h, c = cells.lstm(i, f + forget_bias, g, o, c)
        hidden.append(h)
        cell.append(c)
    return torch.stack(hidden), torch.stack(cell)


def layers(case, data, parameters):
    """Weights, initial states and output mask of each layer."""
    masks = data["masks"]["between"] + [data["masks"]["output"]]
    states = zip(data["initial_state"]["h"], data["initial_state"]["c"])
    for layer, (state, mask) in enumerate(zip(states, masks)):
        prefix = f"layers.{layer}."
        weights = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
        yield weights, state, mask


def dropped(x, mask):
    return x if mask is None else x * mask


def forward(case, data, parameters):
    """The network's activations by site, and its logits, [T, B, V]."""
    x = dropped(parameters["embedding"][data["inputs"]], data["masks"]["embedding"])
    sites = {"hidden": [], "cell": []}
    for weights, (h, c), mask in layers(case, data, parameters):
        hidden, cell = lstm_layer(x, h, c, weights, case["forget_bias"])
        sites["hidden"].append(hidden)
        sites["cell"].append(cell)
        x = dropped(hidden, mask)
    sites["output_raw"] = sites["hidden"][-1]
    sites["output_dropped"] = x
    weight = parameters["embedding"].T if case["tied"] else parameters["decoder.weight"]
    sites["logits"] = x @ weight + parameters["decoder.bias"]
    return sites


def token_nll(sites, data):
    """Negative log-likelihood of each target, nats, [T, B]."""
    log_probs = torch.log_softmax(sites["logits"], dim=-1)
    return -log_probs.gather(-1, data["targets"].unsqueeze(-1)).squeeze(-1)


def training_step(case, data):
    """Loss, gradients, clip and update of a case, and all that a test may want to look at."""
    parameters = leaves(data["parameters"])
    sites = forward(case, data, parameters)
    nll = token_nll(sites, data)
    nll_sum = nll.mean(dim=1).sum()
    penalties = [p["eta"] / 2 * sites[p["site"]].square().sum() for p in case["penalties"]]
    loss = nll_sum + sum(penalties)
    loss.backward()

    grads = gradients(parameters)
    norm = math.sqrt(sum(g.square().sum().item() for g in grads.values()))
    scale = min(1.0, case["grad_clip_norm"] / norm)
    rate = case["learning_rate"]
    updated = {k: data["parameters"][k] - rate * scale * g for k, g in grads.items()}
    return {
        "hidden": sites["hidden"],
        "cell": sites["cell"],
        "output_dropped": sites["output_dropped"],
        "logits": sites["logits"],
        "token_nll": nll,
        "nll_sum": nll_sum.item(),
        "nll_per_token": nll.mean().item(),
        "penalties": [p.item() for p in penalties],
        "loss": loss.item(),
        "gradients": grads,
        "grad_norm": norm,
        "grad_scale": scale,
        "updated": updated,
        "final_state": {
            "h": torch.stack([h[-1] for h in sites["hidden"]]),
            "c": torch.stack([c[-1] for c in sites["cell"]]),
        },
    }


def check_lambda_equivalence(case, data, expected):
    """The summed loss with half sums, over T, is the mean loss plus AR, alpha = eta * B * H / 2."""
    parameters = leaves(data["parameters"])
    sites = forward(case, data, parameters)
    time, batch = case["seq_length"], case["batch_size"]
    loss = token_nll(sites, data).mean()
    for penalty in case["penalties"]:
        activation = sites[penalty["site"]]
        alpha = penalty["eta"] * batch * case["d_hidden"] / 2
        loss = loss + alpha * activation.square().mean()
    loss.backward()
    close("λ-equivalence, loss", expected["loss"] / time, loss)
    for name, parameter in parameters.items():
        close(f"λ-equivalence, {name}", expected["gradients"][name] / time, parameter.grad)


def check_torch_lstm(case, data, expected):
    """The cell written out above is torch.nn.LSTM's.

    Its gates have the same order but transposed kernels, and it has no forget bias: that goes into
    the input bias of the f block.
    """
    d_hidden = case["d_hidden"]
    x = dropped(data["parameters"]["embedding"][data["inputs"]], data["masks"]["embedding"])
    forget_bias = torch.zeros(4 * d_hidden)
    forget_bias[d_hidden : 2 * d_hidden] = case["forget_bias"]
    for layer, (p, state, mask) in enumerate(layers(case, data, data["parameters"])):
        weights = {
            "weight_ih_l0": p["w_input"].T,
            "weight_hh_l0": p["w_recurrent"].T,
            "bias_ih_l0": p["b_input"] + forget_bias,
            "bias_hh_l0": p.get("b_recurrent", torch.zeros(4 * d_hidden)),
        }
        lstm = torch.nn.LSTM(x.shape[-1], d_hidden)
        state = tuple(part.unsqueeze(0) for part in state)
        hidden, (h, c) = functional_call(lstm, weights, (x, state))
        close(f"nn.LSTM layer {layer}, hidden", expected["hidden"][layer], hidden)
        close(f"nn.LSTM layer {layer}, h", expected["final_state"]["h"][layer], h[0])
        close(f"nn.LSTM layer {layer}, c", expected["final_state"]["c"][layer], c[0])
        x = dropped(hidden, mask)


def check_torch_training_step(case, data, expected):
    """The same step by torch.nn.functional.cross_entropy, clip_grad_norm_ and optim.SGD."""
    parameters = leaves(data["parameters"])
    optimizer = torch.optim.SGD(parameters.values(), lr=case["learning_rate"])
    sites = forward(case, data, parameters)
    logits, targets = sites["logits"].flatten(0, 1), data["targets"].flatten()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / case["batch_size"]
    for penalty in case["penalties"]:
        loss = loss + penalty["eta"] / 2 * sites[penalty["site"]].norm() ** 2
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), case["grad_clip_norm"])
    optimizer.step()
    close("clip_grad_norm_", expected["grad_norm"], norm)
    for name, parameter in parameters.items():
        # clip_grad_norm_ divides by norm + 1e-6.
        close(f"SGD, {name}", expected["updated"][name], parameter, tolerance=1e-5)


def close(what, ours, other, tolerance=1e-12):
    ours, other = (torch.as_tensor(x).detach() for x in (ours, other))
    if not torch.allclose(ours, other, rtol=tolerance, atol=tolerance):
        worst = (ours - other).abs().max()
        raise SystemExit(f"{what}: differs by {worst:.3e}, more than {tolerance:.0e}")


def make_case(case):
    data = draw_inputs(case)
    expected = training_step(case, data)
    clipped = expected["grad_norm"] > case["grad_clip_norm"]
    if clipped != case["name"].endswith("_clipped"):
        raise SystemExit(f"{case['name']}: gradient norm {expected['grad_norm']} belies its name")
    check_lambda_equivalence(case, data, expected)
    check_torch_lstm(case, data, expected)
    check_torch_training_step(case, data, expected)
    config = {k: v for k, v in case.items() if k not in ("name", "seed", "init_range")}
    return {"name": case["name"], "config": config, **data, "expected": expected}


def fixture():
    return {"cases": [make_case(case) for case in CASES]}


if __name__ == "__main__":
    generate(__doc__, {"lstm_step": fixture}, one_line=lambda value: False)
