"""Text to model, as documents: from the Hub, a local copy, the embedded manual or a file of the user's own."""

import io
import random
import re
import unicodedata
from pathlib import Path

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData, TextData, find
from nutshell.data.parts import NAMES, Part, Parts
from nutshell.data.readers import files as part_files
from nutshell.data.readers import rows as readers
from nutshell.data.readers.rows import suffix
from nutshell.data.readers.sources import of_file
from nutshell.data.readers.table import text_of
from nutshell.data.samples import manual
from nutshell.machine.errors import UserError, plural

HELD_OUT_SHARE = 0.1  # of the bytes, where a data set lacks a part and the experiment states no size
FEW = 20  # documents: fewer are cut at a line's end rather than held out whole
LONGEST_WORD = 100  # characters: a longer run of them is a text without spaces between its words
JOINER, SKIN_TONES = "\u200d", "🏻🏼🏽🏾🏿"
SHUFFLE_SEED = 0  # which documents are held out or left out is the same for every seed of a run


def load(data: TextData, trains: bool = True, evaluates: bool = False) -> Parts:
    """The documents that a `data:` block asks for.

    A part that the text does not have is held out of its training part: whole documents in a shuffled order that is
    the same for every seed, or the last lines where there are few documents. Where nothing is trained, a text of the
    user's own is measured whole unless test_bytes says less.

    Args:
        data: The block.
        trains: Whether a training part is needed.
        evaluates: Whether training evaluates between its steps, and so needs a validation part.

    Raises:
        UserError: If files cannot be read, are empty or no UTF-8, lack what is needed, or the Hub cannot be reached.
    """
    own, source = _read(data)
    alone = data.name == "text" and {*own} == {"train"}
    if alone and not trains and (not data.test_bytes or data.test_bytes >= _bytes(own["train"])):
        own = {"test": own["train"]}
    sizes = {"validation": data.validation_bytes, "test": data.test_bytes}
    if trains and "train" not in own:
        raise UserError(f"data: {data.name} from {source} has no training part; it has {', '.join(own)}")
    parts = {name: own.get(name) for name in NAMES}
    for name in ("test", "validation"):
        size = sizes[name]
        if parts[name] is not None:
            parts[name] = _take(parts[name], size)
        elif parts["train"] is not None and (size or name == "test" or evaluates):
            size = size or int(HELD_OUT_SHARE * _bytes(parts["train"]))
            parts["train"], parts[name] = _hold_out(parts["train"], size, name)
        elif size:
            raise UserError(f"data.{name}_bytes: {data.name} from {source} has no part to hold it out of")
    if not parts["test"] and not parts["validation"]:
        raise UserError(f"data: {data.name} from {source} has no validation or test part to measure")
    left_out, later = 0, set(parts["test"] or ())
    for name in ("validation", "train"):
        if parts[name] is not None:
            rest = [text for text in parts[name] if text not in later]
            left_out += len(parts[name]) - len(rest)
            later |= {*rest}
            parts[name] = rest
    if parts["train"] is not None:
        parts["train"] = _take(parts["train"], data.train_bytes)
    for name, texts in parts.items():
        if texts == []:
            why = f", and {plural(left_out, 'document')} of it in a later part too" if left_out else ""
            raise UserError(
                f"data: the {name} part of {data.name} would be empty{why}; state other sizes, or more text"
            )
    if not trains:
        parts["train"] = None
    documents = {name: None if texts is None else Part([(text,) for text in texts]) for name, texts in parts.items()}
    reported = "test" if parts["test"] else "validation"
    notes = {"documents left out because a later part has them": left_out}
    return Parts(**documents, source=source, origin=data.from_hub, reported_as=reported, notes=notes)


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
    if not out:
        least = min(len(text.encode()) for text in texts)
        raise UserError(f"data.{name}_bytes: {size:,} is less than a whole document; the shortest has {least:,} bytes")
    return [t for row, t in enumerate(texts) if row not in out], [t for row, t in enumerate(texts) if row in out]


def _cut(texts: list[str], limit: int, up: bool = False) -> tuple[list[str], list[str]]:
    """A few documents divided at the last line that ends within `limit` bytes, or the first one that ends after; where
    that leaves nothing on one side, at a space; in writing without spaces, between two characters."""
    for sign in ("\n", " ", ""):
        before, after, room = [], [], limit
        for text in texts:
            size = len(text.encode())
            end = len(text) if size <= room else _place(text, max(0, room), sign, up)
            room = room - size if size <= room else -1
            before += [text[:end]] * (end > 0)
            after += [text[end:]] * (end < len(text))
        if before and after:
            break
    return before, after


def _place(text: str, room: int, sign: str, up: bool) -> int:
    """Where to cut a text: after the last sign within `room` bytes, or the first one that ends after."""
    most = len(text.encode()[:room].decode(errors="ignore"))  # characters
    if sign:
        end = text.rfind(sign, 0, most) + 1
        return text.find(sign, most) + 1 or len(text) if up and len(text[:end].encode()) < room else end
    end = most + (up and len(text[:most].encode()) < room)
    word = re.split(r"[\n ]", text[:most])[-1] + re.split(r"[\n ]", text[most:], maxsplit=1)[0]
    if len(word) <= LONGEST_WORD:
        return len(text) if up else 0
    while 0 < end < len(text) and _one_letter(text[end - 1], text[end]):
        end += 1 if up else -1
    return end


