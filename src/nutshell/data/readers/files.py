"""The files that each part of a data set or of a text is read from: found by name, each of them once, none missing."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nutshell.data.readers.rows import ENDINGS, MICROSOFT, READERS, REVIEW_LABELS, check_table, suffix
from nutshell.data.readers.sources import check_regular
from nutshell.machine.errors import UserError
from nutshell.machine.files import read_json, reading

# What each part's files may be called; the Hub's shards carry a suffix, `train-00000-of-00001.parquet`.
PART_NAMES = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
WIKITEXT_NAMES = {"train": "train", "validation": "valid", "test": "test"}
TEXT_SUFFIXES = (".txt", ".md", ".tokens", ".raw")
SHARD = re.compile(r"(?P<name>.+)-(?P<number>[0-9]+)-of-(?P<total>[0-9]+)(?P<digest>-[0-9a-f]+)?")


def table(path: Path, names: Mapping[str, Sequence[str]] = PART_NAMES) -> dict[str, list[Path]]:
    """The files of each part of a user's own table.

    A file is the training part, whatever it is called. In a folder, or in its folder `data`, names say what belongs to
    a part: train.csv, train-00000-of-00002.parquet; a folder of `save_to_disk` says it itself.

    Args:
        path: The file or folder.
        names: What the files of each part may be called.

    Raises:
        UserError: If there is none of them; or as `labelled` does.
    """
    if not path.is_dir():
        check_regular(path)
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        check_table(path)
        return {"train": [path]}
    if parts := _parts(path, names):
        return parts
    known = ", ".join(name for words in names.values() for name in words)
    raise UserError(
        f"{path}: holds no table; its files would be called {known} and end in {ENDINGS}; or name a file itself"
    )


def labelled(folder: Path, reviews: bool) -> dict[str, list[Path]]:
    """The files of each part that a folder of labelled examples has, none if there are none.

    Args:
        folder: The folder.
        reviews: Whether examples are single texts, which may come as aclImdb's folders of files.

    Raises:
        UserError: If a part is there twice or has a gap, or a file of it is none that can be read.
    """
    parts = _parts(folder, PART_NAMES)
    for part in PART_NAMES:
        if part not in parts and part in MICROSOFT:  # GLUE's script leaves them next to its own
            parts[part] = _named(folder, part, re.escape(MICROSOFT[part]))
        texts = _reviews(folder / part) if reviews else []
        if texts and parts.get(part):
            first = parts[part][0].name
            raise UserError(f"{folder}: holds the {part} part more than once: {first}, {part}/pos, {part}/neg")
        parts[part] = texts or parts.get(part, [])
    return {part: files for part, files in parts.items() if files}


def wikitext(folder: Path) -> dict[str, list[Path]]:
    """The files of each part that a folder of WikiText has: `wiki.valid.raw`, `wiki.valid.tokens` or the Hub's.

    Raises:
        UserError: As `labelled` does.
    """
    files = {
        part: _named(folder, part, rf"wiki\.{name}\.(raw|tokens)|{part}-.*\.parquet")
        for part, name in WIKITEXT_NAMES.items()
    }
    return {part: members for part, members in files.items() if members}


def text(path: Path, suffixes: Collection[str] = TEXT_SUFFIXES) -> dict[str, list[Path]]:
    """The files of a user's own text: a file, or a folder's files by part where names of files or of folders in it
    (train.txt, test/...) say so; none if there are none.

    Args:
        path: The file or folder.
        suffixes: Of the files that are taken from a folder, each also with .gz.

    Raises:
        UserError: As `labelled` does; or if only some of the files are named for a part.
    """
    if not path.is_dir():
        check_regular(path)
        return {_part_of(path.name) or "train": [path]} if path.exists() else {}
    files = sorted(file for file in path.rglob("*") if suffix(file) in suffixes and not file.is_dir())
    for file in files:
        check_regular(file)
    named = {file: _part_of(_top(path, file)) for file in files}
    if any(named.values()) and (stray := [file for file, part in named.items() if not part]):
        raise UserError(f"data.path: {path}: some files are named for a part, but {stray[0]} is not: move it away")
    parts: dict[str, list[Path]] = {}
    for file, part in named.items():
        parts.setdefault(part or "train", []).append(file)
    for part, members in parts.items():
        _check_text_part(path, part, members, any(named.values()))
    return parts


def table_of_texts(path: Path) -> dict[str, list[Path]]:
    """The files of a user's own text in tables: by part as `table` has them; where no file is named for one, as `text`
    has them.

    Raises:
        UserError: As `text` does.
    """
    parts = _parts(path, PART_NAMES) if path.is_dir() else {}
    return parts or text(path, READERS)


def whole(part: str, files: list[Path]) -> list[Path]:
    """The files of one part in their order: a single one, or all shards of it.

    Raises:
        UserError: If the part is there twice (in two formats, under two names, with two totals), or a shard is
            missing, naming the files.
    """
    series: dict[tuple, dict[int, list[Path]]] = {}
    for file in files:
        stem, ending = _split(file)
        shard = SHARD.fullmatch(stem)
        key = (shard["name"], int(shard["total"])) if shard else (stem, None)
        numbered = series.setdefault((*key, ending), {})
        numbered.setdefault(int(shard["number"]) if shard else 0, []).append(file)
    if len(series) > 1 or any(len(same) > 1 for numbered in series.values() for same in numbered.values()):
        names = ", ".join(file.name for file in files[:6]) + ", ..." * (len(files) > 6)
        raise UserError(f"{files[0].parent}: holds the {part} part more than once: {names}")
    for (_, total, _), numbered in series.items():
        if total is not None:
            _check_gaps(part, [same[0] for same in numbered.values()], {*numbered}, total)
        return [numbered[number][0] for number in sorted(numbered)]
    return []


def _parts(folder: Path, names: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """The files of each part that a folder has: named for it, here or in `data/`, or saved by `save_to_disk`."""
    endings, parts = "|".join(map(re.escape, READERS)), {}
    saved = _saved_parts(folder)
    for part, words in names.items():
        pattern = rf"(?i:({'|'.join(map(re.escape, words))})(-.*)?({endings})(\.gz)?)"
        data = folder / "data"
        groups = [_named(folder, part, pattern), _named(data, part, pattern) if data.is_dir() else []]
        groups = [group for group in [*groups, *(saved[word] for word in words if word in saved)] if group]
        if len(groups) > 1:
            doubles = ", ".join(str(group[0].relative_to(folder)) for group in groups)
            raise UserError(f"{folder}: holds the {part} part more than once: {doubles}")
        parts.update((part, group) for group in groups)
    return parts


def _saved_parts(folder: Path) -> dict[str, list[Path]]:
    """The files of each split that `save_to_disk` has left in a folder; a data set without splits is training data."""
    if (folder / "state.json").exists():
        return {"train": _saved(folder)}
    if not (folder / "dataset_dict.json").exists():
        return {}
    splits = _listed(folder / "dataset_dict.json", lambda content: [f"{split}" for split in content["splits"]])
    return {split: _saved(folder / split) for split in splits}


def _saved(folder: Path) -> list[Path]:
    """The files that a data set in a folder of `save_to_disk` consists of, in their order."""
    state = folder / "state.json"
    files = _listed(state, lambda content: [folder / file["filename"] for file in content["_data_files"]])
    for file in files:
        check_regular(file)
        if not file.exists():
            raise UserError(f"{file}: is missing; {state.name} lists it")
    return files


def _listed(file: Path, entries: Callable[[Any], list]) -> list:
    with reading(file):
        try:
            return entries(read_json(file))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: is not what save_to_disk writes") from None


def _check_gaps(part: str, files: list[Path], numbers: set[int], total: int) -> None:
    first = 1 if total in numbers and 0 not in numbers else 0  # some tools count from 1
    missing = next((number for number in range(first, first + total) if number not in numbers), None)
    if missing is None and len(numbers) == total:
        return
    names = ", ".join(file.name for file in files[:6]) + ", ..." * (len(files) > 6)
    if missing is None:
        raise UserError(f"{files[0].parent}: the {part} part has more files than their names say: {names}")
    stem, ending = _split(files[0])
    shard = SHARD.fullmatch(stem)
    number = f"{missing:0{len(shard['number'])}}"
    name = f"{shard['name']}-{number}-of-{shard['total']}{'-...' if shard['digest'] else ''}{ending}"
    raise UserError(f"{files[0].parent}: the {part} part has a gap: {name} is missing; there is {names}")


def _check_text_part(path: Path, part: str, files: list[Path], named: bool) -> None:
    """A text may have any number of files in a part, but none of them twice and no shard missing."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        stem, _ = _split(file)
        shard = SHARD.fullmatch(stem)
        groups.setdefault((file.parent, shard["name"] if shard else stem), []).append(file)
    for group in groups.values():
        if (named and _top(path, group[0]) == group[0].name and len(group) > 1) or any(
            SHARD.fullmatch(_split(file)[0]) for file in group
        ):
            whole(part, group)
    tops = {_top(path, file): _top(path, file) != file.name for file in files}
    if named and len({(_word(top), is_folder) for top, is_folder in tops.items()}) > 1:
        raise UserError(f"{path}: holds the {part} part more than once: {', '.join(tops)}")


