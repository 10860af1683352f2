"""Which architectures of language models are served, and what transformers makes of their configs. Imports no torch
before `model_class` is called."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nutshell.machine.files import read_json

_BIASED_NORM = ("final_layer_norm.weight", "final_layer_norm.bias")
_LN_F = ("ln_f.weight", "ln_f.bias")


@dataclass(frozen=True)
class Architecture:
    """One that is served: that it holds the laws is tested.

    Attributes:
        vocab_size, positions, layers, bos, eos, tied: What transformers takes where a config.json leaves it out: tokens
            of the vocabulary, the most tokens that are fed, how many layers, the ids of the tokens that begin and end
            a text, whether the head is the embedding.
        head_dim: Width of an attention head; None is hidden size / heads.
        embedding: The embedding's name, without what a model with a head puts before its base model's names.
        beyond: The other weights that are in no layer, but the head.
        sometimes: Those of them that only some configs have.
        adapted: The layers that `model.lora` adapts by default, by the ends of their names: the queries and values of
            attention, or the one layer that makes them. Source: Hu et al. 2021, "LoRA", section 4.2.
    """

    vocab_size: int
    positions: int | None
    layers: int
    bos: int | None
    eos: int | None
    tied: bool = False
    head_dim: int | None = None
    embedding: str = "embed_tokens.weight"
    beyond: tuple[str, ...] = ("norm.weight",)
    sometimes: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ("q_proj", "v_proj")

    @property
    def defaults(self) -> dict[str, Any]:
        """The keys of a complete config.json."""
        return {
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.positions,
            "num_hidden_layers": self.layers,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos,
            "tie_word_embeddings": self.tied,
            **({"head_dim": self.head_dim} if self.head_dim else {}),
        }


ARCHITECTURES = {
    "gpt2": Architecture(
        50257,
        1024,
        12,
        50256,
        50256,
        tied=True,
        embedding="wte.weight",
        beyond=("wpe.weight", *_LN_F),
        adapted=("c_attn",),
    ),
    "llama": Architecture(32000, 2048, 32, 1, 2),
    "qwen2": Architecture(151936, 32768, 32, None, None),
    "gpt_neox": Architecture(
        50432, 2048, 44, 0, 2, embedding="embed_in.weight", beyond=_BIASED_NORM, adapted=("query_key_value",)
    ),
    "opt": Architecture(
        50272,
        2048,
        12,
        2,
        2,
        tied=True,
        embedding="decoder.embed_tokens.weight",
        beyond=("decoder.embed_positions.weight",),
        sometimes=(
            *(f"decoder.{name}" for name in _BIASED_NORM),
            "decoder.project_in.weight",
            "decoder.project_out.weight",
        ),
    ),
    "mistral": Architecture(32000, 131072, 32, 1, 2),
    "gemma": Architecture(256000, 8192, 28, 2, 1, tied=True, head_dim=256),
    "gemma2": Architecture(256000, 8192, 26, 2, 1, tied=True, head_dim=256),
    "gemma3_text": Architecture(262208, 131072, 26, 2, 1, tied=True, head_dim=256),
    "qwen3": Architecture(151936, 32768, 32, None, None, head_dim=128),
    "smollm3": Architecture(128256, 32768, 36, 128000, 128001, tied=True),
    "olmo2": Architecture(50304, 2048, 32, None, 50279),
    "granite": Architecture(32000, 2048, 32, 1, 2),
    "stablelm": Architecture(50304, 4096, 32, 0, 0, beyond=("norm.weight", "norm.bias")),
    "phi": Architecture(
        51200, 2048, 24, 1, 2, beyond=("final_layernorm.weight", "final_layernorm.bias", "lm_head.bias")
    ),
    "gptj": Architecture(50400, 2048, 28, 50256, 50256, embedding="wte.weight", beyond=(*_LN_F, "lm_head.bias")),
    "gpt_neo": Architecture(
        50257, 2048, 24, 50256, 50256, tied=True, embedding="wte.weight", beyond=("wpe.weight", *_LN_F)
    ),
    "bloom": Architecture(
        250880,
        None,
        2,
        1,
        2,
        tied=True,
        embedding="word_embeddings.weight",
        beyond=("word_embeddings_layernorm.weight", "word_embeddings_layernorm.bias", *_LN_F),
        adapted=("query_key_value",),
    ),
    "falcon": Architecture(
        65024,
        2048,
        32,
        11,
        11,
        tied=True,
        embedding="word_embeddings.weight",
        beyond=_LN_F,
        adapted=("query_key_value",),
    ),
    "scratch": Architecture(
        50257,
        1024,
        12,
        None,
        None,
        tied=True,
        embedding="embedding.weight",
        beyond=(),
        sometimes=("positions.weight", "norm.weight", "norm.bias"),
        adapted=("attention.input",),
    ),
    "lstm": Architecture(
        50257,
        None,
        2,
        None,
        None,
        tied=True,
        embedding="embedding.weight",
        beyond=(),
        sometimes=("projection.weight",),
        adapted=(),  # its weights are in no linear layer
    ),
}
CAUSAL = tuple(ARCHITECTURES)
OWN = ("scratch", "lstm")  # which transformers knows only after `import nutshell`
_NAMES = {  # of keys, in the architectures that have names of their own for them
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
    "ffn_hidden_size": "intermediate_size",
    "feed_forward_size": "intermediate_size",
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with transformers' own values for what it leaves out, each key by the name that most
    architectures have for it."""
    named = {_NAMES.get(key, key): value for key, value in config.items()}
    return {**ARCHITECTURES[config["model_type"]].defaults, **named}


