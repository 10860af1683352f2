"""nutshell: small, exact experiments with BERT and GPT-2 on Hugging Face's Trainer."""

import wrapt


@wrapt.when_imported("transformers.models.auto.modeling_auto")
def _register(auto) -> None:
    """Makes our own architectures known to transformers' Auto classes, but imports no torch before they are used."""
    from transformers.models.auto.configuration_auto import AutoConfig

    from nutshell.models.architectures import own_model_classes

    for architecture, model in own_model_classes().items():
        AutoConfig.register(architecture, model.config_class)
        auto.AutoModelForCausalLM.register(model.config_class, model)