def _reviews(folder: Path) -> list[Path]:
    """The files of a part as aclImdb has it, a folder for each label; none if it has no such folder."""
    if not any((folder / label).is_dir() for label in REVIEW_LABELS):
        return []
    files = {label: sorted((folder / label).glob("*.txt")) for label in REVIEW_LABELS}
    if lacking := [label for label, members in files.items() if not members]:
        raise UserError(f"{folder / lacking[0]}: holds no review (*.txt), but there are some of the other label")
    return [file for members in files.values() for file in members]


def _named(folder: Path, part: str, pattern: str) -> list[Path]:
    """The files of a folder that such a name makes one part."""
    with reading(folder):
        files = sorted(folder / name for name in os.listdir(folder) if re.fullmatch(pattern, name))
    for file in files:
        check_regular(file)
        stem, ending = _split(file)
        if "-" in stem and not SHARD.fullmatch(stem):
            name = stem.split("-")[0]
            raise UserError(
                f"{file}: is named for the {part} part, but is neither {name}{ending} nor numbered like "
                f"{name}-00000-of-00002{ending}; rename it, or move it away"
            )
    return whole(part, files)


def _split(file: Path) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix with .gz."""
    ending = "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix
    return file.name.removesuffix(ending), ending


def _part_of(name: str) -> str | None:
    return next((part for part, names in PART_NAMES.items() if _word(name) in names), None)


def _top(path: Path, file: Path) -> str:
    """The first name below a folder, or below the `data/` that the Hub's data sets have, on the way to a file."""
    first, *others = file.relative_to(path).parts
    return others[0] if first == "data" and others else first


def _word(name: str) -> str:
    """The word that a file's or folder's name begins with."""
    return re.split(r"[.\-_\d]", name.lower())[0]
