"""What is the same for every language model: loss, clip, update; and evaluation without them."""

from contextlib import nullcontext

import torch
from torch.nn import functional as F

import text


def loss_terms(decoder_weight, decoder_bias, dropped, targets, eta):
    """The loss, with and without the penalty: nats summed over steps, averaged over the batch."""
    batch_size = targets.shape[1]
    logits = F.linear(dropped.flatten(0, 1), decoder_weight, decoder_bias)
    nll = F.cross_entropy(logits, targets.flatten(), reduction="sum") / batch_size
    penalty = 0.5 * eta * dropped.float().square().sum() if eta > 0 else 0.0
    return nll + penalty, nll.detach()


class Task:
    def __init__(self, case, model, device, dtype):
        self.name = model.name
        self.case = case
        self.model = model
        self.windows = text.windows(case)
        self.state = model.zero_state(case["batch_size"])
        bf16 = dtype == "bf16"
        self.autocast = (lambda: torch.autocast(device, torch.bfloat16)) if bf16 else nullcontext
        self.loss_terms = torch.compile(loss_terms) if model.compiled else loss_terms

    def forward(self, eta):
        inputs, targets = next(self.windows)
        with self.autocast():
            dropped, self.state = self.model(inputs, self.state)
            return self.loss_terms(*self.model.decoder(), dropped, targets, eta)


class Training(Task):
    """Each step is one window of truncated back-propagation with SGD."""

    def __init__(self, case, model, device, dtype):
        super().__init__(case, model, device, dtype)
        model.train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=case["learning_rate"], fused=True)

    def step(self):
        loss, nll = self.forward(self.case["eta"])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.case["clip"], foreach=True)
        if self.case["weight_decay"] > 0:  # decoupled, and not times the learning rate
            with torch.no_grad():
                torch._foreach_mul_(self.parameters, 1 - self.case["weight_decay"])
        self.optimizer.step()
        self.state = [state.detach() for state in self.state]
        return nll


class Evaluation(Task):
    """Each step is one window forward."""

    def __init__(self, case, model, device, dtype):
        super().__init__(case, model, device, dtype)
        model.eval()

    @torch.inference_mode()
    def step(self):
        return self.forward(0.0)[1]
