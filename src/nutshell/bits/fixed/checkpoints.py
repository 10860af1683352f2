"""The weights of checkpoints, by the names in their files, become models in integers."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nutshell.bits.fixed.arithmetic import MOST_TOKENS, STREAM_BITS, Activation, Gate, Linear, linear, norm, quantize
from nutshell.bits.fixed.attention import Rotary
from nutshell.bits.fixed.lstm import Lstm, lstm_layer
from nutshell.bits.fixed.tables import waves
from nutshell.bits.fixed.transformer import Layer, Transformer

Config, Weights = Mapping[str, Any], Mapping[str, Tensor]


def gpt2(config: Config, weights: Weights) -> Transformer:
    """A GPT-2. Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"."""
    weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    epsilon = config.get("layer_norm_epsilon", 1e-5)

    def _linear(name: str) -> Linear:  # which is (inputs, outputs) in this architecture
        return linear(name, weights[f"{name}.weight"], weights[f"{name}.bias"])

    layers = [
        Layer(
            norm(weights, f"h.{i}.ln_1", epsilon),
            _linear(f"h.{i}.attn.c_attn"),
            _linear(f"h.{i}.attn.c_proj"),
            norm(weights, f"h.{i}.ln_2", epsilon),
            _linear(f"h.{i}.mlp.c_fc"),
            _linear(f"h.{i}.mlp.c_proj"),
        )
        for i in range(config.get("n_layer", 12))
    ]
    return Transformer(
        quantize("wte.weight", weights["wte.weight"], STREAM_BITS),
        quantize("wpe.weight", weights["wpe.weight"], STREAM_BITS),
        layers,
        norm(weights, "ln_f", epsilon),
        _head(config, weights, "wte.weight"),
        (config.get("n_head", 12),) * 2,
        Activation(config.get("activation_function", "gelu_new")),
    )


def scratch(config: Config, weights: Weights) -> Transformer:
    """nutshell's own Transformer, with learned or sinusoidal positions, its norms before or after the sublayers."""
    epsilon, pre, hidden = config["layer_norm_epsilon"], config["norm"] == "pre", config["hidden_size"]
    bits = {} if pre else {"bits": STREAM_BITS}

    def _linear(name: str) -> Linear:
        return linear(name, weights[f"{name}.weight"].T, weights[f"{name}.bias"])

    layers = [
        Layer(
            norm(weights, f"blocks.{i}.attention_norm", epsilon, **bits),
            _linear(f"blocks.{i}.attention.input"),
            _linear(f"blocks.{i}.attention.output"),
            norm(weights, f"blocks.{i}.feed_forward_norm", epsilon, **bits),
            _linear(f"blocks.{i}.feed_forward.input"),
            _linear(f"blocks.{i}.feed_forward.output"),
        )
        for i in range(config["num_hidden_layers"])
    ]
    embedding = weights["embedding.weight"].double()
    if config["positions"] == "sinusoidal":
        embedding, positions = embedding * math.sqrt(hidden), torch.from_numpy(waves(MOST_TOKENS, hidden))
    else:
        positions = weights["positions.weight"]
    return Transformer(
        quantize("embedding", embedding, STREAM_BITS),
        quantize("positions", positions, STREAM_BITS),
        layers,
        norm(weights, "norm", epsilon) if pre else None,
        _head(config, weights, "embedding.weight"),
        (config["num_attention_heads"],) * 2,
        Activation(config["activation"]),
    )


def llama(config: Config, weights: Weights) -> Transformer:
    """A Llama. Source: Touvron et al. 2023, "LLaMA", section 2.2."""
    weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
    epsilon, heads = config["rms_norm_eps"], config["num_attention_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config  # before transformers 5 it was a key of the config itself

    def _linear(*names: str) -> Linear:
        return linear(names[0], torch.cat([weights[f"{name}.weight"] for name in names]).T)

    layers = [
        Layer(
            norm(weights, f"layers.{i}.input_layernorm", epsilon, centre=False),
            _linear(*(f"layers.{i}.self_attn.{part}_proj" for part in "qkv")),
            _linear(f"layers.{i}.self_attn.o_proj"),
            norm(weights, f"layers.{i}.post_attention_layernorm", epsilon, centre=False),
            _linear(*(f"layers.{i}.mlp.{part}_proj" for part in ("gate", "up"))),
            _linear(f"layers.{i}.mlp.down_proj"),
        )
        for i in range(config["num_hidden_layers"])
    ]
    return Transformer(
        quantize("embed_tokens.weight", weights["embed_tokens.weight"], STREAM_BITS),
        Rotary(dim, rope.get("rope_theta", 10000.0)),
        layers,
        norm(weights, "norm", epsilon, centre=False),
        _head(config, weights, "embed_tokens.weight", tied=False),
        (heads, config.get("num_key_value_heads") or heads),
        Gate(config["hidden_act"]),
    )


def lstm(config: Config, weights: Weights) -> Lstm:
    """nutshell's own LSTM."""
    layers = [
        lstm_layer(f"lstm, layer {i}", *(weights[f"lstm.{part}_l{i}"] for part in ("weight_ih", "weight_hh")),
            weights[f"lstm.bias_ih_l{i}"].double() + weights[f"lstm.bias_hh_l{i}"].double())
        for i in range(config["num_hidden_layers"])
    ]  # fmt: skip
    projection = linear("projection", weights["projection.weight"].T) if "projection.weight" in weights else None
    return Lstm(weights["embedding.weight"], layers, projection, _head(config, weights, "embedding.weight"))


def _head(config: Config, weights: Weights, embedding: str, tied: bool = True) -> Linear:
    tied = config.get("tie_word_embeddings", tied)
    return linear("the head", weights[embedding if tied else "lm_head.weight"].T)
