"""The keys a `generation:` block may have: those of transformers.GenerationConfig that mean something here.

GenerationConfig takes any keyword and keeps its types in prose, so they are listed here; a test holds the two lists
below against its attributes.
"""

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

Share = Annotated[float, Field(gt=0, le=1)]
Small = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Tokens = list[Count]

KEYS: dict[str, Any] = {
    "max_new_tokens": Annotated[int, Field(ge=1)],
    "min_new_tokens": Count,
    "do_sample": bool,
    "temperature": Annotated[float, Field(ge=1e-3)],  # by much less, scores are infinite and none can be drawn
    "top_k": Count,
    "top_p": Share,
    "min_p": Annotated[float, Field(ge=0, le=1)],
    "top_h": Share,
    "typical_p": Share,
    "epsilon_cutoff": Small,
    "eta_cutoff": Small,
    "num_beams": Annotated[int, Field(ge=1)],
    "early_stopping": bool,
    "length_penalty": float,
    "repetition_penalty": Annotated[float, Field(gt=0)],
    "no_repeat_ngram_size": Count,
    "bad_words_ids": Annotated[list[Annotated[Tokens, Field(min_length=1)]], Field(min_length=1)],
    "suppress_tokens": Tokens,
    "begin_suppress_tokens": Tokens,
    "stop_strings": Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)],
    "renormalize_logits": bool,
    "remove_invalid_values": bool,
    "use_cache": bool,
}
_REFUSED = {
    "its meaning depends on what else is in the batch; state max_new_tokens or min_new_tokens": "max_length min_length",
    "state samples_per_prompt at the top of the file": "num_return_sequences",
    "the model's tokenizer settles it": (
        "pad_token_id bos_token_id eos_token_id decoder_start_token_id forced_bos_token_id forced_eos_token_id"
    ),
    "the same prompt must give the same text on every machine": "max_time",
    "prompts are continued in batches by one model": (
        "assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind "
        "is_assistant max_matching_ngram_size num_assistant_tokens num_assistant_tokens_schedule "
        "prompt_lookup_num_tokens speculation_type target_lookbehind use_mtp guidance_scale token_healing "
        "exponential_decay_length_penalty sequence_bias watermarking_config"
    ),
    "it is for models with an encoder": "encoder_no_repeat_ngram_size encoder_repetition_penalty",
    "transformers no longer has it": (
        "constraints diversity_penalty dola_layers force_words_ids low_memory num_beam_groups penalty_alpha"
    ),
    "nutshell settles it, so that every figure means the same": (
        "cache_config cache_implementation max_cache_len compile_config disable_compile continuous_batching_config "
        "output_attentions output_hidden_states output_logits output_scores prefill_chunk_size "
        "return_dict_in_generate transformers_version"
    ),
}
REFUSED = {key: reason for reason, keys in _REFUSED.items() for key in keys.split()}


@cache
def schema() -> type[BaseModel]:
    """A strict pydantic model of the `generation:` block."""
    fields = {name: (kind, Field(default=None)) for name, kind in KEYS.items()}
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    block = create_model("Generation", __config__=strict, **fields)
    block.refused = REFUSED
    return block


def problem(generation: dict[str, Any]) -> str | None:
    """What transformers.GenerationConfig itself finds wrong with well-formed keys together, or None."""
    from transformers import GenerationConfig

    if generation.get("min_new_tokens", 0) > generation.get("max_new_tokens", 0):
        return f"min_new_tokens {generation['min_new_tokens']} is more than max_new_tokens"
    config = GenerationConfig()
    for key, value in generation.items():
        setattr(config, key, value)
    try:
        config.validate(strict=True)
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if line.startswith("- ")] or str(error).splitlines()
        return lines[0].removeprefix("- ").replace("=True", ": true").replace("True", "true")  # as YAML has it
    return None


def kinds(generation: dict[str, Any], samples: int = 1, greedy: bool = False) -> list[int | None]:
    """Which continuations of a prompt are made: its samples by number, None the greedy one."""
    if not generation.get("do_sample"):
        return [None]
    return [None] * greedy + list(range(samples))
