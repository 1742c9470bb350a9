"""The matrix products of a step and nothing else: what no fusing can save."""

import torch


class Products:
    name = "PyTorch products"

    def __init__(self, case, dtype):
        self.case = case
        self.dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
        backward = case["mode"] == "train"
        batch_size, seq_length, d_hidden = case["batch_size"], case["seq_length"], case["d_hidden"]
        rows = batch_size * seq_length
        self.products = []
        for _ in range(case["num_layers"]):
            d_gates = (3 if case["model"] == "sru" else 4) * d_hidden
            self.linear(rows, d_hidden, d_gates, backward)
            if case["model"] != "sru":
                self.recurrence(batch_size, seq_length, d_hidden, backward)
        self.linear(rows, d_hidden, case["vocab_size"], backward)

    def linear(self, m, k, n, backward):
        """`x w`, and of its gradient `dy wᵀ` and `xᵀ dy`."""
        x, w, y = torch.rand(m, k), torch.rand(n, k).t(), torch.rand(m, n)
        self.add(x, w, y)
        if backward:
            self.add(y, w.t(), torch.empty_like(x))
            self.add(x.t(), y, torch.empty(k, n))

    def recurrence(self, batch_size, seq_length, d_hidden, backward):
        """One product per step forward and backward, and one for the weight's gradient."""
        h, gates = torch.rand(batch_size, d_hidden), torch.rand(batch_size, 4 * d_hidden)
        w = torch.rand(4 * d_hidden, d_hidden).t()
        for _ in range(seq_length):
            self.add(h, w, gates)
        if backward:
            for _ in range(seq_length):
                self.add(gates, w.t(), torch.empty_like(h))
            rows = batch_size * seq_length
            left, right = torch.rand(d_hidden, rows), torch.rand(rows, 4 * d_hidden)
            self.add(left, right, torch.empty(d_hidden, 4 * d_hidden))

    def add(self, a, b, out):
        self.products.append([tensor.to(self.dtype) for tensor in (a, b, out)])

    @torch.inference_mode()
    def step(self):
        for a, b, out in self.products:
            torch.mm(a, b, out=out)
        return 0.0
