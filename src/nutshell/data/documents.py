"""Text to model, as documents: from the Hub, a local copy, this machine's Python or a file of the user's own."""

import hashlib
import io
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

from nutshell.data import labelled as sources
from nutshell.data.datasets import TEXTS
from nutshell.data.readers import READERS
from nutshell.experiment.blocks import LabelledData, TextData
from nutshell.machine.errors import UserError

PARTS = ("train", "validation", "test")
SUFFIXES = (".txt", ".md", ".tokens", ".raw")
PART_OF_FILE = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "dev"), "validation")}
HELD_OUT_SHARE = 0.1  # of the bytes, where a data set lacks a part and the experiment states no size
FEW = 20  # documents: fewer are cut at a line's end rather than held out whole
SHUFFLE_SEED = 0  # which documents are held out or left out is the same for every seed of a run


@dataclass(frozen=True)
class Documents:
    """The documents of one part, in their order."""

    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return sum(len(text.encode()) for text in self.texts)

    def digest(self) -> str:
        """sha256 of all documents in order, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()


@dataclass(frozen=True)
class TextParts:
    """A text's parts, of which no document stands in two.

    Attributes:
        train, validation, test: Whichever exist. The validation part may choose a checkpoint; the test part is for
            the final figure alone.
        source: Where they were read, for the record.
        dropped: Documents left out of the validation or training part because they stand in a later one too.
    """

    train: Documents | None
    validation: Documents | None
    test: Documents | None
    source: str
    dropped: int

    @property
    def reported(self) -> str:
        """The part that the final figure is measured on: test, or validation where there is none."""
        return "test" if self.test else "validation"

    @property
    def reported_as(self) -> str:
        """What the text itself calls that part: the same."""
        return self.reported

    def by_name(self) -> dict[str, Documents]:
        """The parts that exist, by name."""
        return {name: part for name in PARTS if (part := getattr(self, name)) is not None}


def load(data: TextData, trains: bool = True, evaluates: bool = False) -> TextParts:
    """The documents that a `data:` block asks for.

    A part that the text does not have is held out of its training part: whole documents in a shuffled order that is
    the same for every seed, or the last lines where there are few documents. Where nothing is trained, a text of the
    user's own is measured whole unless test_bytes says less.

    Args:
        data: The block.
        trains: Whether a training part is needed.
        evaluates: Whether training evaluates as it goes, and so needs a validation part.

    Raises:
        UserError: If files cannot be read, are empty or no UTF-8, lack what is needed, or the Hub cannot be reached.
    """
    parts, source = _read(data)
    alone = data.name == "text" and {*parts} == {"train"}
    if alone and not trains and (not data.test_bytes or data.test_bytes >= _bytes(parts["train"])):
        parts = {"test": parts["train"]}
    sizes = {"validation": data.validation_bytes, "test": data.test_bytes}
    if trains and "train" not in parts:
        raise UserError(f"data: {data.name} from {source} has no training part; it has {', '.join(parts)}")
    found = {name: parts.get(name) for name in PARTS}
    for name in ("test", "validation"):
        stated = sizes[name]
        if found[name] is not None:
            found[name] = _take(found[name], stated)
        elif found["train"] is not None and (stated or name == "test" or evaluates):
            wanted = stated or int(HELD_OUT_SHARE * _bytes(found["train"]))
            found["train"], found[name] = _hold_out(found["train"], wanted, name)
        elif stated:
            raise UserError(f"data.{name}_bytes: {data.name} from {source} has no part to hold it out of")
    if not found["test"] and not found["validation"]:
        raise UserError(f"data: {data.name} from {source} has no validation or test part to measure")
    dropped, held = 0, set(found["test"] or ())
    for name in ("validation", "train"):
        if found[name] is not None:
            kept = [text for text in found[name] if text not in held]
            dropped += len(found[name]) - len(kept)
            held |= {*kept}
            found[name] = kept
    if found["train"] is not None:
        found["train"] = _take(found["train"], data.train_bytes)
    for name, texts in found.items():
        if texts == []:
            raise UserError(f"data: the {name} part of {data.name} would be empty; state other sizes, or more text")
    if not trains:
        found["train"] = None
    made = {name: None if texts is None else Documents(texts) for name, texts in found.items()}
    return TextParts(**made, source=source, dropped=dropped)


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _take(texts: list[str], limit: int | None) -> list[str]:
    """At most `limit` bytes: documents in a shuffled order, each that still fits, or a few documents' first lines."""
    if limit is None or _bytes(texts) <= limit:
        return texts
    if len(texts) < FEW:
        return _cut(texts, limit)[0]
    return [texts[row] for row in sorted(_first(texts, limit))]


def _first(texts: list[str], limit: int) -> list[int]:
    """Rows of a shuffled order, each that still fits into `limit` bytes."""
    rows = []
    for row in random.Random(SHUFFLE_SEED).sample(range(len(texts)), len(texts)):
        size = len(texts[row].encode())
        if size <= limit:
            rows.append(row)
            limit -= size
    return rows


def _hold_out(texts: list[str], size: int, name: str) -> tuple[list[str], list[str]]:
    """Documents that stay, and about `size` bytes of them that are held out."""
    if size >= _bytes(texts):
        raise UserError(f"data.{name}_bytes: {size:,} is all there is of the training part ({_bytes(texts):,} bytes)")
    if len(texts) < FEW:
        return _cut(texts, _bytes(texts) - size, up=True)
    out = {*_first(texts, size)}
    return [t for row, t in enumerate(texts) if row not in out], [t for row, t in enumerate(texts) if row in out]


