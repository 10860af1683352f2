"""Text as documents: out of every layout, into parts that share nothing; what is refused, and in which words."""

import csv
import gzip
import json
from itertools import combinations

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from nutshell.data.datasets import TEXTS, TextData
from nutshell.data.parts import Parts
from nutshell.data.samples import manual
from nutshell.data.text import documents
from nutshell.machine.errors import UserError
from tests.conftest import TEXT_YAML

LEFT_OUT = "documents left out because a later part has them"
LINES = [f"Zeile {number}: Übermut, 猫 und 🐈{'!' * (number % 7)}\n" for number in range(60)]
TEXT = "".join(LINES)
ROWS = ["", " = Heading = \n", "", " Ein Satz , 猫 . \n", " Another one . \n", "", " = = Ende = = \n", ""]


def load(path, trains: bool = True, evaluates: bool = False, name: str = "text", **sizes) -> Parts:
    return documents.load(TextData(name=name, path=str(path) if path else None, **sizes), trains, evaluates)


def texts(parts: Parts) -> dict[str, list[str]]:
    return {name: part.documents for name, part in parts.by_name().items()}


def joined(parts: Parts) -> str:
    return "".join(text for part in parts.by_name().values() for text in part.documents)


def files(folder, **contents: str):
    """A folder with a file for each word, `__` in it a dot."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode())
    return folder


# Division


@pytest.mark.parametrize("count", [1, 3, 19])
@pytest.mark.parametrize("sizes", [{}, {"test_bytes": 400}, {"validation_bytes": 150, "test_bytes": 333}])
def test_few_documents_are_cut_at_a_line_s_end_and_nothing_is_lost(count, sizes, tmp_path):
    for number in range(count):
        lines = LINES[number * len(LINES) // count : (number + 1) * len(LINES) // count]
        files(tmp_path, **{f"{number:02}__txt": "".join(lines)})
    parts = load(tmp_path, evaluates=True, **sizes)
    assert joined(parts) == TEXT and parts.notes[LEFT_OUT] == 0
    for name in ("train", "validation", "test"):
        part = getattr(parts, name)
        assert all(text.endswith("\n") for text in part.documents)
        size = sizes.get(f"{name}_bytes")
        assert size is None or abs(part.size_bytes - size) <= max(len(line.encode()) for line in LINES)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_what_is_held_out_of_few_documents_is_no_more_than_the_stated_size(name, tmp_path):
    parts = load(files(tmp_path, a__txt=TEXT), **{f"{name}_bytes": 200})
    assert 150 < getattr(parts, name).size_bytes <= 200


def test_many_documents_are_held_out_whole(stories):
    everything = [file.read_text(encoding="utf-8") for file in sorted(stories.iterdir())]
    parts = load(stories, evaluates=True)
    assert sorted(text for part in texts(parts).values() for text in part) == sorted(everything)
    for part in parts.by_name().values():
        assert part.documents == [text for text in everything if text in part.documents]  # in the order they came in
    size = sum(len(text.encode()) for text in everything)
    assert 0.05 * size < parts.test.size_bytes <= 0.1 * size


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_no_part_of_many_documents_is_more_than_the_stated_size(part, stories):
    parts = load(stories, **{f"{part}_bytes": 500})
    assert 400 < getattr(parts, part).size_bytes <= 500


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_no_part_that_a_text_brings_is_more_than_the_stated_size(part, tmp_path):
    own = {name: "".join(LINES[first::3]) for first, name in enumerate(("train", "validation", "test"))}
    parts = load(files(tmp_path, **{f"{name}__txt": text for name, text in own.items()}), **{f"{part}_bytes": 300})
    (text,) = getattr(parts, part).documents
    assert 250 < len(text.encode()) <= 300 and text.endswith("\n") and own[part].startswith(text)


def test_the_division_is_the_same_on_every_call(stories):
    first = load(stories, evaluates=True)
    assert texts(load(stories, evaluates=True)) == texts(first)
    assert load(stories, train_bytes=400, evaluates=True).validation.documents == first.validation.documents
    assert len({part.digest() for part in first.by_name().values()}) == 3


def test_what_is_measured_depends_on_nothing_except_its_own_size(stories):
    test = load(stories).test.documents
    for others in ({"evaluates": True}, {"validation_bytes": 300}, {"train_bytes": 300}):
        assert load(stories, **others).test.documents == test
    assert load(stories, test_bytes=300, trains=False).test.documents == load(stories, test_bytes=300).test.documents


def test_where_nothing_is_trained_a_text_of_one_s_own_is_measured_whole(stories):
    everything = [file.read_text(encoding="utf-8") for file in sorted(stories.iterdir())]
    for words in ({}, {"test_bytes": 1_000_000}):
        parts = load(stories, trains=False, **words)
        assert parts.test.documents == everything and [*parts.by_name()] == ["test"]


def test_validation_is_held_out_only_where_it_is_evaluated_or_stated(stories):
    assert [*load(stories).by_name()] == ["train", "test"]
    assert [*load(stories, evaluates=True).by_name()] == ["train", "validation", "test"]
    assert [*load(stories, validation_bytes=300).by_name()] == ["train", "validation", "test"]
    assert [*load(stories, trains=False).by_name()] == ["test"]


def imdb(folder, layout: str, **parts: list[str]):
    for name, rows in parts.items():
        labels = [number % 2 for number in range(len(rows))]
        if layout == "parquet":
            table = pyarrow.table({"text": rows, "label": labels})
            pyarrow.parquet.write_table(table, folder / f"{name}-00000-of-00001.parquet")
        else:
            lines = [json.dumps({"text": text, "label": y}) for text, y in zip(rows, labels, strict=True)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("layout", ["parquet", "jsonl"])
def test_no_document_is_in_two_parts(layout, tmp_path):
    """The copy that goes is the training part's, and it is counted."""
    train = [f"Film {number}: fein, 猫." for number in range(40)]
    test = [f"Flop {number}." for number in range(30)]
    folder = imdb(tmp_path, layout, train=[*train, test[3], test[3]], test=test)
    parts = load(folder, name="imdb")
    assert texts(parts) == {"train": train, "test": test}
    assert parts.notes[LEFT_OUT] == 2 and parts.reported_name == "test" and parts.source == "local copy"


