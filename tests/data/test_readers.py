"""Which files a run reads, what is in them, and in which words they are refused."""

import csv
import gzip
import io
import json
import os
import shutil
import tracemalloc
from datetime import date

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData, TextData
from nutshell.data.readers import files as part_files
from nutshell.data.readers import rows
from nutshell.data.text import documents
from nutshell.experiment.load import load as load_experiment
from nutshell.machine import provenance
from nutshell.machine.errors import UserError
from nutshell.tasks.task import tasks
from tests.conftest import PROMPTS_YAML, SMALL_YAML, TEXT_YAML

GOOD = [{"text": f"film {number}", "label": number % 2} for number in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD)
CSV = "text,label\n" + "".join(f"film {number},{number % 2}\n" for number in range(4))


def reviews(folder) -> LabelledData:
    return LabelledData(name="sample_reviews", path=str(folder))


def fill(folder, **contents):
    """A folder with a file for each word, `__` in it a dot, `_of_` and `_0` with hyphens."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        file = folder / name.replace("__", ".").replace("_of_", "-of-").replace("_0", "-0")
        if file.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), file)
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refusal(folder, read=None) -> str:
    """The message with which a folder is refused, without the folder's name."""
    with pytest.raises(UserError) as error:
        (read or labelled.load)(reviews(folder))
    return str(error.value).replace(f"{folder}", "").removeprefix("/").removeprefix(": ")


# Rows

ROWS = {
    "other columns": ("csv", "Text,Label\na,0\n", "row 1: the header has columns Text, Label; expected text, label"),
    "a column without a name": ("csv", ",text,label\n0,a,0\n", "row 1: the header has columns (no name), text, label"),
    "other columns in a TSV": ("tsv", "a\tb\n1\t2\n", "row 1: the header has columns a, b; expected text, label"),
    "a header alone": ("csv", "text,label\n", "the train part is empty"),
    "a blank first row": ("csv", "\ntext,label\na,0\n", "row 1: the header is blank"),
    "a blank row in between": ("csv", "text,label\na,0\n\nb,1\n", "row 3: is blank, but rows follow it"),
    "an unclosed quote": (
        "csv",
        'text,label\n"a\nb",0\n"never closed,1\nc,0\nd,1\n',
        "row 4: not valid CSV: a quote opens here and is never closed",
    ),
    "an unclosed quote in a record's second line": (
        "csv",
        'text,label\n"a\nb","0\nc,0\n',
        "row 3: not valid CSV: a quote opens here and is never closed",
    ),
    "an unclosed quote before a closed one": (
        "csv",
        'text,label\n"never closed,1\nc,0\n"d",1\n',
        "row 2: not valid CSV: a quote opens here and closes in row 4 with text after it",
    ),
    "a stray quote": (
        "csv",
        'text,label\nb,0\n"a "b" c",0\n',
        "row 3: not valid CSV: a quote opens here and closes in",
    ),
    "a field too few after a record of two lines": (
        "csv",
        'text,label\n"a\nb",0\nc\n',
        "row 4: has 1 fields, the header",
    ),
    "a NUL byte": ("csv", "text,label\na,0\nb\0,1\n", "row 3: not UTF-8 text (a byte 0x00, as UTF-16 has them)"),
    "UTF-16": ("tsv", "text\tlabel\n".encode("utf-16-le"), "row 1: not UTF-8 text (a byte 0x00"),
    "a number as text": ("jsonl", LINES + '{"text": 5, "label": 1}', "row 5: text is a number, expected text"),
    "null as text": ("jsonl", '{"text": null, "label": 1}', "row 1: text is null, expected text"),
    "a list as text": ("jsonl", '{"text": ["a"], "label": 1}', "row 1: text is a list, expected text"),
    "an object as text": ("jsonl", '{"text": {}, "label": 1}', "row 1: text is an object, expected text"),
    "true as text": ("jsonl", '{"text": true, "label": 1}', "row 1: text is true or false, expected text"),
    "NaN as text": ("jsonl", '{"text": NaN, "label": 1}', "row 1: text is NaN, expected text"),
    "an empty text": ("csv", "text,label\n,1\n", "row 2: text is empty"),
    "NaN as label": ("jsonl", '{"text": "a", "label": NaN}', "row 1: label is NaN, expected one of 0 (negative), 1"),
    "Infinity as label": ("jsonl", '{"text": "a", "label": -1e999}', "row 1: label is -Infinity, expected one of 0"),
    "null as label": ("jsonl", '{"text": "a", "label": null}', "row 1: label is null, expected one of 0 (negative)"),
    "true as label": ("jsonl", '{"text": "a", "label": true}', "row 1: label is true, expected one of 0 (negative)"),
    "a list as label": ("jsonl", '{"text": "a", "label": [1]}', "row 1: label is a list, expected one of 0 (negative)"),
    "a label of 5,001 digits": ("csv", f"text,label\na,{'1' * 5001}\n", f'row 2: label is "{"1" * 39}..., expected'),
    "a number of 5,001 digits": (
        "jsonl",
        LINES + f'{{"text": "a", "label": {"1" * 5001}}}',
        "row 5: has a number of more than 4,300 digits",
    ),
    "100,000 brackets": ("jsonl", LINES + "[" * 100_000, "row 5: is nested too deeply"),
    "100,000 brackets in an object": (
        "jsonl",
        '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": 1}',
        "row 1: is nested too deeply",
    ),
    "a key twice": ("jsonl", '{"text": "a", "label": 0, "label": 1}', 'row 1: has the key "label" twice in one object'),
    "no JSON": ("jsonl", LINES + '{"text": ', "row 5: not valid JSON: Expecting value (character "),
    "no object": ("jsonl", "5\n", "row 1: is a number, expected an object with columns"),
    "an object without columns": ("jsonl", "{}\n", "row 1: is an object without columns"),
    "a time as label": (
        "parquet",
        [{"text": "a", "label": date(2020, 1, 1)}],
        "row 1: label is neither text nor number, expected one of",
    ),
    "other columns in a parquet": ("parquet", [{"a": 1}], "has columns a; expected text, label"),
}


