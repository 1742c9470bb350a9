"""The small scale of Table 4 in PyTorch: the same network, data, augmentation and optimiser as experiments/table4 has, with
PyTorch's random numbers. Each seed is trained without and with the penalty.

    python cifar.py ~/.local/share/anp/cifar-10 --seeds 1 2 3 --etas 0 1e-4 --out docs/curves/cifar_10_pytorch.json

The curves go to the file after each run; a run that is there already is not made again. One JSON line an epoch goes to stdout.
PyTorch 2, NumPy; CPU. `docs/curves/draw.py` draws the file beside the `curve` of our records.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(3, 1, 1)
STD = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(3, 1, 1)


def block(d_input, d_output, stride):
    module = nn.Module()
    module.norm1, module.norm2 = nn.BatchNorm2d(d_input), nn.BatchNorm2d(d_output)
    module.conv1 = nn.Conv2d(d_input, d_output, 3, 1, 1)
    module.conv2 = nn.Conv2d(d_output, d_output, 3, stride, 1)
    project = stride != 1 or d_input != d_output
    module.shortcut = nn.Conv2d(d_input, d_output, 1, stride) if project else nn.Identity()
    return module


class Net(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1)
        self.blocks = nn.ModuleList()
        d_input = 16
        for group in range(3):
            d_output = 16 * width << group
            for index in range((depth - 4) // 6):
                self.blocks.append(block(d_input, d_output, 2 if group and not index else 1))
                d_input = d_output
        self.norm = nn.BatchNorm2d(d_input, momentum=0.9)
        self.linear = nn.Linear(d_input, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=2**0.5)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.conv1(x)
        for it in self.blocks:
            y = it.conv1(F.relu(it.norm1(x)))
            x = it.conv2(F.relu(it.norm2(y))) + it.shortcut(x)
        pooled = F.relu(self.norm(x)).mean((2, 3))
        return self.linear(pooled), pooled


def load(folder, names, count):
    records = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, 3073) for name in names])
    records = records[:count]
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
    """Train one network; yields a dictionary an epoch."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    train, labels = load(args.folder, [f"data_batch_{i}.bin" for i in range(1, 6)], args.train_images)
    test, test_labels = load(args.folder, ["test_batch.bin"], args.test_images)
    test = normalise(test)
    net = Net(args.depth, args.width, 10)
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
    parser = argparse.ArgumentParser()
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
            raise SystemExit(f"{args.out} is of another recipe: {earlier['recipe']}")
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


main()
