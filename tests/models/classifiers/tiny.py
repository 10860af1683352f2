"""A tiny checkpoint of each architecture that classifiers are made of: two layers of random weights, and a tokenizer of
the kind that its published checkpoints have, trained on the embedded pairs."""

from pathlib import Path
from types import SimpleNamespace

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nutshell.data import labelled
from nutshell.data.datasets import LabelledData
from nutshell.models.classifiers import encoders

LABELS = ("not_equivalent", "equivalent")
POSITIONS = 48
SMALL = {
    "hidden_size": 16,
    "embedding_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.2,
}
OWN = {
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "modernbert": {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0},
}
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def block(**keys) -> SimpleNamespace:
    """A `model:` block with its defaults."""
    defaults = {"name": "tiny", "revision": None, "trainable": "all", "dropout": None, "new_head": False, "lora": None}
    return SimpleNamespace(**{**defaults, **keys})


def lora(**keys) -> SimpleNamespace:
    """A `model.lora:` block with its defaults."""
    return SimpleNamespace(**{"rank": 4, "alpha": 8, "dropout": 0.0, "targets": None, **keys})


def pairs(count: int):
    """The first few of the embedded pairs' test part."""
    return labelled.load(LabelledData(name="sample_pairs")).test.take(list(range(count)))


def tokenizer_of(architecture: str) -> Tokenizer:
    """WordPiece, byte-level BPE or Unigram, as the architecture's published checkpoints have it."""
    texts = [text for row in labelled.load(LabelledData(name="sample_pairs")).train.texts for text in row]
    roberta = architecture in encoders.COUNTED
    tokens = ROBERTA if roberta else BERT
    begin, end, unknown = ("<s>", "</s>", "<unk>") if roberta else ("[CLS]", "[SEP]", "[UNK]")
    special = {"special_tokens": list(tokens), "show_progress": False}
    if architecture in ("roberta", "modernbert"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **special)
    elif architecture in ("albert", "deberta-v2", "xlm-roberta"):
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        if architecture == "albert":
            tokenizer.normalizer = normalizers.Lowercase()
        trainer = trainers.UnigramTrainer(vocab_size=300, unk_token=unknown, **special)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=400, **special)
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (end, begin)]
    if architecture in ("roberta", "mpnet"):
        tokenizer.post_processor = processors.RobertaProcessing(*ids)
    else:
        second = f"{end} $B:0 {end}:0" if roberta else f"$B:1 {end}:1"
        one = f"{begin} $A {end}"
        tokenizer.post_processor = processors.TemplateProcessing(single=one, pair=f"{one} {second}", special_tokens=ids)
    return tokenizer


def make(architecture: str, folder: Path, **keys) -> Path:
    """Writes a base model, without a head, with its tokenizer.

    Args:
        architecture: Its `model_type`.
        folder: Where to.
        keys: Of the config, next to the small sizes.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

    tokenizer = tokenizer_of(architecture)
    roberta = architecture in encoders.COUNTED
    names = ROBERTA if roberta else BERT
    order = ("cls", "pad", "sep", "unk", "mask") if roberta else ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(order, names, strict=True)}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes = SMALL | {"max_position_embeddings": POSITIONS + (2 if roberta else 0)} | OWN.get(architecture, {}) | keys
    torch.manual_seed(0)
    config = CONFIG_MAPPING[architecture](vocab_size=tokenizer.get_vocab_size(), **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder
