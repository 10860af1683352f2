"""A language model as a codec's coder: which checkpoint, in which arithmetic, and whether it is that of a file."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from nutshell.bits.codec.container import CODED, DIGEST_BYTES, EXACT, MOST_LANES, NATIVE, Header, Segment, environment
from nutshell.bits.coder import Damaged
from nutshell.bits.fixed import build as fixed
from nutshell.data.encoding import vocabularies
from nutshell.data.encoding.spelling import Spelling
from nutshell.machine.errors import UserError
from nutshell.machine.files import sha256
from nutshell.models.find import find, read_config
from nutshell.models.language.architectures import CAUSAL, complete, context, problem

WINDOW = 1024  # the most tokens that are fed, if the model can be fed as many
CACHE_BYTES = 1 << 30  # what the lanes' keys and values may take, if their number is not named
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}
_CHANGING = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")  # which say nothing of the figures


class ModelCoder:
    """Codes segments of a text by what a language model expects.

    Args:
        header: Of the file.
        vocabulary: The model's.
        tables: The model itself, as a codec asks it.
        lanes: How many there are in a segment, fewer in a short one; None: as many as its length and `most` allow.
        most: Of them, if their number is not named.
    """

    segment_bytes = 1 << 20

    def __init__(self, header: Header, vocabulary: vocabularies.Vocabulary, tables: Any, lanes: int | None, most: int):
        self.header, self._start, self._tables = header, vocabulary.start_of_text, tables
        self._spelling, self._lanes, self._most = Spelling(vocabulary), lanes, most

    def encode(self, raw: bytes, listen: Callable[[int], None]) -> tuple[Segment, float] | None:
        """As codec.stream.Coder."""
        from nutshell.bits.codec import lanes

        ids = self._spelling.tokens(raw)
        if not ids:
            return None
        count = lanes.lanes_for(len(ids), self._lanes, self._most)
        plan = lanes.Plan.of(len(ids), count, self.header.window)
        body, bits = lanes.encode(self._tables, self._start, ids, plan, _in_bytes(listen, len(raw), len(ids)))
        return Segment(CODED, len(raw), body, len(ids), count), bits

    def decode(self, segment: Segment, listen: Callable[[int], None]) -> bytes:
        """As codec.stream.Coder."""
        from nutshell.bits.codec import lanes

        if segment.lanes > MOST_LANES or segment.size > self.segment_bytes:
            raise Damaged("a segment is too large")
        plan = lanes.Plan.of(segment.tokens, segment.lanes, self.header.window)
        tell = _in_bytes(listen, segment.size, segment.tokens)
        return self._spelling.text(lanes.decode(self._tables, self._start, segment.body, plan, tell))


def _in_bytes(listen: Callable[[int], None], size: int, tokens: int) -> Callable[[int], None]:
    return lambda count: listen(size * count // tokens)


def load(
    checkpoint: Path,
    arithmetic: str,
    precision: str | None = None,
    window: int | None = None,
    lanes: int | None = None,
    threads: int | None = None,
    known: tuple[bytes, bytes, bytes] | None = None,
) -> ModelCoder:
    """The coder of a checkpoint.

    Args:
        checkpoint: A folder that `find` has passed.
        arithmetic: EXACT or NATIVE.
        precision: Of native arithmetic, fp32 or bf16; None: that of its weights.
        window: The most tokens that are fed; None: WINDOW, or as many as it can be fed.
        lanes: As `ModelCoder`.
        threads: Of native arithmetic; None: as torch has them.
        known: Its `digests`, if they were computed already.

    Raises:
        UserError: If the model has no such arithmetic, or cannot be fed so many tokens.
    """
    config, vocabulary = check(checkpoint, arithmetic, window)
    window = window or min(WINDOW, context(config) or WINDOW)
    if arithmetic == EXACT:
        precision, made_in = "fp32", ()
        tables = _exact(checkpoint)
    else:
        precision = precision or {"bfloat16": "bf16"}.get(str(config.get("dtype")), "fp32")
        tables, made_in = _native(checkpoint, precision, threads)
    from nutshell.bits.codec.tables import probe

    figures = probe(tables, window)
    if arithmetic == NATIVE:  # which changes with transformers' code, too
        figures = hashlib.sha256(figures + version("transformers").encode()).digest()[:DIGEST_BYTES]
    header = Header(arithmetic, window, *(known or digests(checkpoint)), figures, made_in)
    lane_bytes = _lane_bytes(config, window, 2 if precision == "bf16" else 4)
    needed, free = (lanes or 1) * lane_bytes, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{lanes or 1:,} lanes of windows of {window:,} tokens need {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free: name fewer lanes, or a shorter window"
        )
    most = max(1, CACHE_BYTES // lane_bytes)
    return ModelCoder(header, vocabulary, tables, lanes, most)


def check(checkpoint: Path, arithmetic: str, window: int | None) -> tuple[dict[str, Any], vocabularies.Vocabulary]:
    """Passes a checkpoint that can be a coder, without torch; its config.json and its tokenizer.

    Raises:
        UserError: As `load`.
    """
    config = read_config(checkpoint)
    vocabulary = vocabularies.of_checkpoint(checkpoint, config)
    if reason := problem(config) or (fixed.problem(config) if arithmetic == EXACT else None):
        raise UserError(f"{checkpoint}: {reason}" + "; use native arithmetic" * (arithmetic == EXACT))
    most = context(config)
    if window and most and window > most:
        raise UserError(f"a window of {window:,} tokens is more than {checkpoint} can be fed: {most:,}")
    return config, vocabulary


def digests(checkpoint: Path) -> tuple[bytes, bytes, bytes]:
    """Of its weights, its config and its tokenizer, DIGEST_BYTES each."""
    config = {key: value for key, value in read_config(checkpoint).items() if key not in _CHANGING}
    plain = json.dumps(config, sort_keys=True).encode()
    weights = hashlib.sha256("".join(map(sha256, sorted(checkpoint.glob("*.safetensors")))).encode())
    tokenizer = hashlib.sha256((checkpoint / "tokenizer.json").read_bytes())
    return tuple(digest.digest()[:DIGEST_BYTES] for digest in (weights, hashlib.sha256(plain), tokenizer))


def of_header(header: Header, checkpoint: Path, name: str) -> ModelCoder:
    """The coder that a file was made with.

    Args:
        header: The file's.
        checkpoint: A folder that `find` has passed.
        name: The file's, for messages.

    Raises:
        UserError: If the file is of another model, or needs another machine.
    """
    known, made_with = digests(checkpoint), (header.weights, header.config, header.tokenizer)
    for what, theirs, ours in zip(("weights", "config", "tokenizer"), made_with, known, strict=True):
        if theirs != ours:
            raise UserError(
                f"{name}: was made with another model: its {what} have the digest {theirs.hex()}, and those of "
                f"{checkpoint} {ours.hex()}; name another with --model"
            )
    threads = None
    if header.arithmetic == NATIVE:
        precision, threads = _check_environment(header, name)
    coder = load(checkpoint, header.arithmetic, precision if threads else None, header.window, None, threads, known)
    if coder.header.tables != header.tables:
        reason = "its processor or its libraries are others" if threads else "please report this"
        raise UserError(f"{name}: this machine computes other numbers than the one it was made on: {reason}")
    return coder


def _check_environment(header: Header, name: str) -> tuple[str, int]:
    """The precision and the threads of a file that was made here, as far as that can be read."""
    try:
        precision, threads, *there = header.environment
        threads = int(threads)
    except ValueError:
        raise UserError(f"{name}: its header names no environment, as native arithmetic needs one") from None
    here = [*environment()]
    if precision not in PRECISIONS or not 0 < threads <= 1024 or there != here:
        raise UserError(
            f"{name}: was made in native arithmetic, which decodes only where it was made: with "
            f"{' and torch '.join(there)}; here are {' and torch '.join(here)}"
        )
    return precision, threads


def _exact(checkpoint: Path):
    from safetensors.torch import load_file
    from transformers import AutoConfig

    from nutshell.bits.codec.tables import Exact

    # With transformers' own values for what the file leaves out.
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).to_dict()
    files = sorted(checkpoint.glob("*.safetensors"))
    return Exact(fixed.build(config, {name: weight for file in files for name, weight in load_file(file).items()}))


def _native(checkpoint: Path, precision: str, threads: int | None):
    import torch

    from nutshell.bits.codec.native import Native
    from nutshell.models.language import build

    torch.set_num_threads(threads or torch.get_num_threads())
    model = build.load(checkpoint).to(getattr(torch, PRECISIONS[precision])).eval()
    return Native(model), (precision, str(torch.get_num_threads()), *environment())


def _lane_bytes(config: Mapping[str, Any], window: int, number_bytes: int) -> int:
    """What the keys and values of one lane take."""
    sizes = complete(config)
    heads = sizes.get("num_attention_heads") or 1
    kept = (sizes.get("num_key_value_heads") or heads) / heads
    return max(1, int(2 * sizes["num_hidden_layers"] * sizes["hidden_size"] * kept * window * number_bytes))


def find_made_with(header: Header, name: str, folders: Iterable[Path]) -> Path:
    """The checkpoint among some folders that a file was made with, by the digest of its weights.

    Raises:
        UserError: If there is none.
    """
    tried = []
    for folder in folders:
        try:
            if digests(folder)[0] == header.weights:
                return folder
        except (UserError, OSError):  # no checkpoint, or one without a tokenizer
            continue
        tried.append(str(folder))
    among = f"none of {', '.join(tried[:3])}{' ...' * (len(tried) > 3)} has them" if tried else "no model is here"
    raise UserError(
        f"{name}: was made with a model whose weights have the digest {header.weights.hex()}; {among}: name it with "
        "--model"
    )


def find_checkpoint(name: str) -> Path:
    """The checkpoint that a word of the command line names: an embedded model, a checkpoint's folder, or a run's."""
    try:
        return find(name, None, CAUSAL)
    except UserError as error:
        raise UserError(str(error).removeprefix("model.name: ")) from None