@pytest.mark.parametrize("case", ROWS)
def test_the_row_and_the_fault_are_named(case, tmp_path):
    suffix, content, message = ROWS[case]
    assert refusal(fill(tmp_path, **{f"train__{suffix}": content})).startswith(f"train.{suffix}: {message}")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\r\n"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_blank_lines_at_the_end_are_no_rows(suffix, end, tmp_path):
    content = CSV.replace(",", "\t" if suffix == "tsv" else ",") + end
    fill(tmp_path, **{f"train__{suffix}": content, f"test__{suffix}": content})
    assert len(labelled.load(reviews(tmp_path)).train) == 4


def test_quotes_that_are_text_stay(tmp_path):
    fill(tmp_path, train__csv='text,label\n5" wide,0\n"a ""b""\nc",1\n', test__csv=CSV)
    assert labelled.load(reviews(tmp_path)).train.texts == [('5" wide',), ('a "b"\nc',)]


# Formats

TABLE = [{"id": str(number), "text": f'Satz {number}, "so" 猫\u2028.', "": ""} for number in range(2500)]


def written(rows: list[dict], suffix: str) -> bytes:
    """The rows in a file's form."""
    sink = io.BytesIO()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if suffix == ".csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([[*rows[0]], *(row.values() for row in rows)])
        return text.getvalue().encode()
    if suffix == ".tsv":
        return "".join("\t".join(fields) + "\n" for fields in ([*rows[0]], *(row.values() for row in rows))).encode()
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    elif suffix.startswith(".arrow"):
        table = pyarrow.Table.from_pylist(rows)
        with (pyarrow.ipc.new_file if suffix == ".arrow file" else pyarrow.ipc.new_stream)(
            sink, table.schema
        ) as writer:
            writer.write_table(table, max_chunksize=1700)
    else:
        texts = {".jsonl": "".join(lines), ".json lines": "\n \n" + "".join(lines), ".json": json.dumps(rows, indent=1)}
        return texts[suffix].encode()
    return sink.getvalue()


FORMATS = [".csv", ".tsv", ".jsonl", ".json", ".json lines", ".parquet", ".arrow", ".arrow file"]


