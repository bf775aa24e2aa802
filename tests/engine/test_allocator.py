"""A process that computes rows of all lengths does not grow with their number."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHAPES = """
import torch
from lorita.engine.numerics import choose_numerics

choose_numerics("bfloat16").apply()
x, weight = torch.randn(700, 512), torch.randn(1024, 512)

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) // 1024

def compute(lengths):
    for length in lengths:  # the longest first: memory that was freed is enough for the next
        torch.ops.mkldnn._linear_pointwise(x[:length], weight, None, "none", [], "")

compute(range(700, 600, -1))
before = resident()
compute(range(600, 300, -1))
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_new_shapes_cost_nothing_in_the_end() -> None:
    """oneDNN keeps compiled code by shape: 300 of them were 150 MiB and more."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_CACHE_CAPACITY")}
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], capture_output=True, text=True, env=clean, check=True
    )
    assert int(done.stdout) < 50


LIMITED = """
import resource, torch
from lorita.engine.memory import keep_memory

kept = keep_memory()
resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, resource.RLIM_INFINITY))
print(kept, keep_memory())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_limited_address_space_gets_its_memory_back() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
