"""Tokenizers as SentencePiece makes them, of Llama 2, Mistral and Gemma: spaces as U+2581, bytes where no token is."""

from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nutshell.data.encoding.vocabularies import Vocabulary, of_bytes, start_tokens, strict
from nutshell.data.parts import Part
from nutshell.data.text import stretches, windows
from nutshell.data.text.templates import Prompts, Template
from nutshell.machine.errors import UserError
from nutshell.runs.generation.prompts import requests

TEXTS = ["The cat sat on the mat.\n", "Über den Fluß, 猫 🐈  two  spaces\t.", "a", "", "\nthe\n\nend ", "at" * 5000]
SPACE = "\u2581"
KINDS = {
    "llama 2": (
        {"normalizer": normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])},
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)],
    ),
    "mistral": (
        {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first", split=False)},
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)],
    ),
    "gemma": (
        {"normalizer": normalizers.Replace(" ", SPACE)},
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()],
    ),
}


def vocabulary_of(kind: str) -> Vocabulary:
    """A small vocabulary with few merges; <s> begins a text, </s> ends it."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *f"{SPACE}etaoinshrdluTcm.,"]
    merges = [(SPACE, "t"), ("h", "e"), (SPACE + "t", "he"), ("a", "t"), (SPACE, "c"), (SPACE + "c", "at")]
    tokens += [one + other for one, other in merges]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    parts, steps = KINDS[kind]
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    around = {"single": "<s> $A", "pair": "<s> $A <s> $B", "special_tokens": [("<s>", 1)]}
    tokenizer.post_processor = processors.TemplateProcessing(**around)
    if kind == "gemma":
        tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
    return Vocabulary(strict(tokenizer), kind, 2, None, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_token_spells_its_bytes(kind):
    """As decoding ever more tokens of a document tells, wherever they end between two characters."""
    vocabulary = vocabulary_of(kind)
    for text, ids in zip(TEXTS, windows.encode(TEXTS, vocabulary), strict=True):
        spelt = vocabulary.spelt(windows.join([ids], vocabulary))[: len(ids)].cumsum()
        assert len(text.encode()) == (spelt[-1] if len(ids) else 0)
        for count in range(1, min(len(ids), 200) + 1):
            decoded = vocabulary.tokenizer.decode(ids[:count], skip_special_tokens=False)
            if "\ufffd" not in decoded:
                assert len(decoded.encode()) == max(spelt[count - 1], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_stretches_of_a_text(kind, caplog):
    """The same bytes as with every tokenizer, and no token's cost is lost."""
    vocabulary = vocabulary_of(kind)
    stream = windows.join(windows.encode(TEXTS, vocabulary), vocabulary)
    every = windows.windows(stream, vocabulary, 64)
    costs = numpy.where(every.scored, numpy.arange(1, len(stream)), 0).astype(float)
    columns = stretches.sums(Part([(text,) for text in TEXTS]), vocabulary, every, costs)
    assert not caplog.records
    assert columns["bytes"].tolist() == [24, len(TEXTS[1].encode()), 1, 0, len(TEXTS[4]), 4096, 4096, 1808]
    assert columns["nats"].sum() == costs.sum() and columns["tokens"].sum() == every.scored.sum()
    last = columns["tokens"][-3:]
    assert abs(last[0] - 2048) <= 2 and abs(last[1] - 2048) <= 1  # a token is "at"


def test_a_leading_space_that_is_lost_is_refused():
    """As of Mistral's newer tokenizers, which add none before a text that has one."""
    with pytest.raises(UserError, match="the tokenizer does not keep the text"):
        windows.encode([" lead"], vocabulary_of("mistral"))


def prompts_of(kind: str, *answers: str) -> Prompts:
    vocabulary = vocabulary_of(kind)
    return Prompts(
        (Template("{text}:", answers),), ("text",), vocabulary.tokenizer, vocabulary.start_of_text, 20, "head"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_has_the_tokens_that_it_has_after_a_prompt(kind):
    """By itself " cat" would be two spaces and a word to Llama 2, and "cat" would be " cat"."""
    prompts = prompts_of(kind, " cat", "cat")
    tokens = [[prompts.tokenizer.id_to_token(number) for number in ids] for ids in prompts.answers[0]]
    assert tokens == [[f"{SPACE}cat"], ["c", "at"]]
    for answer, ids in zip(prompts.templates[0].answers, prompts.answers[0], strict=True):
        for prompt in ("the mat.", "the end\n"):
            before, whole = (
                prompts.tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, prompt + answer)
            )
            assert whole == before + ids


def test_an_answer_that_shares_a_token_with_what_is_before_it():
    """To Gemma two line ends are one token."""
    prompts = prompts_of("gemma", "\ncat", "at")
    assert prompts.tokenizer.decode(prompts.answers[0][0]) == "\ncat"
    prompts = prompts_of("gemma", "\ncat", "at")
    prompts.tokenizer.add_tokens([AddedToken("a\n", normalized=False)])
    with pytest.raises(UserError, match=r'prompt.answers: "\\ncat" has to this tokenizer no tokens of its own'):
        assert prompts.answers


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_begins_with_the_tokenizer_s_start_token(kind):
    """As transformers would tokenise it; what spells one out is text. A chat template writes its own."""
    prompts, tokenizer = prompts_of(kind, " cat", "at"), vocabulary_of(kind).tokenizer
    texts = ["the cat:", "<s>:", ":"]
    config, generation = {"model_type": "llama", "vocab_size": 290, "bos_token_id": 1}, {"max_new_tokens": 1}
    expected = [tokenizer.encode(text).ids for text in texts]
    assert all(ids[0] == 1 and 1 not in ids[1:] for ids in expected)
    rows = prompts.rows([(text.removesuffix(":"),) for text in texts])
    assert [row.tolist() for (row,) in rows] == expected
    assert prompts.heads[0][0] == 1
    assert [request.ids for request in requests(texts, tokenizer, config, generation)] == expected
    assert requests([""], tokenizer, config, generation)[0].ids == [1]
    chat = SimpleNamespace(ends=(), encode=lambda messages, name: [7, 8])
    conversation = [{"role": "user", "content": "the"}]
    assert requests([conversation], tokenizer, config, generation, chat=chat)[0].ids == [7, 8]
    soft = replace(prompts, before=(300, 301)).rows([("the cat",)])
    assert soft[0][0].tolist() == [300, 301, *expected[0]]
    own = len(expected[-1])
    with pytest.raises(UserError, match=rf"template 1 has {own} tokens, .* an answer 1: {own + 21}, more than"):
        prompts.check_length(own + 20)
    prompts.check_length(own + 21)


def test_only_what_is_before_a_text_is_put_before_a_prompt():
    assert start_tokens(of_bytes().tokenizer) == []
    tokenizer = vocabulary_of("llama 2").tokenizer
    around = {"single": "<s> $A </s>", "special_tokens": [("<s>", 1), ("</s>", 2)]}
    tokenizer.post_processor = processors.TemplateProcessing(**around)
    assert start_tokens(tokenizer) == [1]
