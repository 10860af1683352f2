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