@pytest.mark.parametrize("compressed", [False, True], ids=["", "gz"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_same_rows(form, compressed, tmp_path):
    suffix, content = form.split()[0], written(TABLE, form)
    file = tmp_path / f"My table.2024{suffix}{'.gz' * compressed}"
    file.write_bytes(gzip.compress(content) if compressed else content)
    table = rows.read(file)
    assert table.columns == [*TABLE[0]]
    first = {".csv": 2, ".tsv": 2, ".json lines": 3}.get(form, 1)
    assert [*table.rows] == [(f"{file}: row {number}:", row) for number, row in enumerate(TABLE, first)]


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".json", ".json lines"])
def test_the_same_rows_from_standard_input(form):
    table = rows.read_stream(io.BytesIO(b"\xef\xbb\xbf" + written(TABLE, form)), form.split()[0])
    first = {".csv": 2, ".tsv": 2, ".json lines": 3}.get(form, 1)
    assert [*table.rows] == [(f"standard input: row {number}:", row) for number, row in enumerate(TABLE, first)]


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".json"])
def test_memory_does_not_grow_with_the_file(form, tmp_path):
    file = tmp_path / f"a{form}"
    file.write_bytes(written([{"text": "word " * 2000, "id": str(number)} for number in range(2000)], form))
    tracemalloc.start()
    assert sum(1 for _ in rows.read(file).rows) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.stat().st_size > 20_000_000 and peak < 8_000_000


def test_plain_lines():
    table = rows.lines(io.BytesIO(b"\xef\xbb\xbfone\r\n\n t\xc2\x85wo \n\n\n"))
    assert table.columns == ["text"]
    texts = [(place, row["text"]) for place, row in table.rows]
    assert texts == [
        (f"standard input: row {number}:", text) for number, text in enumerate(["one", "", " t\x85wo "], 1)
    ]
    with pytest.raises(UserError, match="standard input: row 2: not UTF-8 text"):
        [*rows.lines(io.BytesIO(b"one\ntw\xff\n")).rows]


