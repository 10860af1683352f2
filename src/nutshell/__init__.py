"""nutshell: small, exact experiments with BERT and GPT-2 on Hugging Face's Trainer.

`nutshell.run` runs an experiment, `nutshell.load` takes up what a finished run has left, `nutshell.ask` continues a
prompt; what they refuse is a `nutshell.UserError`. To import nutshell imports no torch: that is done when one of them
is called.
"""

from typing import TYPE_CHECKING, Any

import wrapt

from nutshell.machine.errors import UserError

if TYPE_CHECKING:
    from nutshell.library import ask, load, run

__all__ = ["UserError", "ask", "load", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nutshell' has no attribute {name!r}")
    from nutshell import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@wrapt.when_imported("transformers.models.auto.modeling_auto")
def _register(auto) -> None:
    """Makes our own architectures known to transformers' Auto classes, but imports no torch before they are used."""
    from transformers.models.auto.configuration_auto import AutoConfig

    from nutshell.models.language.architectures import own_model_classes

    for architecture, model in own_model_classes().items():
        AutoConfig.register(architecture, model.config_class)
        auto.AutoModelForCausalLM.register(model.config_class, model)
