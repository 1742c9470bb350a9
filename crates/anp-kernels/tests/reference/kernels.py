#!/usr/bin/env python3
"""Every operation of this crate by PyTorch's autograd, in float64: values and all gradients.

    python3 crates/anp-kernels/tests/reference/kernels.py

Writes one fixture per operation to ../fixtures, with which ../reference.rs compares.

A case has `inputs`, `outputs`, `upstream` (a weight for each element of an output) and `gradients`:
those of sum(outputs * upstream) with respect to the inputs. An output without upstream has no part
in that loss. Sequences are time first.

Conventions
    masks               constant over a sequence, already scaled by 1 / (1 - p)
    precision           "bf16": the operands of every matrix product, forward and backward, are
                        rounded to bfloat16 first; products and sums stay in float64
    lstm                gates i, f, g, o along the last axis; `gates` is the input product of all
                        steps; a mask has one group for all gates or one per gate
    stacked_lstm        torch.nn.LSTM's own names, layouts and results; no mask
    cross_entropy       a tied weight is [vocab_size, d_hidden], an own one its transpose; `terms`
                        are the sum of a token's squared logits, the entropy of its distribution and
                        the logarithm of its partition function, in nats
    sru                 v1, the axis of size k of `product` holds candidate, forget gate, reset gate
                        and, if there are four, the highway term; else the highway term is `input`;
                        the bias is that of the two gates;
                        h = r * g(c) * mask + (1 - r) * highway
    rhn                 along the last axis h, then t; the carry gate is 1 - t; the input product
                        enters the first micro-step only; a mask has one group for both or one each
    conv2d              torch.nn.functional.conv2d's own layouts
    batch_norm          a batch's `variance` is the biased one that it is normalised by; a case
                        whose inputs have `mean` and `variance` is normalised by these constants
    batch_norm_layer    torch.nn.BatchNorm2d after two batches in training: running statistics, and
                        the second batch once more in evaluation
    sgd                 one norm over all gradients, of which all become
                        grad * min(1, max_norm / norm); then w *= 1 - decoupled_decay; then
                        grad += coupled_decay * w and torch.optim.SGD. Rows of a sparse gradient
                        that come twice are added first
"""

import sys
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference import cells
from anp_reference.fixtures import Draw, generate, gradients, leaves


def differentiate(draw, inputs, constants, forward, without_upstream=()):
    """Outputs of forward(**inputs, **constants) and gradients of a random weighted sum of them."""
    tracked = leaves(inputs)
    outputs = forward(**tracked, **constants)
    upstream = {
        name: draw.normal(*output.shape)
        for name, output in outputs.items()
        if name not in without_upstream
    }
    sum((outputs[name] * weight).sum() for name, weight in upstream.items()).backward()
    return {
        "inputs": inputs | constants,
        "outputs": outputs,
        "upstream": upstream,
        "gradients": gradients(tracked),
    }


def rounded(tensor):
    return tensor.to(torch.bfloat16).to(tensor.dtype)


class RoundedProduct(torch.autograd.Function):
    """A product of rounded operands, whose gradients are such products, too."""

    @staticmethod
    def forward(ctx, left, right):
        ctx.save_for_backward(left, right)
        return rounded(left) @ rounded(right)

    @staticmethod
    def backward(ctx, grad):
        left, right = ctx.saved_tensors
        grad = rounded(grad)
        return grad @ rounded(right).T, rounded(left).T @ grad


class RoundedValue(torch.autograd.Function):
    """An operand: rounded, with its gradient passed on as it is."""

    @staticmethod
    def forward(ctx, operand):
        return rounded(operand)

    @staticmethod
    def backward(ctx, grad):
        return grad


class RoundedGradient(torch.autograd.Function):
    """A result: as it is, with its gradient rounded, which is an operand of other products."""

    @staticmethod
    def forward(ctx, result):
        return result.clone()

    @staticmethod
    def backward(ctx, grad):
        return rounded(grad)


PRODUCTS = {"full": torch.matmul, "bf16": RoundedProduct.apply}


def recurrent(state, weight, mask, precision):
    """state @ weight, where each group of the mask belongs to an equal part of the columns."""
    product = PRODUCTS[precision]
    if mask is None:
        return product(state, weight)
    groups = weight.chunk(mask.shape[0], dim=1)
    return torch.cat([product(state * m, w) for m, w in zip(mask, groups)], dim=1)