def test_lines_of_a_file(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo"))
    assert [row["text"] for _, row in rows.lines(tmp_path / "a.txt.gz").rows] == ["one", "two"]


def test_a_table_without_rows(tmp_path):
    for form, content in {".csv": "", ".tsv": "\n\n", ".jsonl": "\n", ".json": " ", "2.json": "[ ]"}.items():
        (tmp_path / f"a{form}").write_text(content)
        table = rows.read(tmp_path / f"a{form}")
        assert (table.columns, [*table.rows]) == ([], [])


def test_what_is_not_a_number_is_null_in_columns_of_numbers(tmp_path):
    for name in ("a.parquet", "a.arrow"):
        table = pyarrow.table({"x": [1.5, float("nan"), None]})
        if name == "a.parquet":
            pyarrow.parquet.write_table(table, tmp_path / name)
        else:
            with pyarrow.ipc.new_stream(tmp_path / name, table.schema) as writer:
                writer.write_table(table)
        assert [row["x"] for _, row in rows.read(tmp_path / name).rows] == [1.5, None, None]


def test_columns_without_a_name_may_be_many(tmp_path):
    fill(tmp_path, a__csv=",text,,\n7,a,,\n", b__csv="text,label,text\na,0,b\n")
    table = rows.read(tmp_path / "a.csv")
    assert table.columns == ["", "text", "", ""] and [row["text"] for _, row in table.rows] == ["a"]
    with pytest.raises(UserError, match=r"b\.csv: row 1: the header has column text twice"):
        rows.read(tmp_path / "b.csv")


QUOTES = ['5" wide', 'say "no"', '"Yes," he said, "no', 'a ""b""']


def test_quotes_in_a_tsv_are_text_unless_a_whole_field_is_in_them(tmp_path):
    fill(tmp_path, a__tsv="text\tlabel\n" + "".join(f"{text}\t1\n" for text in QUOTES))
    assert [row["text"] for _, row in rows.read(tmp_path / "a.tsv").rows] == QUOTES
    for quoted in ('"A whole quotation."', '"Say ""no""."', '""'):
        fill(tmp_path, b__tsv=f"text\tlabel\na\t0\n{quoted}\t1\n")
        with pytest.raises(
            UserError, match=r"b\.tsv: row 3: field 1 is in quotes, .*; save the table as CSV or JSON lines"
        ):
            [*rows.read(tmp_path / "b.tsv").rows]
        assert [*rows.read(tmp_path / "b.tsv", quotes_are_text=True).rows][1][1] == {"text": quoted, "label": "1"}
    fill(tmp_path, b__tsv='text\nsay "no"\n"one text\nof two rows"\n')
    with pytest.raises(UserError, match=r"b\.tsv: row 3: field 1 is in quotes"):
        [*rows.read(tmp_path / "b.tsv").rows]
    fill(tmp_path, c__tsv='#1 String\t#2 String\tQuality\tindex\n"a"\tb\t1\t9\n')
    assert [row for _, row in rows.read(tmp_path / "c.tsv").rows] == [
        {"sentence1": '"a"', "sentence2": "b", "label": "1"}
    ]


def test_a_tsv_without_a_header(tmp_path):
    fill(tmp_path, a__tsv='gj04\t1\t\t"Ours."\ngj05\t0\t*\tTheirs.\n')
    table = rows.read(tmp_path / "a.tsv", quotes_are_text=True, columns=["id", "label", "mark", "sentence"])
    assert table.columns == ["id", "label", "mark", "sentence"]
    assert [(place[-6:], row["sentence"]) for place, row in table.rows] == [
        ("row 1:", '"Ours."'),
        ("row 2:", "Theirs."),
    ]


LONG = f"{'a' * 100},0\n"
ROW = '{"text": "a", "label": 1}'
CONTENTS = {
    "an array that is never closed": (
        ".json",
        f"[{ROW}",
        "row 1: not valid JSON: expected the array's closing bracket,",
    ),
    "an array without a comma": (".json", f"[{ROW} {ROW}]", "row 1: not valid JSON: expected a comma or a closing"),
    "an array with a comma too many": (".json", f"[{ROW}, ]", "row 2: not valid JSON: Expecting value (character 1)"),
    "an array of numbers": (".json", "[5, 6]", "row 1: is a number, expected an object with columns"),
    "an element that is cut off": (".json", f'[{ROW}, {{"text": "a', "row 2: not valid JSON: Unterminated string"),
    "a fault in an element": (
        ".json",
        f'[{ROW}, {{"a" 1}}, {ROW}]',
        "row 2: not valid JSON: Expecting ':' delimiter (c",
    ),
    "a key twice in an element": (".json", '[{"a": 1, "a": 2}]', 'row 1: has the key "a" twice in one object'),
    "two arrays": (".json", f"[{ROW}]\n[{ROW}]", "has text after the array's closing bracket"),
    "an object over many lines": (
        ".json",
        '{"data":\n[]}',
        "row 1: not valid JSON: Expecting value (character 10); a .json",
    ),
    "no gzip": (".csv.gz", "text,label\n", "is no whole gzip file: Not a gzipped file"),
    "half a gzip": (".csv.gz", gzip.compress(CSV.encode() * 100)[:-9], "is no whole gzip file: Compressed file ended"),
    "a changed gzip": (".jsonl.gz", gzip.compress(LINES.encode())[:-8] + b"\0" * 8, "is no whole gzip file: CRC check"),
    "half a parquet in gzip": (".parquet.gz", gzip.compress(b"PAR1" * 9)[:-9], "not a readable parquet file"),
    "no Arrow": (".arrow", "text", "not a readable Arrow file"),
    "half an Arrow": (".arrow", written(TABLE, ".arrow")[:-40_000], "not a readable Arrow file"),
    "a byte in the second block": (
        ".csv",
        b"text,label\n" + LONG.encode() * 20_000 + b"\xff,0\n",
        "row 20002: not UTF-8",
    ),
    "a letter that is cut off": (".jsonl", LINES.encode() + "ß".encode()[:1], "row 5: not UTF-8 text (byte 0xc3)"),
    "a quote in the second block": (
        ".csv",
        "text,label\n" + LONG * 20_000 + '"b,0\n' + "c,1\n" * 9,
        "row 20002: not valid CSV: a quote opens here and is never closed",
    ),
    "a quote that opens late in gzip": (
        ".csv.gz",
        gzip.compress(b'text,label\n"a\nb","c\n"d"\n'),
        "row 3: not valid CSV: a quote opens here and closes in row 4",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_files_that_are_no_such_table(case, tmp_path):
    suffix, content, message = CONTENTS[case]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        [*rows.read(file).rows]
    assert str(error.value).startswith(f"{file}: {message}")


def test_a_fault_in_standard_input_is_named_too():
    with pytest.raises(UserError, match="standard input: row 3: not valid CSV: a quote opens here and is never closed"):
        [*rows.read_stream(io.BytesIO(b'text,label\na,0\n"b,1\n'), ".csv").rows]


# The parts of a table


def saved(folder, splits: list[str]):
    """What `save_to_disk` leaves, in two files for each split."""
    table = datasets.Dataset.from_list(GOOD)
    table = datasets.DatasetDict(dict.fromkeys(splits, table)) if splits else table
    table.save_to_disk(folder, **({"num_shards": dict.fromkeys(splits, 2)} if splits else {"num_shards": 2}))
    return folder


def test_a_single_file_is_the_training_part(tmp_path):
    fill(tmp_path, **{"test__csv": CSV, "IMDB Dataset__CSV": CSV})
    for name in ("test.csv", "IMDB Dataset.CSV"):
        assert part_files.table(tmp_path / name) == {"train": [tmp_path / name]}
        assert len([*rows.read(tmp_path / name).rows]) == 4
    with pytest.raises(UserError, match=r"is no table by its name, which would end in \.csv, \.tsv, \.jsonl"):
        part_files.table(fill(tmp_path, a__txt="x") / "a.txt")
    with pytest.raises(UserError, match=r"nowhere\.csv: no such file or folder"):
        part_files.table(tmp_path / "nowhere.csv")


def test_a_folder_s_files_by_their_names(tmp_path):
    fill(tmp_path / "own", Train__csv=CSV, dev__json="[]", test__parquet=GOOD, NOTES="mine", other__csv="x")
    assert names(part_files.table(tmp_path / "own")) == {
        "train": ["Train.csv"],
        "validation": ["dev.json"],
        "test": ["test.parquet"],
    }
    data = fill(tmp_path / "hub" / "data", train_00000_of_00002__parquet=GOOD, test_00000_of_00001__parquet=GOOD)
    shutil.copy(data / "train-00000-of-00002.parquet", data / "train-00001-of-00002.parquet")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "data").mkdir()
    for file in data.iterdir():  # as in the Hub's cache
        (tmp_path / "snapshot" / "data" / file.name).symlink_to(file)
    for folder in ("hub", "snapshot"):
        assert names(part_files.table(tmp_path / folder)) == {
            "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
            "test": ["test-00000-of-00001.parquet"],
        }
    fill(tmp_path / "hub", train__csv=CSV)
    with pytest.raises(UserError, match=r"holds the train part more than once: train\.csv, data/train-00000-of-00002"):
        part_files.table(tmp_path / "hub")


def test_parts_of_other_names(tmp_path):
    fill(tmp_path, train__tsv="x", dev_matched__tsv="x", dev_mismatched__tsv="x")
    parts = {"train": ["train"], "validation": ["dev_matched"], "validation_mismatched": ["dev_mismatched"]}
    assert names(part_files.table(tmp_path, parts)) == {part: [f"{name}.tsv"] for part, (name,) in parts.items()}


def test_saved_to_disk(tmp_path):
    shards = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    folder = saved(tmp_path / "dict", ["train", "test"])
    assert names(part_files.table(folder)) == {"train": shards, "test": shards}
    assert names(part_files.table(saved(tmp_path / "one", []))) == {"train": shards}
    assert [row for file in part_files.table(folder)["test"] for _, row in rows.read(file).rows] == GOOD
    parts = labelled.load(reviews(folder))
    assert parts.train.texts == parts.test.texts == [(row["text"],) for row in GOOD]


SAVED = {
    "a file is missing": (
        lambda folder: (folder / "train" / "data-00001-of-00002.arrow").unlink(),
        "/train/data-00001-of-00002.arrow: is missing; state.json lists it",
    ),
    "a split is missing": (
        lambda folder: shutil.rmtree(folder / "test"),
        "/test/state.json: cannot be read: No such file or directory",
    ),
    "a list that is none": (
        lambda folder: (folder / "dataset_dict.json").write_text("[1]"),
        "/dataset_dict.json: is not what save_to_disk writes",
    ),
    "a part is there again": (
        lambda folder: (folder / "train.csv").write_text(CSV),
        ": holds the train part more than once: train.csv, train/data-00000-of-00002.arrow",
    ),
}


@pytest.mark.parametrize("case", SAVED)
def test_saved_to_disk_and_damaged(case, tmp_path):
    change, message = SAVED[case]
    change(saved(tmp_path, ["train", "test"]))
    with pytest.raises(UserError) as error:
        part_files.table(tmp_path)
    assert str(error.value) == f"{tmp_path}{message}"


def test_a_folder_without_a_table_says_which_names_are_expected(tmp_path):
    for name in ({}, {"IMDB Dataset__csv": CSV}):
        with pytest.raises(
            UserError, match=r"would be called train, validation, dev, valid, test and end in \.csv, \.tsv"
        ):
            part_files.table(fill(tmp_path, **name))


# Files


def test_what_a_file_is_instead(tmp_path):
    (tmp_path / "train.csv").symlink_to(tmp_path / "gone.csv")
    assert refusal(tmp_path) == "train.csv: is a link to nothing"
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv").mkdir()
    assert refusal(tmp_path) == "train.csv: is a folder, expected a file"
    (tmp_path / "train.csv").rmdir()
    os.mkfifo(tmp_path / "train.csv")
    for read in (labelled.load, labelled.files):
        assert refusal(tmp_path, read).startswith("train.csv: is not a regular file")
    (tmp_path / "train.csv").unlink()
    (tmp_path / "all.csv").write_text(CSV)
    (tmp_path / "train.csv").symlink_to(tmp_path / "all.csv")
    (tmp_path / "test.csv").write_text(CSV)
    assert len(labelled.load(reviews(tmp_path)).train) == 4
    assert refusal(tmp_path / "train.csv") == "is not a folder (data.path names it)"


@pytest.mark.parametrize("text", [TEXT_YAML, PROMPTS_YAML], ids=["data", "prompts"])
@pytest.mark.parametrize(
    ("name", "message"),
    [("/dev/zero", "is not a regular file"), ("PIPE", "is not a regular file"), ("LINK", "is a link to nothing")],
)
def test_a_text_that_is_no_file(name, message, text, write, nutshell, tmp_path):
    os.mkfifo(tmp_path / "PIPE")
    (tmp_path / "LINK").symlink_to("gone")
    path = tmp_path / name
    word = f"data.path={path}" if text == TEXT_YAML else f"prompts={path}"
    code, _, err = nutshell("run", write(text, "generate/prompts.yaml"), word)
    assert code == 2 and f"{path}: {message}" in err and "Traceback" not in err


def test_a_pipe_in_a_folder_of_texts(tmp_path):
    fill(tmp_path, a__txt="A text.\n")
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(UserError, match=r"b\.txt: is not a regular file"):
        documents.load(TextData(name="text", path=str(tmp_path)))


SHARDS = {
    "compressed and not": (
        {"train__csv": CSV, "train__csv__gz": b""},
        "holds the train part more than once: train.csv, ",
    ),
    "a gap in gzip": (
        {"train_00001_of_00002__csv__gz": b""},
        "the train part has a gap: train-00000-of-00002.csv.gz is missing",
    ),
    "a gap": (
        {"train_00000_of_00002__jsonl": LINES},
        "the train part has a gap: train-00001-of-00002.jsonl is missing; there is train-00000-of-00002.jsonl",
    ),
    "no first": (
        {"train_00002_of_00003__jsonl": LINES, "train_00001_of_00003__jsonl": LINES},
        "the train part has a gap: train-00000-of-00003.jsonl is missing",
    ),
    "a gap with digests": (
        {"train_00000_of_00002_0abc__jsonl": LINES},
        "the train part has a gap: train-00001-of-00002-....jsonl is missing",
    ),
    "one too many": (
        {f"train_0000{number}_of_00002__jsonl": LINES for number in range(3)},
        "the train part has more files than their names say",
    ),
    "two formats": (
        {"train_00000_of_00001__jsonl": LINES, "train_00000_of_00001__parquet": GOOD},
        "holds the train part more than once: train-00000-of-00001.jsonl, train-00000-of-00001.parquet",
    ),
    "two totals": (
        {"train_00000_of_00001__jsonl": LINES, "train_00000_of_00002__jsonl": LINES},
        "holds the train part more than once: train-00000-of-00001.jsonl, train-00000-of-00002.jsonl",
    ),
    "two digests": (
        {"train_00000_of_00001_0a__jsonl": LINES, "train_00000_of_00001_0b__jsonl": LINES},
        "holds the train part more than once",
    ),
    "whole and in shards": (
        {"train__jsonl": LINES, "train_00000_of_00001__jsonl": LINES},
        "holds the train part more than once: train-00000-of-00001.jsonl, train.jsonl",
    ),
    "two names": (
        {"train__csv": CSV, "dev__csv": CSV, "validation__csv": CSV},
        "holds the validation part more than once: dev.csv, validation.csv",
    ),
    "another name": ({"train__csv": CSV, "train-old__csv": CSV}, "train-old.csv: is named for the train part, but is"),
}


@pytest.mark.parametrize("case", SHARDS)
def test_a_gap_and_a_double_are_noticed(case, tmp_path):
    contents, message = SHARDS[case]
    assert refusal(fill(tmp_path, **contents)).startswith(message)


@pytest.mark.parametrize("first", [0, 1])
def test_shards_are_read_in_their_numbers_order(first, tmp_path):
    for number in range(12):
        (tmp_path / f"train-{number + first}-of-12.csv").write_text(f"text,label\nfilm {number},0\n")
    (tmp_path / "test.csv").write_text(CSV)
    assert labelled.load(reviews(tmp_path)).train.texts == [(f"film {number}",) for number in range(12)]


def test_shards_with_other_columns(tmp_path):
    fill(tmp_path, train_00000_of_00002__csv=CSV, train_00001_of_00002__csv="label,film\n1,x\n")
    assert refusal(tmp_path).startswith("train-00001-of-00002.csv: row 1: the header has columns label, film; train-0")


def test_reviews_lack_a_label_or_are_there_twice(tmp_path):
    fill(tmp_path / "train" / "neg", a__txt="A flop.")
    assert refusal(tmp_path).startswith("train/pos: holds no review")
    fill(tmp_path / "train" / "pos", a__txt="A hit.")
    fill(tmp_path, train__csv=CSV)
    assert refusal(tmp_path) == "holds the train part more than once: train.csv, train/pos, train/neg"


TEXT_PARTS = {
    "a gap": ({"a_00000_of_00002__txt": "x"}, "the train part has a gap: a-00001-of-00002.txt is missing"),
    "two formats": ({"train__txt": "x", "train__md": "x"}, "holds the train part more than once: train.md, train.txt"),
    "two names": ({"train__txt": "x", "dev__txt": "x", "valid__txt": "x"}, "holds the validation part more than once"),
}


@pytest.mark.parametrize("case", TEXT_PARTS)
def test_a_gap_and_a_double_in_a_folder_of_texts(case, tmp_path):
    contents, message = TEXT_PARTS[case]
    with pytest.raises(UserError, match=message):
        documents.load(TextData(name="text", path=str(fill(tmp_path, **contents))))


def test_a_file_and_a_folder_for_one_part(tmp_path):
    fill(fill(tmp_path, train__txt="x") / "train", a__txt="x")
    with pytest.raises(UserError, match=r"holds the train part more than once: train, train\.txt"):
        documents.load(TextData(name="text", path=str(tmp_path)))


def test_wikitext_twice(tmp_path):
    fill(tmp_path, **{"wiki__test__raw": "x\n", "wiki__test__tokens": "x\n"})
    with pytest.raises(UserError, match=r"holds the test part more than once: wiki\.test\.raw, wiki\.test\.tokens"):
        documents.load(TextData(name="wikitext2", path=str(tmp_path)), trains=False)


# Which files are read


def names(files: dict) -> dict[str, list[str]]:
    return {part: [file.name for file in group] for part, group in files.items()}


def test_the_files_that_are_read(tmp_path, monkeypatch):
    fill(tmp_path / "imdb", train__csv=CSV, test__jsonl=LINES, NOTES="mine", README__md="mine", __DS_Store=b"\0")
    read = {"train": ["train.csv"], "test": ["test.jsonl"]}
    assert names(labelled.files(reviews(tmp_path / "imdb"))) == read
    assert labelled.files(LabelledData(name="imdb")) == labelled.files(LabelledData(name="sample_reviews")) == {}
    assert labelled.files(reviews(tmp_path / "nowhere")) == {}
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path))
    assert names(labelled.files(LabelledData(name="imdb"))) == read
    assert names(documents.files(TextData(name="imdb"))) == read
    assert documents.files(TextData(name="wikitext2")) == documents.files(TextData(name="sample_text")) == {}
    fill(tmp_path / "wikitext2", **{"wiki__valid__tokens": "x\n"})
    assert names(documents.files(TextData(name="wikitext2"))) == {"validation": ["wiki.valid.tokens"]}
    fill(tmp_path / "texts", a__txt="x", b__py="x", c__md="x")
    assert names(documents.files(TextData(name="text", path=str(tmp_path / "texts")))) == {"train": ["a.txt", "c.md"]}
    assert names(documents.files(TextData(name="text", path=str(tmp_path / "texts" / "b.py")))) == {"train": ["b.py"]}


