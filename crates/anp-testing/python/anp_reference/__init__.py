"""What the generators of test fixtures and the PyTorch peers of the benchmark share.

    fixtures        seeded numbers, gradients, the format and the command line of a generator
    cells           one step of each recurrent layer
    wide_resnet     wide residual networks

A generator stands in tests/reference of the crate that it belongs to and finds this package by its
path. Its header says how to run it; all of them need what ../requirements.txt lists and no GPU:

    python3 -m venv venv && venv/bin/pip install -r crates/anp-testing/python/requirements.txt
    venv/bin/python crates/anp-core/tests/reference/penalty.py

Fixtures name the versions that wrote them. Others, or another processor, may change last digits.
"""
