"""A process that computes rows of many lengths does not grow with the number of lengths."""

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
    for length in lengths:  # longest first: freed memory is enough for the next
        torch.ops.mkldnn._linear_pointwise(x[:length], weight, None, "none", [], "")

compute(range(700, 600, -1))
before = resident()
compute(range(600, 300, -1))
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_new_shapes_need_no_more_memory() -> None:
    """oneDNN caches compiled code by shape: without a limit, 300 shapes took over 150 MiB."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_CACHE_CAPACITY")}
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], capture_output=True, text=True, env=clean, check=True
    )
    assert int(done.stdout) < 50


LIMITED = """
import resource, torch
from lorita.engine.allocator import keep_memory

kept = keep_memory()
resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, resource.RLIM_INFINITY))
print(kept, keep_memory())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_is_returned_under_a_limited_address_space() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