# What their digest holds


@pytest.fixture
def digests(write):
    def _digests(*words, text: str = SMALL_YAML, file: str = "finetune/pairs.yaml") -> dict[str, str]:
        experiment = load_experiment(write(text, file), [str(word) for word in words], tasks())
        return provenance.digests(tasks()[experiment.task].reads(experiment))

    return _digests


def test_only_the_data_files_that_are_read_count(digests, small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "copy")
    first = digests(f"data.path={folder}")["data"]
    for name in ("NOTES", ".DS_Store", "README.md", "train.txt", "other.csv"):
        (folder / name).write_text("mine")
    assert digests(f"data.path={folder}")["data"] == first
    assert digests(f"data.path={shutil.copytree(small, tmp_path / 'elsewhere')}")["data"] == first
    (folder / "test.jsonl").rename(folder / "dev.jsonl")
    (folder / "validation.jsonl").rename(folder / "test.jsonl")
    assert digests(f"data.path={folder}")["data"] != first
    shutil.rmtree(folder)
    assert "data" not in digests(f"data.path={folder}")


def test_a_review_that_changes_its_label_is_a_change(digests, tmp_path):
    for label in ("neg", "pos"):
        for part in ("train", "test"):
            fill(tmp_path / part / label, a__txt="One.", b__txt="Two.")
    words = [f"data={{name: imdb, path: {tmp_path}}}"]
    first = digests(*words)
    assert digests(*words) == first
    (tmp_path / "train" / "neg" / "b.txt").rename(tmp_path / "train" / "pos" / "0.txt")
    assert digests(*words)["data"] != first["data"]


