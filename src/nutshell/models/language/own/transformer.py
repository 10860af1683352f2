"""A decoder-only Transformer, written to be read next to the paper.

Source: Vaswani et al. 2017, "Attention Is All You Need"; Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners", for learned positions, norms before the sublayers and the scaled initialisation.
"""

import math
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils import can_return_tuple

from nutshell.models.language.causal import CausalModel


@strict
class ScratchConfig(PreTrainedConfig):
    """The sizes and the variant; the defaults are GPT-2's smallest.

    Args:
        feed_forward_size: Width of the feed-forward layers; None is 4 x hidden_size.
        positions: `learned`, at most max_position_embeddings of them, or `sinusoidal`, as many as are needed.
        norm: `pre`, before each sublayer and once after the last, or `post`, after each sum.
        activation: A name that transformers' ACT2FN knows.
        dropout: Probability, for the embeddings, the attention weights and the output of each sublayer.
        initializer_range: Standard deviation of the initial weights.

    Raises:
        ValueError: If heads do not divide hidden_size, sinusoids find an odd one, or the activation is unknown.
    """

    model_type = "scratch"

    vocab_size: int = 50257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    feed_forward_size: int | None = None
    max_position_embeddings: int = 1024
    positions: Literal["learned", "sinusoidal"] = "learned"
    norm: Literal["pre", "post"] = "pre"
    activation: str = "gelu_new"
    dropout: float | int = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    use_cache: bool = True

    def __post_init__(self, **kwargs):
        # Not a `validate_` method: what those raise is no ValueError by the time it arrives, and has two lines.
        super().__post_init__(**kwargs)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} heads")
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(f"sinusoidal positions need an even hidden_size, not {self.hidden_size}")
        if self.activation not in ACT2FN:
            raise ValueError(f"activation {self.activation} is unknown, known are {', '.join(sorted(ACT2FN))}")


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """Values averaged by how well each key answers the query: softmax(Q K^T / sqrt(d)) V, with d = hidden / heads.

    Args:
        queries: (batch, heads, tokens, d).
        keys, values: (batch, heads, seen tokens, d).
        mask: True where a query may see a key; broadcasts to (batch, heads, tokens, seen tokens).
        dropout: Probability with which a weight is left out.

    Returns:
        (batch, heads, tokens, d); a plain mean over all values where a query may see nothing.

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    scores = queries / math.sqrt(queries.shape[-1]) @ keys.transpose(-2, -1)  # dividing Q touches the fewest numbers
    # The lowest number and not -inf, or a row of nothing else (the padding on the left) would become NaN.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return (nn.functional.dropout(weights, dropout) if dropout else weights) @ values


def sinusoids(tokens: int, hidden: int) -> Tensor:
    """Positions as waves (tokens, hidden): [p, 2i] = sin(p / 10000^(2i / hidden)), [p, 2i + 1] = cos of the same.

    Source: Vaswani et al. 2017, section 3.5.
    """
    frequencies = 10000.0 ** (-torch.arange(0, hidden, 2) / hidden)
    angles = torch.arange(tokens)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_heads) W_O, head_i = attention(x W_Qi, x W_Ki, x W_Vi); x (batch, tokens, hidden).

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, config: ScratchConfig, layer: int):
        super().__init__()
        self.layer, self.heads, self.dropout = layer, config.num_attention_heads, config.dropout
        self.input = nn.Linear(config.hidden_size, 3 * config.hidden_size)  # W_Q, W_K, W_V of every head
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor, cache: DynamicCache | None = None) -> Tensor:
        parts = self.input(hidden).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer)
        heads = attention(queries, keys, values, mask, self.dropout if self.training else 0.0)
        return self.output(heads.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """activation(x W_1 + b_1) W_2 + b_2 at each token by itself: (batch, tokens, hidden) to the same.

    Source: Vaswani et al. 2017, section 3.3.
    """

    def __init__(self, config: ScratchConfig):
        super().__init__()
        inner = config.feed_forward_size or 4 * config.hidden_size
        self.input, self.output = nn.Linear(config.hidden_size, inner), nn.Linear(inner, config.hidden_size)
        self.activation = ACT2FN[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(self.activation(self.input(hidden)))


class Block(nn.Module):
    """Attention, then feed-forward: x + f(norm(x)) with `pre`, norm(x + f(x)) with `post`; x (batch, tokens, hidden).

    Source: Vaswani et al. 2017, section 3.1 (post); Radford et al. 2019, section 2.3 (pre).
    """

    def __init__(self, config: ScratchConfig, layer: int):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention, self.feed_forward = MultiHeadAttention(config, layer), FeedForward(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor, cache: DynamicCache | None = None) -> Tensor:
        if self.pre:
            hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), mask, cache))
            return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, mask, cache)))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))


# GenerationMixin is named again because PreTrainedModel.can_generate looks for it among the direct bases.
class ScratchForCausalLM(CausalModel, PreTrainedModel, GenerationMixin):
    """p(token | tokens before it) = softmax(h W_E^T), where h is the last block's output and W_E (vocab, hidden) the
    embedding; a matrix of its own in W_E's place when untied. The first block's input is W_E[token] + W_P[position],
    or sqrt(hidden) W_E[token] + sinusoid.

    Source: Vaswani et al. 2017, section 3.4; Radford et al. 2019, section 2.3.
    """

    config_class = ScratchConfig
    _input_embed_layer = "embedding"
    _tied_weights_keys = {"lm_head.weight": "embedding.weight"}  # noqa: RUF012 - transformers reads a plain dict
    _no_split_modules = ["Block"]  # noqa: RUF012

    def __init__(self, config: ScratchConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # stock takes it from the name of the class, which a subclass may change
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        norm = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.norm = norm if config.norm == "pre" else nn.Identity()  # a post-norm block ends with one of its own
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Normal(0, initializer_range), biases zero; what is added to the residual path, over sqrt(2 layers)."""
        super()._init_weights(module)
        # Not by its parent's type: transformers passes over a module of ours that owns no weights directly.
        if any(module in (block.attention.output, block.feed_forward.output) for block in self.blocks):
            std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            init.normal_(module.weight, std=std)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits, with labels also the loss, and the keys and values if they are to be kept.

        Args:
            input_ids: (batch, tokens), only the new ones when past_key_values holds others.
            attention_mask: (batch, past + tokens), 0 where a row is padded, left or right.
            position_ids: (batch, tokens); by default each row counts from its first token that is no padding.
            past_key_values: Keys and values of the past tokens; grows by the new ones.
            use_cache: Whether to keep keys and values; None: as the config says, but never while training.
            labels: (batch, tokens), input_ids again, -100 where a token is not to be predicted.
            logits_to_keep: How many of the last tokens get logits; 0 is all, a tensor names them.

        Returns:
            logits (batch, kept tokens, vocab); loss in nats per predicted token.

        Raises:
            ValueError: If a position has no embedding; shorten the input or use sinusoids.
        """
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        past, tokens = past_key_values.get_seq_length() if past_key_values is not None else 0, input_ids.shape[1]
        attention_mask = input_ids.new_ones(len(input_ids), past + tokens) if attention_mask is None else attention_mask
        if position_ids is None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]
        mask = torch.ones(tokens, past + tokens, dtype=torch.bool, device=input_ids.device).tril(past)
        if not attention_mask.all():
            mask = mask & attention_mask[:, None, None, :].bool()
        hidden = self.dropout(self._embed(input_ids, position_ids))
        for block in self.blocks:
            hidden = block(hidden, mask, past_key_values)
        logits = self.lm_head(slice_logits_to_keep(self.norm(hidden), logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss, logits, past_key_values)

    def _embed(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """What the first block sees of tokens and positions: (batch, tokens, hidden)."""
        hidden, needed, size = self.embedding(input_ids), int(position_ids.max()) + 1, self.config.hidden_size
        if self.config.positions == "sinusoidal":
            return hidden * math.sqrt(size) + sinusoids(needed, size).to(hidden)[position_ids]
        if needed > self.config.max_position_embeddings:
            raise ValueError(f"{needed} tokens exceed the {self.config.max_position_embeddings} learned positions")
        return hidden + self.positions(position_ids)
