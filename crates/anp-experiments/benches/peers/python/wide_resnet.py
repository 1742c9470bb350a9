"""A wide residual network's training steps (oneDNN on the CPU, cuDNN on NVIDIA GPUs)."""

from contextlib import nullcontext

import torch
from torch.nn import functional as F

from anp_reference.wide_resnet import WideResNet


class ImageTraining:
    """Training steps on one batch of noise."""

    def __init__(self, case, compiled, device, dtype):
        self.name = "PyTorch nn.Conv2d"
        self.model = WideResNet(case["num_layers"], case["d_hidden"], case["vocab_size"])
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=case["learning_rate"],
            momentum=0.9,
            weight_decay=case["weight_decay"],
            fused=True,
        )
        self.images = torch.randn(case["batch_size"], 3, 32, 32)
        bf16 = dtype == "bf16"
        if bf16:  # the layout that its convolutions in bfloat16 are fastest in
            self.model = self.model.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(case["batch_size"]) % case["vocab_size"]
        self.forward = torch.compile(self.model) if compiled else self.model
        self.autocast = (lambda: torch.autocast(device, torch.bfloat16)) if bf16 else nullcontext

    def step(self):
        with self.autocast():
            logits, _ = self.forward(self.images)
            loss = F.cross_entropy(logits, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