# --- Matrix product


def matmul_case(name, seed, rows, inner, columns, precision):
    draw = Draw(seed)
    inputs = {"left": draw.normal(rows, inner), "right": draw.normal(inner, columns)}

    def forward(left, right):
        return {"product": PRODUCTS[precision](left, right)}

    return {"name": name, "precision": precision, **differentiate(draw, inputs, {}, forward)}


def matmul_cases():
    return [
        matmul_case("full", 101, 3, 4, 5, "full"),
        matmul_case("bf16", 102, 3, 4, 5, "bf16"),
        matmul_case("bf16_odd", 103, 17, 33, 19, "bf16"),
        matmul_case("bf16_smallest", 104, 1, 1, 1, "bf16"),
    ]


# --- LSTM over a sequence


def lstm(gates, bias, weight_hidden, hidden0, cell0, forget_bias, precision, mask=None):
    hidden, cell = hidden0, cell0
    all_hidden, all_cell = [], []
    for gates_t in gates:
        sums = gates_t + bias + recurrent(hidden, weight_hidden, mask, precision)
        i, f, g, o = sums.chunk(4, dim=1)
        hidden, cell = cells.lstm(i, f + forget_bias, g, o, cell)
        all_hidden.append(hidden)
        all_cell.append(cell)
    return {"hidden": torch.stack(all_hidden), "cell": torch.stack(all_cell)}


def lstm_case(
    name,
    seed,
    time,
    batch,
    width,
    forget_bias=0.0,
    groups=0,
    without_upstream=(),
    precision="full",
):
    draw = Draw(seed)
    inputs = {
        "gates": draw.normal(time, batch, 4 * width),
        "bias": draw.normal(4 * width),
        "weight_hidden": draw.normal(width, 4 * width),
        "hidden0": draw.normal(batch, width, scale=0.5),
        "cell0": draw.normal(batch, width),
    }
    constants = {"mask": draw.mask(groups, batch, width)} if groups else {}
    forward = partial(lstm, forget_bias=forget_bias, precision=precision)
    case = differentiate(draw, inputs, constants, forward, without_upstream)
    return {"name": name, "forget_bias": forget_bias, "precision": precision, **case}


def lstm_cases():
    return [
        lstm_case("plain", 1, 3, 2, 3),
        lstm_case("forget_bias", 2, 3, 2, 3, forget_bias=1.0),
        lstm_case("one_mask", 3, 3, 2, 3, groups=1),
        lstm_case("a_mask_per_gate", 4, 4, 2, 3, forget_bias=0.5, groups=4),
        lstm_case("hidden_only", 5, 3, 2, 2, groups=1, without_upstream=["cell"]),
        lstm_case("cell_only", 6, 3, 2, 2, without_upstream=["hidden"]),
        lstm_case("smallest", 7, 1, 1, 1),
        lstm_case("bf16", 8, 5, 3, 7, precision="bf16"),
        lstm_case("bf16_one_mask", 9, 9, 2, 5, groups=1, precision="bf16"),
        lstm_case("bf16_a_mask_per_gate", 10, 4, 2, 3, groups=4, precision="bf16"),
    ]


def stacked_lstm_case(name, seed, time, batch, d_input, width, layers, bias=True):
    """torch.nn.LSTM itself, its final states among the outputs."""
    draw = Draw(seed)
    model = torch.nn.LSTM(d_input, width, layers, bias=bias)
    weights = {key: draw.normal(*p.shape, scale=0.7) for key, p in model.named_parameters()}
    inputs = {
        "input": draw.normal(time, batch, d_input),
        "hidden0": draw.normal(layers, batch, width, scale=0.5),
        "cell0": draw.normal(layers, batch, width),
        **weights,
    }

    def forward(input, hidden0, cell0, **weights):
        output, (hidden, cell) = torch.func.functional_call(
            model, weights, (input, (hidden0, cell0))
        )
        return {"output": output, "hidden": hidden, "cell": cell}

    case = differentiate(draw, inputs, {}, forward)
    return {"name": name, "num_layers": layers, "bias": bias, **case}


