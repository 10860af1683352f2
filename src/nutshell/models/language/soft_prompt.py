"""A soft prompt: vectors before a prompt's own, learned while the model stays as it is. peft is imported only where an
experiment asks for one."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from nutshell.machine.errors import UserError
from nutshell.models import adapters


def add(model: PreTrainedModel, adapter, checkpoint: Path, trained: Path | None):
    """The model with a soft prompt, of which alone is trained.

    Args:
        model: A language model of transformers' own: ours are fed tokens alone.
        adapter: An `adapter:` block: tokens, and the text whose tokens' vectors they are at first.
        checkpoint: The model's folder, with its tokenizer.
        trained: A checkpoint of this very experiment, whose vectors are read, or None.

    Returns:
        A peft.PeftModel.

    Raises:
        UserError: If the model is divided.

    Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", section 3.
    """
    from peft import PromptTuningConfig

    if adapters.divided():
        raise UserError("adapter.kind: FSDP divides the model that a soft_prompt is of: use accelerate_config.yaml")
    settings = PromptTuningConfig(
        task_type=adapters.CAUSAL,
        num_virtual_tokens=adapter.tokens,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=adapter.text,
        tokenizer_name_or_path=str(checkpoint),
    )
    return adapters.wrap(model, settings, trained)


def read(folder: Path) -> Tensor:
    """The vectors (tokens, hidden) in an `adapter/` that `adapters.write` has written.

    Raises:
        UserError: If they are not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    try:
        return load_file(file)["prompt_embeddings"]
    except (OSError, SafetensorError, KeyError):
        raise UserError(f"{file}: is missing or damaged; run the seed again with --force") from None


def attach(model: PreTrainedModel, vectors: Tensor) -> tuple[int, ...]:
    """Makes the vectors tokens of the model, which it can be fed and never predicts.

    Returns:
        Their ids, in order.
    """
    own = model.get_input_embeddings()
    model.set_input_embeddings(Extended(own, vectors.to(own.weight)))
    return tuple(range(len(own.weight), len(own.weight) + len(vectors)))


class Extended(nn.Module):
    """An embedding and more vectors, whose ids come after its own.

    Args:
        own: The model's.
        vectors: (tokens, hidden).
    """

    def __init__(self, own: nn.Module, vectors: Tensor):
        super().__init__()
        self.own, self.vectors = own, nn.Parameter(vectors.detach().clone(), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The model's own, which its head may share."""
        return self.own.weight

    def forward(self, ids: Tensor) -> Tensor:
        first = len(self.own.weight)
        more = embedding((ids - first).clamp(min=0), self.vectors)
        return torch.where((ids >= first)[..., None], more, self.own(ids.clamp(max=first - 1)))
