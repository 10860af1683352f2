"""One tokenizer from reading to saving, for every architecture."""

import json
import shutil

import pytest
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from nutshell.data.encoding import tokenizers, tokens
from nutshell.data.parts import Part
from nutshell.machine.errors import UserError
from nutshell.models.classifiers import encoders
from tests.models.classifiers import tiny

TEXTS = [
    ("A cat.",),
    ("It rained [SEP] </s> all day, and all of the night, and then the next day it rained again.",),
    ("Öl",),
]
PAIRS = [(*TEXTS[0], *TEXTS[1]), (*TEXTS[1], *TEXTS[0]), (*TEXTS[1], *TEXTS[1]), (*TEXTS[2], *TEXTS[0])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each architecture."""
    return {name: tiny.make(name, tmp_path_factory.mktemp(name)) for name in encoders.ENCODERS}


@pytest.fixture
def changed(folders, tmp_path):
    """A copy of a checkpoint with other settings of its tokenizer and another post-processor."""

    def _changed(name: str, processor=None, config=(), **settings):
        folder = shutil.copytree(folders[name], tmp_path / "changed")
        for file, keys in (("tokenizer_config.json", settings), ("config.json", dict(config))):
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps(content | keys))
        if processor:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.post_processor = processor
            tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return _changed


@pytest.mark.parametrize("name", encoders.ENCODERS)
@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_what_is_saved_reads_as_was_measured(name, truncate, folders, tmp_path):
    """Single texts and pairs, cut and whole, through AutoTokenizer."""
    tokenizer, _ = tokenizers.load_tokenizer(folders[name])
    for limit in (16, 17, 48):
        tokenizers.for_transformers(folders[name], limit, truncate).save_pretrained(tmp_path)
        shutil.copy(folders[name] / "config.json", tmp_path)
        saved = AutoTokenizer.from_pretrained(tmp_path)
        for rows in (TEXTS, PAIRS):
            expected = saved(*[list(column) for column in zip(*rows, strict=True)], truncation=True)
            encoded = [*tokens.encode(Part(rows), tokenizer, limit, truncate)]
            assert expected["input_ids"] == [ids for ids, _, _ in encoded]
            if "token_type_ids" in expected:
                assert expected["token_type_ids"] == [types for _, types, _ in encoded]
            assert [*expected] == encoders.input_names(json.loads((tmp_path / "config.json").read_text()))
            assert limit in map(len, expected["input_ids"]) or limit == 48


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_a_batch_is_padded_on_the_right_with_what_the_model_is_fed(name, changed):
    folder = changed(name, padding_side="left")
    tokenizer, _ = tokenizers.load_tokenizer(folder)
    rows = [
        {"input_ids": ids, "token_type_ids": types, "labels": 1, "length": len(ids)}
        for ids, types, _ in tokens.encode(Part(PAIRS), tokenizer, 48, "head")
    ]
    batch = tokenizers.Collator(tokenizers.for_transformers(folder, 48, "head"))(rows)
    assert {*batch} == {*encoders.input_names(json.loads((folder / "config.json").read_text())), "labels"}
    for ids, mask, row in zip(batch["input_ids"], batch["attention_mask"], rows, strict=True):
        kept = row["length"]
        assert ids[:kept].tolist() == row["input_ids"] and mask.tolist() == [1] * kept + [0] * (len(mask) - kept)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "mpnet"])
def test_two_separators_between_the_texts_of_a_pair(name, folders):
    tokenizer, _ = tokenizers.load_tokenizer(folders[name])
    around = tokenizers.template(tokenizer, 2)
    assert around.special == ([0], [2, 2], [2]) and around.text_types == (0, 0)
    assert tokenizers.template(tokenizer, 1).special == ([0], [2])


def test_bert_s_template(folders):
    tokenizer, _ = tokenizers.load_tokenizer(folders["bert"])
    around = tokenizers.template(tokenizer, 2)
    assert around == tokenizers.Template(([2], [3], [3]), ([0], [0], [1]), (0, 1))


def test_no_special_token_in_front(changed):
    folder = changed("roberta", processors.ByteLevel())
    with pytest.raises(UserError, match=r"puts no special tokens before, between and after texts"):
        tokenizers.check(folder, 1)


def test_one_token_type(changed):
    """Refused where the second text of a pair must have another; meant by RoBERTa."""
    bert = changed("bert", config={"type_vocab_size": 1})
    tokenizers.check(bert, 1)
    with pytest.raises(UserError, match=r"gives examples of 2 texts 2 token types, its model has 1"):
        tokenizers.check(bert, 2)


def test_roberta_is_fed_no_token_types_whatever_its_tokenizer_says(changed):
    pair = "<s> $A </s> $B:1 </s>:1"
    template = processors.TemplateProcessing("<s> $A </s>", pair, [("<s>", 0), ("</s>", 2)])
    folder = changed("roberta", template)
    tokenizers.check(folder, 2)
    assert tokenizers.for_transformers(folder, 48, "head").model_input_names == ["input_ids", "attention_mask"]


def test_more_tokens_than_rows(changed):
    with pytest.raises(UserError, match=r"its tokenizer has \d+ tokens, its model 290: they are not of the same"):
        tokenizers.check(changed("albert", config={"vocab_size": 290}), 1)


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_a_tokenizer_that_lower_cases_must_say_so(name, changed):
    with pytest.raises(UserError, match=r"do_lower_case is false, but tokenizer.json lower-cases"):
        tokenizers.check(changed(name, do_lower_case=False), 1)


def test_case_is_as_stated(changed):
    tokenizers.check(changed("bert", do_lower_case=True), 1)


@pytest.mark.parametrize(("name", "refused"), [("roberta", True), ("bert", False)])
def test_padding_that_the_model_takes_for_text(name, refused, changed):
    """Positions are counted from the padding token's id where its config says so."""
    folder = changed(name, config={"pad_token_id": 5})
    if refused:
        with pytest.raises(UserError, match=r"pads with <pad> \(1\), its model takes 5 for padding"):
            tokenizers.for_transformers(folder, 48, "head")
    else:
        assert tokenizers.for_transformers(folder, 48, "head").pad_token_id == 0


def test_special_tokens_that_only_the_class_names(folders, tmp_path):
    """Published RoBERTa states none of them."""
    folder = shutil.copytree(folders["roberta"], tmp_path / "roberta")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    tokenizer = tokenizers.for_transformers(folder, 48, "head")
    assert (tokenizer.pad_token, tokenizer.cls_token, len(tokenizer)) == ("<pad>", "<s>", 400)


def test_settings_that_transformers_cannot_read(changed):
    with pytest.raises(UserError, match="transformers cannot load its tokenizer"):
        tokenizers.for_transformers(changed("bert", tokenizer_class=3), 48, "head")
