"""A wide residual network in the layout of GitHub meliketoy/wide-resnet.pytorch.

It runs on oneDNN on the CPU and on cuDNN on NVIDIA GPUs.
"""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
        projects = before != channels or stride > 1
        self.shortcut = nn.Conv2d(before, channels, 1, stride=stride) if projects else nn.Identity()

    def forward(self, x):
        hidden = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(hidden))) + self.shortcut(x)


class WideResNet(nn.Module):
    def __init__(self, case):
        super().__init__()
        per_group, channels = (case["num_layers"] - 4) // 6, 16
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        blocks = []
        for group in range(3):
            for block in range(per_group):
                before, channels = channels, 16 * case["d_hidden"] << group
                blocks.append(Block(before, channels, 2 if group > 0 and block == 0 else 1))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, case["vocab_size"])

    def forward(self, images):
        hidden = F.relu(self.norm(self.blocks(self.conv(images))))
        return self.linear(hidden.mean(dim=(2, 3)))


class ImageTraining:
    """Training steps on one batch of noise."""

    def __init__(self, case, compiled, device, dtype):
        self.name = "PyTorch nn.Conv2d"
        self.model = WideResNet(case).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=case["learning_rate"],
            momentum=0.9,
            weight_decay=case["weight_decay"],
            fused=True,
        )
        self.images = torch.randn(case["batch_size"], 3, 32, 32)
        self.labels = torch.arange(case["batch_size"]) % case["vocab_size"]
        self.forward = torch.compile(self.model) if compiled else self.model
        rounds = dtype == "bf16"
        self.autocast = (lambda: torch.autocast(device, torch.bfloat16)) if rounds else nullcontext

    def step(self):
        with self.autocast():
            loss = F.cross_entropy(self.forward(self.images), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