def stacked_lstm_cases():
    return [
        stacked_lstm_case("one_layer", 11, 3, 2, 3, 2, 1),
        stacked_lstm_case("two_layers", 12, 4, 2, 2, 3, 2),
        stacked_lstm_case("without_bias", 13, 3, 1, 2, 2, 3, bias=False),
    ]


# --- Linear map and cross-entropy


def cross_entropy(hidden, weight, bias, targets, tied, terms, precision):
    logits = PRODUCTS[precision](hidden, weight.T if tied else weight) + bias
    outputs = {"nll": F.cross_entropy(logits, targets, reduction="none")}
    if terms:
        outputs["square"] = logits.pow(2).sum(dim=1)
        outputs["entropy"] = torch.distributions.Categorical(logits=logits).entropy()
        outputs["log_partition"] = logits.logsumexp(dim=1)
    return outputs


def cross_entropy_case(
    name,
    seed,
    tokens,
    width,
    vocab,
    tied,
    terms=False,
    scale=1.0,
    without_upstream=(),
    precision="full",
):
    draw = Draw(seed)
    inputs = {
        "hidden": draw.normal(tokens, width),
        "weight": draw.normal(*((vocab, width) if tied else (width, vocab)), scale=scale),
        "bias": draw.normal(vocab),
    }
    targets = draw.integers(vocab, tokens)
    options = {"tied": tied, "terms": terms, "precision": precision}
    forward = partial(cross_entropy, targets=targets, **options)
    case = differentiate(draw, inputs, {}, forward, without_upstream)
    return {"name": name, **options, "targets": targets.tolist(), **case}


def cross_entropy_cases():
    def alone(name, seed, tokens, vocab, tied, *terms):
        others = {"nll", "square", "entropy", "log_partition"} - set(terms)
        return cross_entropy_case(
            name, seed, tokens, 3, vocab, tied, terms=True, without_upstream=sorted(others)
        )

    return [
        cross_entropy_case("own_weight", 21, 4, 3, 5, tied=False),
        cross_entropy_case("tied_weight", 22, 4, 3, 5, tied=True),
        cross_entropy_case("large_logits", 23, 4, 3, 5, tied=False, scale=100.0),
        cross_entropy_case("smallest", 24, 1, 1, 2, tied=True),
        cross_entropy_case("all_terms", 25, 5, 2, 4, tied=False, terms=True),
        cross_entropy_case("all_terms_tied", 26, 3, 3, 5, tied=True, terms=True),
        alone("square", 27, 3, 5, False, "nll", "square"),
        alone("entropy", 28, 3, 5, True, "nll", "entropy"),
        alone("log_partition", 29, 3, 5, True, "nll", "log_partition"),
        alone("square_alone", 30, 3, 4, True, "square"),
        cross_entropy_case("bf16", 111, 7, 5, 9, tied=False, precision="bf16"),
        cross_entropy_case("bf16_tied", 112, 7, 5, 9, tied=True, precision="bf16"),
        cross_entropy_case("bf16_terms", 113, 4, 3, 6, tied=True, terms=True, precision="bf16"),
    ]


# --- SRU over a sequence


def sru(product, bias, cell0, activation, input=None, mask=None):
    candidate, forget, reset, *highway = product.unbind(dim=2)
    activation = {"identity": lambda cell: cell, "tanh": torch.tanh, "relu": torch.relu}[activation]
    forget, reset = torch.sigmoid(forget + bias[0]), torch.sigmoid(reset + bias[1])
    cell, all_cell, all_hidden = cell0, [], []
    for step in zip(candidate, forget, reset, highway[0] if highway else input):
        hidden, cell = cells.sru(*step, cell, activation, 1 if mask is None else mask)
        all_cell.append(cell)
        all_hidden.append(hidden)
    return {"hidden": torch.stack(all_hidden), "cell": torch.stack(all_cell)}


def sru_case(
    name, seed, time, batch, width, k, activation="identity", masked=False, without_upstream=()
):
    draw = Draw(seed)
    inputs = {
        "product": draw.normal(time, batch, k, width),
        "bias": draw.normal(2, width),
        "cell0": draw.normal(batch, width),
    }
    if k == 3:
        inputs["input"] = draw.normal(time, batch, width)
    constants = {"mask": draw.mask(batch, width)} if masked else {}
    forward = partial(sru, activation=activation)
    case = differentiate(draw, inputs, constants, forward, without_upstream)
    return {"name": name, "k": k, "activation": activation, **case}