def test_no_document_is_in_two_parts_where_validation_is_held_out(tmp_path):
    train = [f"Film {number % 25}." for number in range(50)]  # each twice
    folder = imdb(tmp_path, "jsonl", train=train, test=[f"Film {number}." for number in range(20, 40)])
    parts = load(folder, name="imdb", validation_bytes=200)
    assert len(parts.test) == 20 and min(map(len, parts.by_name().values())) > 0
    for one, other in combinations(texts(parts).values(), 2):
        assert not {*one} & {*other}
    assert {*parts.train.documents, *parts.validation.documents} == {f"Film {number}." for number in range(20)}
    assert parts.notes[LEFT_OUT] > 0


# Files of the user's own


def test_files_named_by_part_are_the_parts(tmp_path):
    folder = files(tmp_path, train__txt="a\n", train_2__md="b\n", valid__txt="c\n", test__txt="d\n")
    assert texts(load(folder)) == {"train": ["a\n", "b\n"], "validation": ["c\n"], "test": ["d\n"]}
    assert texts(load(folder, trains=False)) == {"validation": ["c\n"], "test": ["d\n"]}


def test_files_named_by_part_in_a_data_folder(tmp_path):
    files(tmp_path / "data", train__txt="a\n", test__txt="d\n")
    assert texts(load(tmp_path)) == {"train": ["a\n"], "test": ["d\n"]}
    files(tmp_path / "data", dev__txt="b\n", valid__txt="c\n")
    with pytest.raises(UserError, match=r"holds the validation part more than once: dev\.txt, valid\.txt"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_names_of_the_validation_part(name, tmp_path):
    folder = files(tmp_path, train__txt=TEXT, **{f"{name}__txt": "c\n"})
    assert load(folder, trains=False).validation.documents == ["c\n"]


def test_a_file_next_to_the_parts_puts_no_test_text_into_training(tmp_path):
    """Refused, left out or taken for training, as long as test.txt is not trained on."""
    try:
        parts = load(files(tmp_path, README__md=TEXT, train__txt=TEXT[:900], test__txt="Never to be seen.\n" * 99))
    except UserError:
        return
    assert "Never to be seen." not in "".join(parts.train.documents)


@pytest.mark.parametrize("name", ["valid", "test"])
def test_a_part_alone_is_measured_whole(name, tmp_path):
    parts = load(files(tmp_path, **{f"{name}__txt": TEXT}), trains=False)
    assert joined(parts) == TEXT


def test_other_files_are_a_document_each(tmp_path):
    files(tmp_path / "more", c__txt="3\n" * 9)
    files(tmp_path, b__md="2\n" * 9, a__txt="1\n" * 9, d__tokens="4\n" * 9, e__raw="5\n" * 9)
    files(tmp_path, b__py="no text", c__json="{}", notes="no suffix")
    parts = load(tmp_path, test_bytes=2)
    assert parts.source == "local text"
    assert parts.train.documents + parts.test.documents == [
        "1\n" * 9,
        "2\n" * 9,
        "4\n" * 9,
        "5\n" * 9,
        "3\n" * 8,
        "3\n",
    ]


def test_bytes_are_kept_except_a_byte_order_mark(tmp_path):
    train, test = "Erste Zeile\r\n\r\n  zweite\t\u2028Zeile \r\n", "letzte Zeile, ohne Ende"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + (train + test).encode())
    assert texts(load(tmp_path / "a.txt", test_bytes=len(test))) == {"train": [train], "test": [test]}


