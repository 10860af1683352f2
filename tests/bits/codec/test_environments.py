"""A file in exact arithmetic decodes, and is the same file, wherever it is made."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.bits.codec.conftest import GOLDEN, TEXT
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SCRIPT = """
import hashlib, io, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[1]))
from nutshell.bits.codec import stream
from nutshell.bits.codec.container import Reader
from nutshell.runs import coding
golden = Path(sys.argv[2])
coder = coding.load(golden, "exact", lanes=3)
raw, file = (golden / "text.txt").read_bytes(), (golden / "text.nut").read_bytes()
packed, unpacked = io.BytesIO(), io.BytesIO()
stream.compress(io.BytesIO(raw), packed, coder)
stream.decompress(Reader(io.BytesIO(file), "text.nut"), unpacked, lambda _: coder)
print(hashlib.sha256(packed.getvalue()).hexdigest(), hashlib.sha256(unpacked.getvalue()).hexdigest())
"""


@pytest.mark.parametrize(
    ("threads", "settings"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (1, {"ATEN_CPU_CAPABILITY": "default"}),
        (2, {"ATEN_CPU_CAPABILITY": "avx2"}),
        (1, {"MKL_CBWR": "COMPATIBLE"}),
        (1, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
        (1, {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
        (1, {"NUMBA_CPU_NAME": "generic"}),
    ],
)
def test_one_file_everywhere(threads, settings):
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", SCRIPT, str(threads), str(GOLDEN)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert process.returncode == 0, process.stderr
    expected = [hashlib.sha256(content).hexdigest() for content in ((GOLDEN / "text.nut").read_bytes(), TEXT)]
    assert process.stdout.split() == expected


MEMORY = """
import io, random, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from nutshell.bits.codec import stream
from nutshell.runs import coding
words = (Path(sys.argv[1]) / "text.txt").read_bytes()[:400].split()
class Text(io.RawIOBase):
    left = int(sys.argv[2])
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return (b" ".join(random.choices(words, k=size // 4)) + b" " * size)[:size]
class Sink(io.RawIOBase):
    def write(self, content):
        return len(content)
stream.compress(Text(), Sink(), coding.load(Path(sys.argv[1]), "exact"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file():
    """A megabyte, and four of them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    sizes = []
    for size in (1 << 20, 4 << 20):
        command = [sys.executable, "-c", MEMORY, str(GOLDEN), str(size)]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
        assert process.returncode == 0, process.stderr
        sizes.append(int(process.stdout))
    assert sizes[1] < 1.05 * sizes[0]