def sru_cases():
    return [
        sru_case("highway_is_the_input", 31, 4, 2, 3, 3),
        sru_case("highway_is_a_product", 32, 4, 2, 3, 4),
        sru_case("tanh", 33, 3, 2, 3, 3, activation="tanh"),
        sru_case("mask", 34, 3, 2, 4, 3, masked=True),
        sru_case("tanh_mask_product", 35, 3, 2, 4, 4, activation="tanh", masked=True),
        sru_case("relu", 39, 3, 2, 3, 3, activation="relu"),
        sru_case("hidden_only", 36, 3, 2, 2, 3, without_upstream=["cell"]),
        sru_case("cell_only", 37, 3, 2, 2, 4, without_upstream=["hidden"]),
        sru_case("smallest", 38, 1, 1, 1, 3),
    ]


# --- RHN over a sequence


def rhn(gates, bias, weight, state0, precision, mask=None):
    state, outputs = state0, []
    for gates_t in gates:
        for level, (weight_l, bias_l) in enumerate(zip(weight, bias)):
            product = recurrent(state, weight_l, mask, precision)
            sums = product + bias_l + (gates_t if level == 0 else 0)
            state = cells.rhn(*sums.chunk(2, dim=1), state)
        outputs.append(state)
    return {"output": torch.stack(outputs)}


def rhn_case(name, seed, time, batch, width, depth, groups=0, precision="full"):
    draw = Draw(seed)
    inputs = {
        "gates": draw.normal(time, batch, 2 * width),
        "bias": draw.normal(depth, 2 * width),
        "weight": draw.normal(depth, width, 2 * width),
        "state0": draw.normal(batch, width, scale=0.5),
    }
    constants = {"mask": draw.mask(groups, batch, width)} if groups else {}
    case = differentiate(draw, inputs, constants, partial(rhn, precision=precision))
    return {"name": name, "depth": depth, "precision": precision, **case}


def rhn_cases():
    return [
        rhn_case("depth_1", 41, 3, 2, 3, 1),
        rhn_case("depth_2_one_mask", 42, 3, 2, 3, 2, groups=1),
        rhn_case("depth_3_two_masks", 43, 3, 2, 3, 3, groups=2),
        rhn_case("smallest", 44, 1, 1, 1, 1),
        rhn_case("bf16", 45, 5, 3, 5, 2, precision="bf16"),
        rhn_case("bf16_one_mask", 46, 4, 2, 3, 2, groups=1, precision="bf16"),
        rhn_case("bf16_two_masks", 47, 3, 2, 3, 3, groups=2, precision="bf16"),
    ]


# --- Squared norm


def square_norm(activation):
    return {"square": activation.pow(2).sum().reshape(1)}


def square_norm_case(name, seed, *shape):
    draw = Draw(seed)
    activation = draw.normal(*shape)
    return {"name": name, **differentiate(draw, {"activation": activation}, {}, square_norm)}


def square_norm_cases():
    return [
        square_norm_case("sequence", 51, 3, 2, 5),
        square_norm_case("one_element", 52, 1, 1, 1),
    ]


# --- Convolution


def conv2d_case(
    name, seed, batch, channels, size, kernel, stride=1, padding=0, bias=True, precision="full"
):
    draw = Draw(seed)
    inputs = {
        "input": draw.normal(batch, channels[0], *size),
        "weight": draw.normal(channels[1], channels[0], *kernel),
    }
    if bias:
        inputs["bias"] = draw.normal(channels[1])
    stride, padding = [[n, n] if isinstance(n, int) else list(n) for n in (stride, padding)]

    def forward(input, weight, bias=None):
        if precision == "full":
            return {"output": F.conv2d(input, weight, bias, stride=stride, padding=padding)}
        input, weight = RoundedValue.apply(input), RoundedValue.apply(weight)
        output = F.conv2d(input, weight, None, stride=stride, padding=padding)
        output = RoundedGradient.apply(output)
        return {"output": output if bias is None else output + bias[:, None, None]}

    case = differentiate(draw, inputs, {}, forward)
    return {"name": name, "precision": precision, "stride": stride, "padding": padding, **case}