# Tables of the user's own

CELLS = [f'Satz {number}, "so" 猫.' for number in range(40)]


def table(file, rows: list[str]):
    """Texts in a column `review`, next to a label."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"label": number % 2, "review": text} for number, text in enumerate(rows)]
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("label", "review"), *(tuple(row.values()) for row in rows)])
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_each_row_of_a_table_is_a_document(name, tmp_path):
    file = table(tmp_path / name, CELLS)
    assert load(file, column="review", trains=False).test.documents == CELLS
    parts = load(file, column="review")
    assert sorted(parts.train.documents + parts.test.documents) == sorted(CELLS) and len(parts.test) == 4


def test_tables_in_a_folder(tmp_path):
    table(tmp_path / "own" / "train.jsonl", CELLS[:30])
    table(tmp_path / "own" / "test.csv", CELLS[30:])
    (tmp_path / "own" / "notes.txt").write_text("mine")
    assert texts(load(tmp_path / "own", column="review")) == {"train": CELLS[:30], "test": CELLS[30:]}
    for number in range(2):
        table(tmp_path / "hub" / "data" / f"train-{number:05}-of-00002.parquet", CELLS[number::2])
        table(tmp_path / "any" / f"{number}.csv", CELLS[number::2])
    for name in ("hub", "any"):
        rows = load(tmp_path / name, column="review", trains=False).test.documents
        assert rows == CELLS[::2] + CELLS[1::2]
    (tmp_path / "hub" / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"has a gap: train-00001-of-00002\.parquet"):
        load(tmp_path / "hub", column="review")


def test_what_of_a_table_is_read_counts_for_the_digest(tmp_path):
    file = table(tmp_path / "train.csv", CELLS)
    table(tmp_path / "notes.txt", CELLS)
    data = TextData(name="text", path=str(tmp_path), column="review")
    assert documents.files(data) == {"train": [file]}


TABLES = {
    "a table that is none": ("a.txt", [], "review", "a.txt: is no table by its name, which would end in .csv, .tsv,"),
    "no such column": ("a.csv", ["x"], "text", "a.csv: row 2: has columns label, review; expected text"),
    "a cell that is empty": ("a.jsonl", ["x", " "], "review", "a.jsonl: row 2: review is empty"),
    "a cell that is null": ("a.jsonl", ["x", None], "review", "a.jsonl: row 2: review is null, expected text"),
    "a cell that is no Unicode": ("a.jsonl", ["\ud800"], "review", "a.jsonl: row 1: review is not valid Unicode"),
    "no row": ("a.csv", [], "review", "a.csv: is empty"),
    "a CSV as prose": ("a.csv", ["x"], None, "a.csv: is a table with the columns label, review: name the one that"),
    "JSON lines as prose": ("a.jsonl", ["x"], None, "a.jsonl: is a table with the columns label, review: name"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_refused(case, write, nutshell, tmp_path):
    name, rows, column, message = TABLES[case]
    words = [f"data.path={table(tmp_path / name, rows)}"] + [f"data.column={column}"] * (column is not None)
    code, _, err = nutshell("show", write(TEXT_YAML), *words)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_folder_of_tables_without_a_column(tmp_path):
    table(tmp_path / "train.jsonl", CELLS)
    with pytest.raises(UserError, match=r"holds no text file .*; of its tables, name the column"):
        load(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"holds no table \(\.csv"):
        load(tmp_path, column="review")


def test_a_column_of_another_data_set(write, nutshell):
    code, _, err = nutshell("show", write(TEXT_YAML), "data={name: sample_text, column: text}")
    assert code == 2 and "data.column: names the texts in a table of your own" in err
    code, _, err = nutshell("show", write(TEXT_YAML), "data.repository=a/b")
    assert code == 2 and "unknown key in data: 'repository' is not known" in err and "has its own" not in err


def test_compressed_text(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    for path in (tmp_path, tmp_path / "a.txt.gz"):
        assert load(path, trains=False).test.documents == [TEXT]


# WikiText-2


def wikitext(folder, layout: str, **parts: list[str]):
    """The rows as the Hub has them, or as lines of the published files: there, a blank line is a space."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        if layout == "parquet":
            for shard, some in enumerate((rows[:3], rows[3:])):
                file = folder / f"{name}-{shard:05}-of-00002.parquet"
                pyarrow.parquet.write_table(pyarrow.table({"text": some}), file)
        else:
            file = folder / f"wiki.{'valid' if name == 'validation' else name}.{layout}"
            file.write_bytes("".join(row or " \n" for row in rows).encode())
    return folder


