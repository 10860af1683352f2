"""One digest in every environment: other instructions, libraries' settings, threads, and kernels that are not compiled."""

import os
import subprocess
import sys

import pytest
import torch

from tests.bits.fixed.test_transformer import MODELS

PROGRAM = """
import hashlib, sys, torch
from tests.bits.fixed.test_transformer import MODELS
from nutshell.bits.fixed.arithmetic import frequencies
from nutshell.bits.fixed.build import build
torch.set_num_threads(int(sys.argv[1]))
lanes, tokens, weights = int(sys.argv[2]), int(sys.argv[3]), torch.load(sys.argv[4])
ids = torch.arange(lanes * tokens).view(lanes, tokens) * 7919 % 61
for name in weights:
    model, digest, real = MODELS[name](), hashlib.sha256(), hashlib.sha256()
    model.load_state_dict(weights[name])
    fixed = build(model.config.to_dict(), model.state_dict())
    state = fixed.state(lanes, tokens)
    half = tokens // 2
    for logits in (fixed(ids), fixed(ids[:, :half], state), *(fixed(ids[:, t : t + 1], state) for t in range(half, tokens))):
        digest.update(logits.numpy().tobytes())
        digest.update(frequencies(logits).numpy().tobytes())
    with torch.no_grad():
        real.update(model(input_ids=ids).logits.softmax(-1).numpy().tobytes())
    print(name, digest.hexdigest(), real.hexdigest(), sep=";")
"""
ENVIRONMENTS = [
    (1, {}),
    (2, {}),
    (3, {}),
    (1, {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    (2, {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    (1, {"MKL_CBWR": "COMPATIBLE", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    (2, {"MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    (1, {"ONEDNN_DEFAULT_FPMATH_MODE": "ANY", "NUMBA_CPU_NAME": "generic"}),
    (2, {"NUMBA_CPU_NAME": "haswell", "NUMBA_LOOP_VECTORIZE": "0", "NPY_DISABLE_CPU_FEATURES": "AVX512F"}),
    (1, {"NUMBA_OPT": "0", "OMP_NUM_THREADS": "2"}),
]


def digests(tmp_path, threads, settings, lanes, tokens, names):
    """By model, the digests of its exact and of its real logits."""
    own = "".join(settings.values()) * any(name.startswith("NUMBA") for name in settings)  # what is compiled otherwise
    caches = {"NUMBA_CACHE_DIR": str(tmp_path / f"kernels{own}"), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **settings, **caches}
    weights = tmp_path / "weights.pt"  # made once: torch draws other random numbers with other instructions
    if not weights.exists():
        torch.save({name: MODELS[name]().state_dict() for name in names}, weights)
    command = [sys.executable, "-c", PROGRAM, str(threads), str(lanes), str(tokens), str(weights)]
    run = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = [line.split(";") for line in run.stdout.splitlines() if line.count(";") == 2]
    return {name: (exact, real) for name, exact, real in rows}


@pytest.mark.slow
def test_every_environment_gives_one_digest(tmp_path):
    results = [digests(tmp_path, threads, settings, 5, 24, MODELS) for threads, settings in ENVIRONMENTS]
    for name in MODELS:
        assert len({result[name][0] for result in results}) == 1, name
    assert any(
        len({result[name][1] for result in results}) > 1 for name in MODELS
    )  # or these environments test nothing


@pytest.mark.slow
def test_compiled_kernels_compute_what_python_does(tmp_path):
    names = ["gpt2", "scratch, sinusoids, after, relu", "lstm", "llama"]
    compiled, plain = (digests(tmp_path, 1, {"NUMBA_DISABLE_JIT": flag}, 2, 8, names) for flag in ("0", "1"))
    assert {name: parts[0] for name, parts in compiled.items()} == {name: parts[0] for name, parts in plain.items()}