# What a checkpoint of old transformers may have next to its weights: masks and frequencies, which are not read.
BUFFERS = re.compile(r"(^|\.)(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$")
_INNER = ("gpt2", "gptj", "gpt_neo", "bloom", "falcon", "scratch")  # 4 x hidden size where the config states none
_ROPES = ("default", "linear", "llama3", "yarn")  # whose frequencies do not depend on how long a text is


def outputs(config: Mapping[str, Any]) -> dict[str, int | None]:
    """How many outputs queries, keys and the first feed-forward layer have, by the key of a complete config that says
    so; None where it leaves that open."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    width = config.get("head_dim") or (hidden // heads if hidden and heads else None)
    inner = config.get("intermediate_size")
    if inner is None and hidden and config["model_type"] in _INNER:
        inner = 4 * hidden
    many = {"num_attention_heads": heads, "num_key_value_heads": config.get("num_key_value_heads")}
    return {"intermediate_size": inner} | {
        key: count * width if count and width else None for key, count in many.items()
    }


def problem(config: Mapping[str, Any]) -> str | None:
    """Why figures of a model with such a config.json or `model.config:` would be wrong; None if they are right."""
    if config.get("use_bidirectional_attention"):
        return "use_bidirectional_attention: each token would see those after it, which it is to predict"
    for key in ("rope_parameters", "rope_scaling"):
        block = config.get(key) or {}
        if not isinstance(block, dict):
            return f"{key}: expected a mapping"
        for rope in (
            block,
            *(value for value in block.values() if isinstance(value, dict)),
        ):  # or one of each layer type
            kind = rope.get("rope_type", rope.get("type", "default"))
            if kind not in _ROPES:
                return (
                    f"{key}: {kind} is not served, but {', '.join(_ROPES)}: with it what a token costs would depend on "
                    "how long the text after it is"
                )
    return None


def adapter_problem(architecture: str, kind: str) -> str | None:
    """Why an architecture can have no adapter of a kind, lora or soft_prompt; None if it can."""
    queries = ARCHITECTURES[architecture].adapted
    if kind == "soft_prompt" and architecture in OWN:
        instead = "; lora adapts it" * bool(queries)
        return f"a {architecture} model is fed tokens and no vectors of a soft_prompt{instead}"
    if kind == "lora" and not queries:
        return f"lora adapts attention's queries and values, and a {architecture} model has none"
    return None


def context(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a language model's config.json says it can be fed; None if there is no limit. A sliding
    window is none: what is before it still counts, through the layers."""
    if config.get("positions") == "sinusoidal" or config.get("alibi"):
        return None
    return complete(config)["max_position_embeddings"]


def end_of_text(eos_token_id: Any, own: int | None) -> Any:
    """The one token that ends a document, of a config.json's eos_token_id: where that lists several (the ends of a turn
    among them), the one that the tokenizer names itself, or else the first."""
    if not isinstance(eos_token_id, list) or not eos_token_id:
        return eos_token_id
    return own if own in eos_token_id else eos_token_id[0]


def own_end_of_text(folder: Path, token_to_id: Callable[[str], int | None]) -> int | None:
    """The id of the token that a checkpoint's tokenizer_config.json says ends a text, if it says so.

    Args:
        folder: The checkpoint's.
        token_to_id: Of its tokenizer.
    """
    file = folder / "tokenizer_config.json"
    token = read_json(file).get("eos_token") if file.exists() else None
    token = token.get("content") if isinstance(token, dict) else token
    return token_to_id(token) if isinstance(token, str) else None


def model_class(architecture: str) -> type:
    """The model class of an architecture."""
    if architecture in OWN:
        return own_model_classes()[architecture]
    from nutshell.models.language.wrapper import language_model_class

    return language_model_class(architecture)


def own_model_classes() -> dict[str, type]:
    """The model classes of the architectures that transformers does not have itself."""
    from nutshell.models.language.own.lstm import LstmForCausalLM
    from nutshell.models.language.own.transformer import ScratchForCausalLM

    return {"scratch": ScratchForCausalLM, "lstm": LstmForCausalLM}