def test_only_the_files_of_a_model_that_are_read_count(digests, tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    first = digests(f"model.name={folder}")["model"]
    for name in ("README.md", ".DS_Store", "pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_text("mine")
    assert digests(f"model.name={folder}")["model"] == first
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        assert digests(f"model.name={folder}")["model"] != first
        first = digests(f"model.name={folder}")["model"]


def test_data_by_environment(digests, tmp_path, monkeypatch):
    words = ["data={name: imdb}"]
    hub = digests(*words)["data"]
    sums = {}
    for name, content in {"A": CSV, "same": CSV, "B": CSV.replace("film 3", "film 4")}.items():
        fill(tmp_path / name / "imdb", train__csv=content, test__csv=CSV)
        monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path / name))
        sums[name] = digests(*words)["data"]
    assert sums["A"] == sums["same"] and len({sums["A"], sums["B"], hub}) == 3
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path / "nowhere"))
    assert "data" not in digests(*words)
    monkeypatch.delenv("NUTSHELL_DATA")
    assert digests("data={name: imdb, revision: " + "a" * 40 + "}")["data"] != hub
    assert "data" not in digests("data={name: sample_pairs}")


def test_a_run_on_other_data_is_refused(write, nutshell, small, tmp_path, monkeypatch):
    for name in ("A", "B"):
        shutil.copytree(small, tmp_path / name / "mrpc")
    file = write(SMALL_YAML.replace("sample_pairs, path: SMALL", "mrpc"))
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path / "A"))
    assert nutshell("run", file)[0] == 0
    monkeypatch.setenv("NUTSHELL_DATA", str(tmp_path / "B"))
    (tmp_path / "B" / "mrpc" / "NOTES").write_text("mine")
    assert nutshell("run", file)[0] == 0
    train = tmp_path / "B" / "mrpc" / "train.jsonl"
    train.write_text(train.read_text().rpartition("\n")[0])
    code, _, err = nutshell("run", file)
    assert code == 2 and "holds another experiment; the data files have changed since" in err
    (tmp_path / "B" / "mrpc" / "train.csv").write_text(CSV)
    code, _, err = nutshell("run", file)
    assert code == 2 and "holds the train part more than once: train.csv, train.jsonl" in err
    shutil.rmtree(tmp_path / "B")
    assert nutshell("run", file)[0] == 0  # its results stay
