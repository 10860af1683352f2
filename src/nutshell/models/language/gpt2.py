"""GPT-2: the thin wrapper. It has a file of its own, since importing the stock class makes transformers' Auto classes,
and those import this package's own models, which need `causal` whole."""

from transformers import GPT2Config, GPT2LMHeadModel

from nutshell.models.language.causal import CausalModel


class Gpt2LanguageModel(CausalModel, GPT2LMHeadModel):
    """GPT2LMHeadModel whose loss Trainer divides by the tokens that were predicted.

    The stock class matches no entry of transformers' loss table, so its `loss_type` is None; Trainer then counts each
    row's first token, which nothing predicts, and reports a loss too small by (tokens - 1) / tokens.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.loss_type = "ForCausalLM"
