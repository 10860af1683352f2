"""Language models of stock classes: the thin wrapper. It has a file of its own, since transformers' Auto classes import
this package's own models, which need `causal` whole."""

from functools import cache

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from nutshell.models.language.causal import CausalModel


class LanguageModel(CausalModel):
    """Mixed into a stock class, such as GPT2LMHeadModel, whose loss Trainer then divides by the tokens that were
    predicted.

    Stock takes `loss_type` from the name of the class. GPT2LMHeadModel matches no entry of transformers' loss table, so
    that Trainer counts each row's first token, which nothing predicts, and reports a loss too small by
    (tokens - 1) / tokens.
    """

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"


@cache
def language_model_class(architecture: str) -> type[LanguageModel]:
    """The wrapped class of an architecture. It bears the stock class's name, which the saved config then gives."""
    stock = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[architecture]]
    return type(stock.__name__, (LanguageModel, stock), {"__doc__": LanguageModel.__doc__})