def _one_letter(first: str, second: str) -> bool:
    """Whether two characters are shown as one: with an accent, or as parts of a sign such as a family."""
    return JOINER in (first, second) or unicodedata.category(second)[0] == "M" or second in SKIN_TONES


def _read(data: TextData) -> tuple[dict[str, list[str]], str]:
    """Every part that the text itself has, and where it was read."""
    if data.name == "imdb":
        parts, source = labelled.read(_reviews(data), "sample_text")
        return {name: part.documents for name, part in parts.items()}, source
    if data.name == "sample_text":
        return {"train": manual.chapters()}, manual.SOURCE
    if data.name == "text":
        return _user_text(Path(data.path).expanduser(), data.column), "local text"
    folder, source = find(data, "sample_text")
    return _wikitext(folder), source


def files(data: TextData) -> dict[str, list[Path]]:
    """The local files that `load` reads, by part; none for what is embedded or on the Hub, or is not there.

    Raises:
        UserError: If a part is there twice or has a gap, or a file of it is none that can be read.
    """
    if data.name == "imdb":
        return labelled.files(_reviews(data))
    if data.name == "text":
        path = Path(data.path).expanduser()
        return part_files.table_of_texts(path) if data.column else part_files.text(path)
    folder = data.local_folder
    return part_files.wikitext(folder) if folder else {}


def _reviews(data: TextData) -> LabelledData:
    return LabelledData(name="imdb", path=data.path, revision=data.revision)


def _wikitext(folder: Path) -> dict[str, list[str]]:
    """Each part as one document, its lines joined as the published figures join them.

    Source: transformers' documentation, "Perplexity of fixed-length models": the rows of the Hub's copy, each a line
    with its line feed or an empty string for a blank one, with two line feeds between them.
    """
    parts = {}
    for name, group in part_files.wikitext(folder).items():
        if group[0].suffix == ".parquet":
            rows = [_column_text(place, row) for shard in group for place, row in readers.read(shard).rows]
        else:
            rows = [line if line.strip() else "" for line in io.StringIO(read_text(group[0]))]
        parts[name] = ["\n\n".join(rows)]
    if not parts:
        raise UserError(
            f"{folder}: holds no WikiText-2; expected wiki.train.raw, wiki.valid.raw, wiki.test.raw (or .tokens)"
        )
    return parts


def _column_text(place: str, row: dict) -> str:
    if "text" not in row:
        raise UserError(f"{place} has columns {readers.names([*row])}; expected text")
    if not isinstance(row["text"], str):
        raise UserError(f"{place} text is {readers.kind(row['text'])}, expected text")
    return row["text"]


def _user_text(path: Path, column: str | None) -> dict[str, list[str]]:
    """A file's text as one document, a folder's files as one document each; a table's rows as one document each."""
    parts = part_files.table_of_texts(path) if column else part_files.text(path)
    if not parts:
        missing = "no such file or folder"
        if path.is_dir():
            suffixes = ", ".join(readers.READERS if column else part_files.TEXT_SUFFIXES)
            missing = f"holds no {'table' if column else 'text file'} ({suffixes})"
            if not column and part_files.table_of_texts(path):
                missing += "; of its tables, name the column that holds the texts in data.column"
        raise UserError(f"data.path: {path}: {missing}")
    if not column:
        return {part: [_own_text(file) for file in group] for part, group in parts.items()}
    return {part: [text for file in group for text in _rows(file, column)] for part, group in parts.items()}


def _own_text(file: Path) -> str:
    """A file's text, unless it is a table, whose commas and escapes are none."""
    if suffix(file) in readers.READERS:
        raise UserError(
            f"{file}: is a table with the columns {readers.names(readers.read(file).columns)}: name the one that holds "
            "the texts in data.column; a file to be read as it is would end in .txt"
        )
    return read_text(file)


def _rows(file: Path, column: str) -> list[str]:
    """The text that each row of a table has in a column."""
    texts = [text_of(place, row, column) for place, row in readers.read(file).rows]
    if not texts:
        raise UserError(f"{file}: is empty")
    return texts


def read_text(file: Path) -> str:
    """A UTF-8 file's text, line ends and all; a byte-order mark is dropped.

    Raises:
        UserError: If it cannot be read, is no regular file, is empty, or is not UTF-8, with the offset of the first
            byte that is not.
    """
    raw = of_file(file).whole()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = len(raw) - len(error.object) + error.start  # which counts from after a byte-order mark
        raise UserError(f"{file}: not UTF-8 text: byte {raw[at]:#04x} at offset {at}") from None
    if not text.strip():
        raise UserError(f"{file}: is empty")
    return text
