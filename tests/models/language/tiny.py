"""A tiny model of each architecture of language models: random weights, 64 positions, bytes as tokens; where it has a
sliding window, one of 8 tokens."""

from pathlib import Path

import torch

from nutshell.data.encoding import vocabularies
from nutshell.models.language.architectures import model_class

POSITIONS = 64
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "initializer_range": 0.3}
_PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,
}
_GROUPED = _PLAIN | {"num_key_value_heads": 2}
_SLIDING = {"sliding_window": 8}
SIZES = {
    "gpt2": _GPT,
    "llama": _GROUPED,
    "qwen2": _GROUPED | _SLIDING | {"use_sliding_window": True, "max_window_layers": 1},
    "gpt_neox": _PLAIN,
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "init_std": 0.3,
    },
    "mistral": _GROUPED | _SLIDING,
    "gemma": _GROUPED | {"head_dim": 8},
    "gemma2": _GROUPED | _SLIDING | {"head_dim": 8},
    "gemma3_text": _GROUPED | _SLIDING | {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen3": _GROUPED | {"head_dim": 8},
    "smollm3": _GROUPED,
    "olmo2": _GROUPED,
    "granite": _GROUPED,
    "stablelm": _GROUPED,
    "phi": _PLAIN,
    "gptj": _GPT | {"rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "falcon": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    },
    "scratch": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    },
    "lstm": {"embedding_size": 16, "hidden_size": 32, "initializer_range": 0.3},
}


def config(architecture: str, **keys):
    """The config of a tiny model."""
    vocabulary = vocabularies.of_bytes()
    ends = {"bos_token_id": vocabulary.end_of_text, "eos_token_id": vocabulary.end_of_text, "pad_token_id": None}
    sizes = SIZES[architecture] | ends | {"vocab_size": len(vocabulary)} | keys
    return model_class(architecture).config_class(**sizes)


def make(architecture: str, folder: Path, **keys) -> Path:
    """The folder with a tiny checkpoint and its tokenizer.

    Args:
        architecture: One that is served.
        folder: Where to.
        keys: Of its config.
    """
    torch.manual_seed(0)
    model_class(architecture)(config(architecture, **keys)).save_pretrained(folder)
    vocabularies.for_transformers(vocabularies.of_bytes(), POSITIONS).save_pretrained(folder)
    return folder
