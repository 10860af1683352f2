"""Bytes, and merges of bytes learnt from the training part alone; the same tokens through transformers."""

import pytest
from huggingface_hub import constants
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from nutshell.data.datasets import TextData
from nutshell.data.encoding import vocabularies
from nutshell.data.parts import Part
from nutshell.data.text import corpus, documents, windows
from nutshell.experiment.load import load
from nutshell.machine.errors import UserError
from nutshell.models.find import read_config
from nutshell.tasks.task import tasks
from tests.conftest import TEXT_YAML, text_part

UNICODE = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 17)]))
ODD = [
    "Über den Fluß,\r\n\tging 猫 — und 🐈\u200d⬛!\n",
    "Nul \0, \ufeffMarke, e\u0301",
    "  a  b   ",
    "don't 1234\n\n\n",
    "",
]
NEW_YAML = TEXT_YAML.replace(
    "model: {name: CAUSAL}",
    "model: {config: {model_type: lstm, hidden_size: 8}, tokenizer: bpe, vocab_size: 300}",
)


@pytest.fixture(scope="module")
def sample() -> Part:
    return documents.load(TextData(name="sample_text", train_bytes=50_000)).train


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of tokenizers."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nutshell"


def test_bytes_are_256_and_the_end_of_text():
    vocabulary = vocabularies.of_bytes()
    assert len(vocabulary) == 257 and vocabulary.end_of_text == 256
    assert vocabulary.tokenizer.id_to_token(256) == "<|endoftext|>"
    assert vocabulary.digest == vocabularies.of_bytes().digest


def test_every_character_is_its_bytes_and_comes_back():
    tokenizer = vocabularies.of_bytes().tokenizer
    ids = tokenizer.encode(UNICODE).ids
    assert len(ids) == len(UNICODE.encode()) and max(ids) < 256
    assert tokenizer.decode(ids, skip_special_tokens=False) == UNICODE


def test_one_byte_is_one_token_everywhere():
    """Each of the 243 bytes that UTF-8 has, with the same token in every character."""
    tokenizer = vocabularies.of_bytes().tokenizer
    text = UNICODE[:5000] + UNICODE[5000::7]
    tokens: dict[int, set[int]] = {}
    for byte, token in zip(text.encode(), tokenizer.encode(text).ids, strict=True):
        tokens.setdefault(byte, set()).add(token)
    assert len(tokens) == 243 and all(len(ids) == 1 for ids in tokens.values())
    assert len(set.union(*tokens.values())) == 243


@pytest.mark.parametrize("size", [257, 258, 300, 1000])
def test_a_bpe_has_the_size_that_is_stated(size, sample, cache):
    vocabulary = vocabularies.trained(sample, size)
    assert len(vocabulary) == size
    assert {*pre_tokenizers.ByteLevel.alphabet(), "<|endoftext|>"} <= {*vocabulary.tokenizer.get_vocab()}
    for text in [*ODD, UNICODE[:3000]]:
        ids = vocabulary.tokenizer.encode(text).ids
        assert vocabulary.tokenizer.decode(ids, skip_special_tokens=False) == text
        assert len(ids) <= len(text.encode()) and vocabulary.end_of_text not in ids
    tokens = sum(len(vocabulary.tokenizer.encode(text).ids) for text in sample.documents)
    assert tokens == sample.size_bytes if size == 257 else tokens < sample.size_bytes


def test_a_bpe_is_the_same_when_it_is_trained_again(sample, cache):
    first = vocabularies.trained(sample, 600)
    (file,) = cache.iterdir()
    file.unlink()
    again = vocabularies.trained(text_part([*sample.documents]), 600)
    assert again.digest == first.digest and again.tokenizer.to_str() == first.tokenizer.to_str()
    assert [*cache.iterdir()] == [file]


def test_a_bpe_is_trained_once(sample, cache, monkeypatch):
    first = vocabularies.trained(sample, 400)
    monkeypatch.setattr(vocabularies.trainers, "BpeTrainer", lambda **_: pytest.fail("trained again"))
    again = vocabularies.trained(sample, 400)
    assert (again.digest, again.end_of_text, len(again)) == (first.digest, first.end_of_text, 400)
    text = "Es endet <|endoftext|> nicht."
    assert again.tokenizer.encode(text).ids == first.tokenizer.encode(text).ids
    assert again.end_of_text not in again.tokenizer.encode(text).ids