def _cut(texts: list[str], limit: int, up: bool = False) -> tuple[list[str], list[str]]:
    """A few documents divided at the last line that ends within `limit` bytes, or the first one that ends after; where
    that leaves nothing on one side, at the last or first space."""
    for sign in (b"\n", b" "):
        before, after, room = [], [], limit
        for text in texts:
            raw = text.encode()
            end = len(raw) if len(raw) <= room else raw.rfind(sign, 0, max(0, room)) + 1
            if up and end < room < len(raw):
                end = raw.find(sign, room) + 1 or len(raw)
            room = room - len(raw) if len(raw) <= room else -1
            before += [raw[:end].decode()] * (end > 0)
            after += [raw[end:].decode()] * (end < len(raw))
        if before and after:
            break
    return before, after


def _read(data: TextData) -> tuple[dict[str, list[str]], str]:
    """Every part that the text itself has, and where it was read."""
    if data.name == "imdb":
        found, _, source = sources.read(LabelledData(name="imdb", path=data.path, revision=data.revision))
        return {name: [text for (text,) in part.texts] for name, part in found.items()}, source
    if data.name == "sample_text":
        return {"train": _topics()}, "pydoc_data.topics of this Python"
    if data.name == "text":
        return _user_text(Path(data.path).expanduser()), "local text"
    folder, source = sources.find(data, TEXTS["wikitext2"], "sample_text")
    return _wikitext(folder), source


def _wikitext(folder: Path) -> dict[str, list[str]]:
    """Each part as one document, its lines joined as the published figures join them.

    Source: transformers' documentation, "Perplexity of fixed-length models": the rows of the Hub's copy, each a line
    with its line feed or an empty string for a blank one, with two line feeds between them.
    """
    parts = {}
    for name, stem in (("train", "train"), ("validation", "valid"), ("test", "test")):
        local = [file for suffix in (".raw", ".tokens") if (file := folder / f"wiki.{stem}{suffix}").is_file()]
        shards = sorted(folder.glob(f"{name}-*.parquet"))
        if local:
            rows = [line if line.strip() else "" for line in io.StringIO(read_text(local[0]))]
        elif shards:
            rows = [_column_text(place, row) for shard in shards for place, row in READERS[".parquet"](shard)]
        else:
            continue
        parts[name] = ["\n\n".join(rows)]
    if not parts:
        raise UserError(
            f"{folder}: holds no WikiText-2; expected wiki.train.raw, wiki.valid.raw, wiki.test.raw (or .tokens)"
        )
    return parts


def _column_text(place: str, row: dict) -> str:
    if not isinstance(row.get("text"), str):
        raise UserError(f"{place}: missing column text; found {', '.join(row)}")
    return row["text"]


def _user_text(path: Path) -> dict[str, list[str]]:
    """A file's text as one document; a folder's files as one document each, by part where names of files or of
    folders in it (train.txt, test/...) say so."""
    if path.is_file():
        return {_part_of(path.name) or "train": [read_text(path)]}
    if not path.is_dir():
        raise UserError(f"data.path: {path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in SUFFIXES)
    if not files:
        raise UserError(f"data.path: {path}: holds no text file ({', '.join(SUFFIXES)})")
    named = {file: _part_of(file.relative_to(path).parts[0]) for file in files}
    if not any(named.values()):
        return {"train": [read_text(file) for file in files]}
    if stray := [file for file, part in named.items() if not part]:
        raise UserError(f"data.path: {path}: some files are named for a part, but {stray[0]} is not: move it away")
    return {part: [read_text(file) for file in files if named[file] == part] for part in dict.fromkeys(named.values())}


def _part_of(name: str) -> str | None:
    return PART_OF_FILE.get(re.split(r"[.\-_\d]", name.lower())[0])


def read_text(file: Path) -> str:
    """A UTF-8 file's text, line ends and all; a byte-order mark is dropped.

    Raises:
        UserError: If it cannot be read, is empty, or is not UTF-8, with the offset of the first byte that is not.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = len(raw) - len(error.object) + error.start  # which counts from after a byte-order mark
        raise UserError(f"{file}: not UTF-8 text: byte {raw[at]:#04x} at offset {at}") from None
    if not text.strip():
        raise UserError(f"{file}: is empty")
    return text


def read_prompts(prompts: list[str] | str) -> list[str]:
    """The prompts themselves, or each line but the blank ones of the file that is named.

    Raises:
        UserError: If the file cannot be read or holds none.
    """
    if isinstance(prompts, list):
        return prompts
    lines = read_text(Path(prompts).expanduser()).split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip()]


def _topics() -> list[str]:
    """The reference manual's chapters that `help()` reads, but for those that mostly repeat a longer one."""
    from pydoc_data.topics import topics

    kept, seen = [], set()
    for text in sorted(topics.values(), key=lambda text: (-len(text), text)):
        lines = {line.strip() for line in text.splitlines() if len(line.strip()) > 30}
        if len(lines & seen) <= 0.1 * len(lines):
            kept.append(text)
        seen |= lines
    return kept