def conv2d_cases():
    return [
        conv2d_case("three_by_three", 81, 2, (3, 4), (5, 6), (3, 3), padding=1, bias=False),
        conv2d_case("bias", 82, 2, (2, 9), (4, 4), (3, 3), padding=1),
        conv2d_case("stride_2", 83, 2, (3, 2), (7, 6), (3, 3), stride=2, padding=1),
        conv2d_case("one_by_one", 84, 3, (4, 3), (3, 5), (1, 1)),
        conv2d_case("one_by_one_stride_2", 85, 1, (3, 4), (5, 6), (1, 1), stride=2, bias=False),
        conv2d_case("without_padding", 86, 1, (1, 2), (5, 4), (3, 2)),
        conv2d_case("uneven", 87, 2, (2, 3), (6, 9), (2, 5), stride=(3, 2), padding=(1, 2)),
        conv2d_case("smallest", 88, 1, (1, 1), (1, 1), (1, 1)),
        conv2d_case("bf16", 89, 2, (3, 4), (5, 6), (3, 3), padding=1, precision="bf16"),
        conv2d_case("bf16_stride_2", 90, 1, (2, 3), (5, 4), (3, 3), 2, 1, False, "bf16"),
    ]


# --- Batch normalisation


def batch_norm_case(name, seed, *shape, epsilon=1e-5, relu=False, given=False):
    draw = Draw(seed)
    channels = shape[1]
    inputs = {
        "input": draw.normal(*shape, scale=2.0) + draw.normal(1, channels, 1, 1),
        "gamma": draw.normal(channels),
        "beta": draw.normal(channels),
    }
    constants = {}
    if given:
        constants = {"mean": draw.normal(channels), "variance": draw.normal(channels).square()}

    def forward(input, gamma, beta, mean=None, variance=None):
        output = F.batch_norm(input, mean, variance, gamma, beta, training=not given, eps=epsilon)
        if not given:
            variance, mean = torch.var_mean(input.detach(), dim=(0, 2, 3), correction=0)
        return {"output": F.relu(output) if relu else output, "mean": mean, "variance": variance}

    without_upstream = ["mean", "variance"]
    case = differentiate(draw, inputs, constants, forward, without_upstream)
    return {"name": name, "epsilon": epsilon, "relu": relu, **case}


def batch_norm_cases():
    return [
        batch_norm_case("batch", 91, 2, 3, 4, 5),
        batch_norm_case("batch_relu", 92, 3, 2, 3, 3, relu=True),
        batch_norm_case("large_epsilon", 93, 2, 2, 3, 2, relu=True, epsilon=0.5),
        batch_norm_case("given", 94, 2, 3, 2, 4, given=True),
        batch_norm_case("given_relu", 95, 2, 2, 3, 3, relu=True, given=True),
        batch_norm_case("one_channel", 96, 1, 1, 2, 2),
    ]


def batch_norm_layer_case(name, seed, *shape, epsilon, momentum):
    draw = Draw(seed)
    layer = torch.nn.BatchNorm2d(shape[1], eps=epsilon, momentum=momentum)
    inputs = {
        "first": draw.normal(*shape, scale=2.0) + 1,
        "second": draw.normal(*shape),
        "gamma": draw.normal(shape[1]),
        "beta": draw.normal(shape[1]),
    }
    with torch.no_grad():
        layer.weight.copy_(inputs["gamma"])
        layer.bias.copy_(inputs["beta"])
        layer(inputs["first"])
        layer(inputs["second"])
        evaluated = layer.eval()(inputs["second"])
    outputs = {
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
        "evaluated": evaluated,
    }
    return {
        "name": name,
        "epsilon": epsilon,
        "momentum": momentum,
        "inputs": inputs,
        "outputs": outputs,
        "upstream": {},
        "gradients": {},
    }


def batch_norm_layer_cases():
    return [
        batch_norm_layer_case("usual", 97, 2, 3, 2, 2, epsilon=1e-5, momentum=0.1),
        batch_norm_layer_case("other", 98, 3, 2, 1, 1, epsilon=1e-3, momentum=0.4),
    ]


# --- Optimiser step


