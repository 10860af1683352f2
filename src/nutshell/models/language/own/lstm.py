"""A recurrent language model: long short-term memory over an embedding, its state in place of a cache.

Source: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; Gers et al. 2000, "Learning to Forget", for the forget
gate; Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures", for its bias of one.
"""

from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils import can_return_tuple

from nutshell.models.language.causal import CausalModel


@strict
class LstmConfig(PreTrainedConfig):
    """The sizes.

    Args:
        dropout: Probability, for the embedding, between layers and before the head.
        initializer_range: Standard deviation of the initial embedding; the recurrent weights are
            uniform within 1 / sqrt(hidden_size) of zero, as torch draws them.
        tie_word_embeddings: Whether the head is the embedding; where embedding_size is not hidden_size, a linear map
            from hidden to embedding comes before it.
    """

    model_type = "lstm"

    vocab_size: int = 50257
    embedding_size: int = 512
    hidden_size: int = 512
    num_hidden_layers: int = 2
    dropout: float | int = 0.1
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    use_cache: bool = True


@dataclass
class LstmState:
    """What an LSTM remembers of the tokens so far; `generate` passes it on as it does a Transformer's cache.

    Args:
        h: (layers, batch, hidden), the output of each layer.
        c: (layers, batch, hidden), the memory of each layer.
        tokens: How many tokens, padding included, have been fed.
    """

    h: Tensor
    c: Tensor
    tokens: int
    is_compileable = is_croppable = False  # generate asks; neither is a field

    def get_seq_length(self) -> int:
        return self.tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Puts row beam_idx[i] in the place of row i, in this very object: beam search ignores what comes back."""
        self.h, self.c = self.h.index_select(1, beam_idx), self.c.index_select(1, beam_idx)


# GenerationMixin is named again because PreTrainedModel.can_generate looks for it among the direct bases.
class LstmForCausalLM(CausalModel, PreTrainedModel, GenerationMixin):
    """p(token | tokens before it) = softmax(h W_E^T), where h is the last layer's output and W_E (vocab, embedding).

    Each layer reads x, the embedded token or the output of the layer below, token after token:

        i = sigmoid(W_i x + U_i h + b_i)        input gate
        f = sigmoid(W_f x + U_f h + b_f)        forget gate
        g = tanh(W_g x + U_g h + b_g)           candidate
        o = sigmoid(W_o x + U_o h + b_o)        output gate
        c = f * c + i * g                       memory
        h = o * tanh(c)                         output

    x is (batch, embedding) in the first layer and (batch, hidden) above it, all else (batch, hidden); U (hidden,
    hidden); W (hidden, embedding) in the first layer, (hidden, hidden) above it.

    Source: Hochreiter & Schmidhuber 1997, section 4; Gers et al. 2000, section 3; for the tied head Press & Wolf 2017,
    "Using the Output Embedding to Improve Language Models".
    """

    config_class = LstmConfig
    _input_embed_layer = "embedding"
    _tied_weights_keys = {"lm_head.weight": "embedding.weight"}  # noqa: RUF012 - transformers reads a plain dict
    _is_stateful = True  # a state cannot be rolled back, so generate refuses assisted decoding

    def __init__(self, config: LstmConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # stock takes it from the name of the class, which a subclass may change
        layers, embedding, hidden = config.num_hidden_layers, config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, embedding)
        self.dropout = nn.Dropout(config.dropout)
        between = float(config.dropout) if layers > 1 else 0.0  # or torch warns that there is no between
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=between)
        mapped = config.tie_word_embeddings and embedding != hidden
        self.projection = nn.Linear(hidden, embedding, bias=False) if mapped else nn.Identity()
        self.lm_head = nn.Linear(embedding if mapped else hidden, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """The recurrent weights as torch draws them, but a forget gate with bias one; all else as stock."""
        if not isinstance(module, nn.LSTM):
            return super()._init_weights(module)
        hidden = module.hidden_size
        for name, weight in module.named_parameters():
            init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)
            if name.startswith("bias") and not getattr(weight, "_is_hf_initialized", False):
                # Gates lie in torch's order i, f, g, o; each has two biases, b of the formulas is their sum.
                weight[hidden : 2 * hidden] = float(name.startswith("bias_ih"))

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """No: generate would pass an empty DynamicCache, where the first call makes the state."""
        return False

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: LstmState | None = None,
        use_cache: bool | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits, with labels also the loss, and the state if it is to be kept.

        Args:
            input_ids: (batch, tokens), only the new ones when past_key_values holds the state after others.
            attention_mask: (batch, tokens) or (batch, past + tokens), 0 where a row is padded, left or right; a padded
                token leaves the state as it is.
            position_ids: Taken because generate gives them, and not read: an LSTM counts for itself.
            past_key_values: The state after the past tokens; it is not changed.
            use_cache: Whether to return the state; None: as the config says, but never while training.
            labels: (batch, tokens), input_ids again, -100 where a token is not to be predicted.
            logits_to_keep: How many of the last tokens get logits; 0 is all, a tensor names them.

        Returns:
            logits (batch, kept tokens, vocab); loss in nats per predicted token; past_key_values, an LstmState.
        """
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        tokens, state, past = input_ids.shape[1], None, 0
        if past_key_values is not None:
            state, past = (past_key_values.h, past_key_values.c), past_key_values.get_seq_length()
        mask = None if attention_mask is None else attention_mask[:, -tokens:].bool()
        embedded = self.dropout(self.embedding(input_ids))
        if mask is None or mask.all():
            hidden, state = self.lstm(embedded, state)
        else:
            hidden, state = self._skip(embedded, state, mask)
        hidden = self.dropout(slice_logits_to_keep(hidden, logits_to_keep))
        logits = self.lm_head(self.projection(hidden))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss, logits, LstmState(*state, past + tokens) if use_cache else None)

    def _skip(
        self, embedded: Tensor, state: tuple[Tensor, Tensor] | None, mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The LSTM over those tokens where mask (batch, tokens) is True: outputs (batch, tokens, hidden) and state.

        The output at a masked token is the one at the last real token before it, of this call or the calls before.
        """
        lengths, front = mask.sum(1), mask.int().argsort(dim=1, descending=True, stable=True)
        embedded = embedded.gather(1, front[:, :, None].expand_as(embedded))
        # No row may be empty: an empty one reads a token, and what it does is undone below.
        packed = pack_padded_sequence(embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        outputs, after = self.lstm(packed, state)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=mask.shape[1])
        before = state or tuple(torch.zeros_like(part) for part in after)
        after = tuple(torch.where((lengths == 0)[:, None], old, new) for old, new in zip(before, after, strict=True))
        outputs = torch.cat([before[0][-1][:, None], outputs], dim=1)  # 0 is before any token, n the n-th real one
        return outputs.gather(1, mask.cumsum(1)[:, :, None].expand(-1, -1, outputs.shape[-1])), after
