#!/usr/bin/env python3
"""The small scale of Table 4 in PyTorch, each seed without and with the penalty.

    python3 crates/anp-experiments/tests/reference/cifar.py ~/.local/share/anp/cifar-10 \\
        --out docs/curves/cifar_10_pytorch.json

Network, data, augmentation and optimiser are those of experiments/table4; the random numbers are
PyTorch's. The curves go to the file after each run; completed runs are skipped. Each epoch prints
one JSON line. It takes some twenty minutes on one core. `docs/curves/draw.py` draws the file beside
the `curve` of our records.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "anp-testing/python"))
from anp_reference.wide_resnet import WideResNet

MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(3, 1, 1)
STD = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(3, 1, 1)


def network(depth, width):
    net = WideResNet(depth, width, 10)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, gain=2**0.5)
            nn.init.zeros_(module.bias)
    return net


def load(folder, names, count):
    files = [np.fromfile(folder / f"{name}.bin", np.uint8).reshape(-1, 3073) for name in names]
    records = np.concatenate(files)[:count]
    return records[:, 1:].reshape(-1, 3, 32, 32), torch.from_numpy(records[:, 0].astype(np.int64))


def normalise(pixels):
    return torch.from_numpy((pixels.astype(np.float32) / 255 - MEAN) / STD)


def augment(pixels, random):
    padded = np.pad(pixels, ((0, 0), (0, 0), (4, 4), (4, 4)))
    crops = []
    for image, (top, left), flip in zip(
        padded, random.integers(0, 9, (len(pixels), 2)), random.integers(0, 2, len(pixels))
    ):
        crop = image[:, top : top + 32, left : left + 32]
        crops.append(crop[:, :, ::-1] if flip else crop)
    return np.stack(crops)


def epochs(args, seed, eta):
    """Train one network; yields one dictionary per epoch."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    train, labels = load(args.folder, batches, args.train_images)
    test, test_labels = load(args.folder, ["test_batch"], args.test_images)
    test = normalise(test)
    net = network(args.depth, args.width)
    for epoch in range(1, args.epochs + 1):
        started = time.time()
        rate = 0.1 * 0.2 ** sum(epoch > last for last in args.decay_after)
        # Made anew each epoch, so that the momentum is forgotten, as in the paper's code.
        optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=5e-4)
        net.train()
        order = random.permutation(len(train))
        nll = norm = 0.0
        for indices in np.array_split(order, range(128, len(order), 128)):
            logits, pooled = net(normalise(augment(train[indices], random)))
            loss = F.cross_entropy(logits, labels[indices])
            optimizer.zero_grad()
            (loss + eta / 2 * pooled.square().sum()).backward()
            optimizer.step()
            nll += loss.item() * len(indices)
            norm += pooled.detach().norm(dim=1).sum().item()
        net.eval()
        with torch.no_grad():
            logits = torch.cat([net(part)[0] for part in test.split(500)])
        yield {
            "epoch": epoch,
            "learning_rate": rate,
            "train_nll": nll / len(train),
            "test_nll": F.cross_entropy(logits, test_labels).item(),
            "test_accuracy": 100 * (logits.argmax(1) == test_labels).double().mean().item(),
            "activation_norm": norm / len(train),
            "seconds": round(time.time() - started, 1),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--etas", type=float, nargs="+", default=[0.0, 1e-4])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--decay-after", type=int, nargs="*", default=[5, 7])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = {
        name: getattr(args, name)
        for name in ["depth", "width", "train_images", "test_images", "epochs", "decay_after"]
    }
    result = {"pytorch": torch.__version__, "threads": args.threads, "recipe": recipe, "runs": []}
    if args.out.exists():
        earlier = json.loads(args.out.read_text())
        if earlier["recipe"] != recipe:
            raise SystemExit(f"{args.out} has another recipe: {earlier['recipe']}")
        result["runs"] = earlier["runs"]
    for seed in args.seeds:
        for eta in args.etas:
            if any((run["seed"], run["eta"]) == (seed, eta) for run in result["runs"]):
                continue
            curve = []
            for epoch in epochs(args, seed, eta):
                curve.append(epoch)
                print(json.dumps({"seed": seed, "eta": eta, **epoch}), flush=True)
            result["runs"].append({"seed": seed, "eta": eta, "curve": curve})
            args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