def sgd_case(name, seed, max_norm=None, momentum=None, decays=(None, None, None), rows=None):
    """Three steps on a matrix, a vector and an embedding.

    The embedding has gradients of `rows` "alone", dense ones too, or, without `rows`, dense ones.
    """
    draw = Draw(seed)
    shapes = [(3, 4), (4,), (5, 2)]
    parameters = [draw.normal(*shape).requires_grad_() for shape in shapes]
    options = momentum or {"factor": 0.0, "dampening": 0.0, "nesterov": False}

    def decay(index, kind):
        return (decays[index] or {}).get(kind, 0.0)

    optimizer = torch.optim.SGD(
        [{"params": [p], "weight_decay": decay(i, "coupled")} for i, p in enumerate(parameters)],
        lr=0.5,
        momentum=options["factor"],
        dampening=options["dampening"],
        nesterov=options["nesterov"],
    )
    case = {
        "name": name,
        "learning_rate": 0.5,
        "max_norm": max_norm,
        "momentum": momentum,
        "decays": list(decays),
        "parameters": [p.detach().clone() for p in parameters],
        "steps": [],
    }
    for _ in range(3):
        gradients = [draw.normal(*shape) for shape in shapes]
        step = {"gradients": gradients.copy()}
        if rows is not None:
            # Row 3 comes twice, rows 0 and 2 never.
            indices, values = [3, 1, 3, 4], draw.normal(4, 2)
            if rows == "alone":
                gradients[2] = torch.zeros(shapes[2])
                step["gradients"].pop()
            gradients[2] = gradients[2].index_add(0, torch.tensor(indices), values)
            step["rows"] = {"indices": indices, "values": values}
        norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
        scale = 1.0 if max_norm is None else min(1.0, max_norm / norm.item())
        with torch.no_grad():
            for index, (parameter, gradient) in enumerate(zip(parameters, gradients)):
                parameter.mul_(1 - decay(index, "decoupled"))
                parameter.grad = gradient * scale
        optimizer.step()
        step["norm"] = norm.item()
        step["parameters"] = [p.detach().clone() for p in parameters]
        case["steps"].append(step)
    return case


def sgd_cases():
    momentum = {"factor": 0.9, "dampening": 0.0, "nesterov": False}
    coupled, decoupled = {"coupled": 0.1}, {"decoupled": 0.01}
    return [
        sgd_case("plain", 61),
        sgd_case("clipped", 62, max_norm=0.5),
        sgd_case("not_clipped", 63, max_norm=100.0),
        sgd_case("decays", 64, max_norm=1.0, decays=[coupled, None, decoupled]),
        sgd_case("momentum", 65, max_norm=1.0, momentum=momentum),
        sgd_case(
            "momentum_dampening_decays", 66, max_norm=1.0,
            momentum=momentum | {"dampening": 0.1}, decays=[coupled, decoupled, None],
        ),
        sgd_case("nesterov", 67, momentum=momentum | {"nesterov": True}),
        sgd_case(
            "nesterov_decays", 73, max_norm=1.0,
            momentum=momentum | {"nesterov": True}, decays=[coupled, decoupled, None],
        ),
        sgd_case("rows", 68, max_norm=1.0, rows="alone"),
        sgd_case("rows_not_clipped", 70, rows="alone"),
        sgd_case("rows_and_dense", 71, max_norm=1.0, rows="too"),
        sgd_case("rows_decay", 72, max_norm=1.0, rows="alone", decays=[None, None, coupled]),
        sgd_case(
            "rows_decay_momentum", 69, max_norm=1.0, rows="alone",
            momentum=momentum, decays=[None, None, decoupled],
        ),
    ]


OPERATIONS = {
    "matmul": matmul_cases,
    "lstm": lstm_cases,
    "stacked_lstm": stacked_lstm_cases,
    "cross_entropy": cross_entropy_cases,
    "sru": sru_cases,
    "rhn": rhn_cases,
    "square_norm": square_norm_cases,
    "conv2d": conv2d_cases,
    "batch_norm": batch_norm_cases,
    "batch_norm_layer": batch_norm_layer_cases,
    "sgd": sgd_cases,
}

if __name__ == "__main__":
    generate(__doc__, {name: lambda c=c: {"cases": c()} for name, c in OPERATIONS.items()})