@pytest.mark.parametrize("layout", ["raw", "tokens", "parquet"])
def test_wikitext_is_one_text_in_every_layout(layout, tmp_path):
    folder = wikitext(tmp_path, layout, train=[*ROWS, " More . \n"], validation=[*ROWS, " Less . \n"], test=ROWS)
    # Two line feeds between any two rows, next to those that the rows bring.
    text = "\n\n = Heading = \n\n\n\n\n Ein Satz , 猫 . \n\n\n Another one . \n\n\n\n\n = = Ende = = \n\n\n"
    parts = load(folder, name="wikitext2")
    assert texts(parts) == {
        "train": [text + "\n\n More . \n"],
        "validation": [text + "\n\n Less . \n"],
        "test": [text],
    }
    assert parts.source == "local copy" and parts.reported_name == "test"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_row_of_wikitext(separator, tmp_path):
    rows = [" = Heading = \n", f" Ein{separator}Satz . \n"]
    rows_read = [
        load(wikitext(tmp_path / layout, layout, test=rows), trains=False, name="wikitext2").test.documents
        for layout in ("raw", "parquet")
    ]
    assert rows_read[0] == rows_read[1] == ["\n\n".join(rows)]


@pytest.mark.parametrize("layout", ["raw", "parquet"])
def test_wikitext_with_a_validation_part_alone_can_be_measured(layout, tmp_path):
    folder = wikitext(tmp_path, layout, validation=ROWS)
    parts = load(folder, name="wikitext2", trains=False)
    assert texts(parts) == {"validation": ["\n\n".join(ROWS)]}
    assert parts.reported_name == parts.reported_as == "validation"
    with pytest.raises(UserError, match="has no training part; it has validation"):
        load(folder, name="wikitext2")


# The Hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Makes a data set's folder in a cache of the Hub's; there is no way to the Hub itself."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def _cache(name: str):
        text = TEXTS[name]
        snapshots = tmp_path / "hub" / f"datasets--{text.origin.repository.replace('/', '--')}" / "snapshots"
        folder = snapshots / text.origin.revision / text.origin.folder
        folder.mkdir(parents=True)
        return folder

    return _cache


def test_wikitext_from_the_cache(cache):
    wikitext(cache("wikitext2"), "parquet", train=[*ROWS, " More . \n"], validation=ROWS[:4], test=ROWS)
    parts = load(None, name="wikitext2")
    assert parts.source == "Hub Salesforce/wikitext@b08601e04326c79dfdd32d625aee71d232d685c3"
    assert parts.test.documents == ["\n\n".join(ROWS)] and [*parts.by_name()] == ["train", "validation", "test"]