def test_another_text_or_size_is_another_bpe(sample, cache):
    others = [(sample, 300), (sample, 301), (text_part(sample.documents[1:]), 300)]
    assert len({vocabularies.trained(*other).digest for other in others}) == len([*cache.iterdir()]) == 3


def test_too_little_text_says_how_many_tokens_can_be_had(cache):
    few = text_part(["abc abd"])
    with pytest.raises(UserError) as error:
        vocabularies.trained(few, 400)
    assert str(error.value) == (
        "model.vocab_size: 400 tokens are more than a training part of 7 bytes gives, 261; state at most that"
    )
    assert not [*cache.iterdir()]
    assert len(vocabularies.trained(few, 261)) == 261
    with pytest.raises(UserError, match="gives, 261"):
        vocabularies.trained(few, 262)


def test_a_bpe_never_sees_what_is_measured(write, tmp_path):
    """Only words of the test and validation part could give another vocabulary; they give none of its tokens."""
    corpora = []
    for number, other in enumerate(("It was once upon a time. ", "Quizzaciously quixotic. ")):
        folder = tmp_path / f"texts{number}"
        folder.mkdir()
        for part, text in (("train", "The cat sat on the mat, and the dog lay beside it. "), ("valid", other)):
            (folder / f"{part}.txt").write_text("\n".join([text * 20] * 20), encoding="utf-8")
        (folder / "test.txt").write_text(f"{other}\n" * 99, encoding="utf-8")
        file = write(NEW_YAML.replace("STORIES", str(folder)).replace("vocab_size: 300", "vocab_size: 280"))
        experiment = load(file, (), tasks())
        corpora.append(corpus.load(experiment.model, experiment.data, trains=True, evaluates=True))
    one, two = corpora
    assert one.vocabulary.digest == two.vocabulary.digest == vocabularies.trained(one.parts.train, 280).digest
    assert one.streams["train"].tolist() == two.streams["train"].tolist()
    assert one.streams["test"].tolist() != two.streams["test"].tolist()
    for part, text in two.parts.by_name().items():
        assert two.streams[part].tolist() == windows.stream(text, two.vocabulary).tolist()


def test_too_large_a_vocabulary_is_refused_before_anything_is_trained(write, nutshell):
    code, _, err = nutshell("show", write(NEW_YAML), "model.vocab_size=5000")
    assert code == 2 and "model.vocab_size: 5000 tokens are more than a training part of" in err


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_transformers_gives_the_same_tokens(kind, sample, cache, tmp_path):
    vocabulary = vocabularies.of_bytes() if kind == "bytes" else vocabularies.trained(sample, 500)
    vocabularies.for_transformers(vocabulary, 64).save_pretrained(tmp_path / "saved")
    stock = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(stock) == len(vocabulary) and stock.model_max_length == 64
    assert stock.eos_token_id == stock.bos_token_id == vocabulary.end_of_text
    for text in [*ODD, *sample.documents, UNICODE[:3000]]:
        ids = vocabulary.tokenizer.encode(text).ids
        assert stock(text, verbose=False)["input_ids"] == ids
        assert stock.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("limit", [None, 64])
def test_to_be_saved_leaves_the_tokenizer_as_it_is(limit):
    vocabulary = vocabularies.of_bytes()
    before = vocabulary.tokenizer.to_str()
    stock = vocabularies.for_transformers(vocabulary, limit)
    stock(["a", "longer"], truncation=True, max_length=3)
    assert vocabulary.tokenizer.to_str() == before
    assert vocabulary.end_of_text not in vocabulary.tokenizer.encode("<|endoftext|>").ids


def test_a_checkpoint_s_tokenizer_is_read_as_strictly(causal):
    config = read_config(causal["gpt2"])
    vocabulary = vocabularies.of_checkpoint(causal["gpt2"], config)
    for text in (*ODD, "Es endet <|endoftext|> nicht."):
        assert vocabulary.tokenizer.encode(text).ids == vocabularies.of_bytes().tokenizer.encode(text).ids
    with pytest.raises(UserError, match="its eos_token_id is null, but one token must end a document"):
        vocabularies.of_checkpoint(causal["gpt2"], config | {"eos_token_id": None})
    with pytest.raises(UserError, match="its tokenizer has 257 tokens, its model 256"):
        vocabularies.of_checkpoint(causal["gpt2"], config | {"vocab_size": 256})
