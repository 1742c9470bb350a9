#!/usr/bin/env python3
"""PyTorch's side of the benchmark: one case in one process, driven through stdin and stdout.

    python3 peer.py '{"model": "lstm", "d_hidden": 512, ...}' --threads 2

The case is the JSON of `Case` in ../case.rs. The program prints {"name": ..., "versions": {...}}
once it is ready. Then for each line `step N` it takes N training steps, waits for the device, and
prints the seconds that took and the last step's loss. `quit` prints the device memory it has used,
and ends. All else goes to stderr.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch

# What the peers share with the generators of fixtures.
sys.path.append(str(Path(__file__).resolve().parents[4] / "anp-testing/python"))


def workload(case, args):
    """The case as an object whose `step()` returns a loss without waiting for it."""
    if args.products:
        import products

        return products.Products(case, args.dtype)
    if case["model"] == "wide_res_net":
        from wide_resnet import ImageTraining

        return ImageTraining(case, args.compile, args.device, args.dtype)
    if case["model"] == "lstm" and not args.loop:
        from lstm import Lstm as Model
    elif case["model"] in ("lstm", "vd_lstm"):
        from vd_lstm import VdLstm as Model
    elif case["model"] == "sru":
        from sru_lm import CompiledSru, PackageSru

        Model = CompiledSru if args.compile else PackageSru
    else:
        raise SystemExit(f"no such model: {case['model']}")
    from train import Evaluation, Training

    Task = Evaluation if case["mode"] == "evaluate" else Training
    return Task(case, Model(case, args.compile), args.device, args.dtype)


def versions():
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if "sru" in sys.modules:
        found["sru"] = sys.modules["sru"].__version__
    if torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["gpu"] = torch.cuda.get_device_name()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=json.loads)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile what it can compile")
    parser.add_argument("--loop", action="store_true", help="cells in a loop, no torch.nn.LSTM")
    parser.add_argument("--products", action="store_true", help="only the step's matrix products")
    args = parser.parse_args()

    # Compilers write to stdout, too; the answers keep it for themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    # cuDNN takes TF32 unless told otherwise.
    torch.backends.fp32_precision = "tf32" if args.dtype == "tf32" else "ieee"

    on_gpu = args.device != "cpu"
    # Only while building: a default device costs time at every operation.
    with torch.device(args.device):
        work = workload(args.case, args)
    print(json.dumps({"name": work.name, "versions": versions()}), file=answers)
    for line in sys.stdin:
        match line.split():
            case ["step", count]:
                start = time.perf_counter()
                for _ in range(int(count)):
                    loss = work.step()
                if on_gpu:
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - start
                print(json.dumps({"seconds": seconds, "loss": float(loss)}), file=answers)
            case ["quit"]:
                memory = torch.cuda.max_memory_reserved() if on_gpu else None
                print(json.dumps({"device_bytes": memory}), file=answers)
                return


if __name__ == "__main__":
    main()