def test_imdb_from_the_cache(cache):
    folder = cache("imdb")
    imdb(folder, "parquet", train=["film", "flop", "both"], test=["test film", "both"])
    table = pyarrow.table({"text": ["never read"], "label": [-1]})
    pyarrow.parquet.write_table(table, folder / "unsupervised-00000-of-00001.parquet")
    parts = load(None, name="imdb")
    assert parts.source == "Hub stanfordnlp/imdb@e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
    assert texts(parts) == {"train": ["film", "flop"], "test": ["test film", "both"]} and parts.notes[LEFT_OUT] == 1


@pytest.mark.parametrize("name", ["wikitext2", "imdb"])
def test_not_in_the_cache(name, cache):
    with pytest.raises(UserError, match="the Hub cannot be reached") as error:
        load(None, name=name)
    for words in (
        TEXTS[name].origin.repository,
        TEXTS[name].origin.revision,
        "data.path",
        f"$NUTSHELL_DATA/{name}",
        "sample_",
    ):
        assert words in str(error.value)


def test_a_local_copy_by_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path))
    wikitext(tmp_path / "wikitext2", "raw", test=ROWS)
    assert load(None, name="wikitext2", trains=False).source == "local copy"
    assert load(None, name="sample_text").source == manual.SOURCE


# The embedded text


def test_no_chapter_of_the_sample_text_mostly_repeats_another():
    def lines(text: str) -> set[str]:
        return {line.strip() for line in text.splitlines() if len(line.strip()) > 30}

    parts = load(None, name="sample_text", evaluates=True)
    chapters = [text for part in texts(parts).values() for text in part]
    assert len(chapters) > 20 and len({*chapters}) == len(chapters) and parts.notes[LEFT_OUT] == 0
    for one, other in combinations(map(lines, chapters), 2):
        assert len(one & other) <= 0.1 * max(1, min(len(one), len(other)))
    assert min(part.size_bytes for part in parts.by_name().values()) > 20_000


def test_the_sample_text_is_divided_the_same_each_time():
    parts = load(None, name="sample_text", evaluates=True)
    assert texts(load(None, name="sample_text", evaluates=True)) == texts(parts)
    for one, other in combinations(texts(parts).values(), 2):
        assert not {*one} & {*other}


# What is refused

REFUSED = {
    "no such file": ({}, "nowhere", [], "data.path: {folder}/nowhere: no such file or folder"),
    "no text in it": ({"a__py": "x"}, "", [], "holds no text file (.txt, .md, .tokens, .raw)"),
    "an empty folder": ({}, "", [], "{folder}: holds no text file"),
    "an empty file": ({"a__txt": ""}, "a.txt", [], "{folder}/a.txt: is empty"),
    "an empty file among others": ({"a__txt": TEXT, "b__txt": " \n\n"}, "", [], "{folder}/b.txt: is empty"),
    "test takes all": (
        {"a__txt": TEXT},
        "a.txt",
        ["data.test_bytes=99999"],
        f"data.test_bytes: 99,999 is all there is of the training part ({len(TEXT.encode()):,} bytes)",
    ),
    "validation takes what test has left": (
        {"a__txt": TEXT},
        "a.txt",
        ["data.test_bytes=1000", f"data.validation_bytes={len(TEXT.encode()) - 900}"],
        "data.validation_bytes: ",
    ),
    "not a line for training": (
        {"a__txt": TEXT},
        "a.txt",
        ["data.train_bytes=3"],
        "the train part of text would be empty; state other sizes, or more text",
    ),
    "nothing but what is measured": (
        {"train__txt": TEXT, "valid__txt": "v\n", "test__txt": TEXT},
        "",
        [],
        "the train part of text would be empty",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, write, nutshell, tmp_path):
    contents, path, words, message = REFUSED[case]
    folder = files(tmp_path / "texts", **contents)
    code, _, err = nutshell("show", write(TEXT_YAML), f"data.path={folder / path}", *words)
    assert code == 2 and message.format(folder=folder) in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"caf\xe9 au lait", "byte 0xe9 at offset 3"),
        ("猫\n".encode() * 5000 + b"\xff\xfe", "byte 0xff at offset 20000"),
        ("aß".encode()[:-1], "byte 0xc3 at offset 1"),
        pytest.param(
            b"\xef\xbb\xbfabcd\xff",
            "byte 0xff at offset 7",
        ),
    ],
)
def test_not_utf_8(raw, message, write, nutshell, tmp_path):
    (tmp_path / "a.txt").write_bytes(raw)
    code, _, err = nutshell("show", write(TEXT_YAML), f"data.path={tmp_path / 'a.txt'}")
    assert code == 2 and f"a.txt: not UTF-8 text: {message}" in err


def test_no_training_part_where_one_is_needed(write, nutshell, tmp_path):
    file = write(TEXT_YAML)
    words = ["data.name=wikitext2", f"data.path={wikitext(tmp_path / 'wiki', 'raw', test=ROWS)}"]
    code, _, err = nutshell("show", file, *words)
    assert code == 2 and "wikitext2 from local copy has no training part; it has test" in err
    words.append("training={num_train_epochs: 0}")
    code, _, err = nutshell("show", file, *words)
    assert code == 0, err
    code, _, err = nutshell("show", file, *words, "data.validation_bytes=99")
    assert code == 2 and "has no part to hold it out of" in err


def test_no_part_to_measure(tmp_path):
    with pytest.raises(UserError, match="imdb from local copy has no validation or test part to measure"):
        load(tmp_path, trains=False, name="imdb")
    with pytest.raises(UserError, match="imdb from local copy has no training part"):
        load(tmp_path, name="imdb")


def test_no_wikitext_in_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"holds no WikiText-2; expected wiki\.train\.raw"):
        load(tmp_path, name="wikitext2")
    with pytest.raises(UserError, match=r"nowhere: no such folder \(data\.path names it\)"):
        load(tmp_path / "nowhere", name="wikitext2")
    (tmp_path / "test-00000-of-00001.parquet").write_text("not parquet")
    with pytest.raises(UserError, match=r"test-00000-of-00001\.parquet: not a readable parquet file"):
        load(tmp_path, name="wikitext2")


def test_parquet_without_text(tmp_path):
    table = pyarrow.table({"line": ["no column of this name"]})
    pyarrow.parquet.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"test-00000-of-00001\.parquet"):
        load(tmp_path, name="wikitext2", trains=False)


@pytest.mark.parametrize(
    "text", ["这部电影很好看" * 500, "这部电影很好看" * 500 + "\n", "章 " + "这部电影很好看" * 500]
)
def test_writing_without_spaces_is_cut_between_characters(text, tmp_path):
    parts = load(files(tmp_path, a__txt=text), evaluates=True)
    assert joined(parts) == text
    for name, share in (("train", 0.81), ("validation", 0.09), ("test", 0.1)):
        assert abs(getattr(parts, name).size_bytes - share * len(text.encode())) <= 9


@pytest.mark.parametrize("letter", ["e\u0301", "का", "👩\u200d👩\u200d👧", "👍🏽", "🐈\u200d⬛"])
def test_no_letter_is_cut_in_two(letter, tmp_path):
    for size in range(100, 140):
        parts = load(files(tmp_path, a__txt=letter * 200), test_bytes=size)
        for part in parts.by_name().values():
            assert part.documents == [letter * (len(part.documents[0]) // len(letter))]
        assert 0 < size - parts.test.size_bytes < len(letter.encode()) or parts.test.size_bytes == size


def test_a_part_that_is_left_empty_by_documents_that_are_twice_says_so(tmp_path):
    for number in range(30):
        files(tmp_path, **{f"{number:02}__txt": TEXT})
    with pytest.raises(UserError, match="the train part of text would be empty, and 27 documents of it in a later"):
        load(tmp_path, test_bytes=3 * len(TEXT.encode()))


@pytest.mark.parametrize("sign", ["", "\r"])
def test_a_text_of_one_line_is_cut_between_words(sign, tmp_path):
    text = ("naïve words " * 20 + sign) * 5
    parts = load(files(tmp_path, a__txt=text), evaluates=True)
    assert joined(parts) == text
    assert all(part.documents[0].strip().split(" ")[0] in ("naïve", "words") for part in parts.by_name().values())
