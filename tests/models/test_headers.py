"""What the headers of weights must be, next to the models that read them."""

import json
import shutil
import struct

import pytest
from safetensors.numpy import load_file, save_file

from nutshell.machine.errors import UserError
from nutshell.models import headers
from nutshell.models.find import read_config
from nutshell.models.language import architectures, build
from tests.models.language import tiny

CHANGES = {
    "nothing": ({}, None),
    "old masks": ({"h.0.attn.bias": (1, 1, 64, 64), "h.1.attn.bias": (1, 1, 64, 64)}, None),
    "a head that is the embedding": ({"lm_head.weight": (257, 32)}, None),
    "a layer more": ({"h.2.ln_1.weight": (32,)}, "has weights that its config has no room for, .*h.2.ln_1.weight"),
    "a second head": ({"value_head.weight": (1, 32)}, "has weights that its config has no room for, value_head.weight"),
    "another shape": ({"wpe.weight": (65, 32)}, "do not fit its own config"),
    "a weight less": ({"h.1.ln_2.bias": None}, "lacks weights, .*ln_2.bias"),
}


OTHER_SIZES = {
    "vocab_size": 300,
    "hidden_size": 48,
    "n_embd": 48,
    "intermediate_size": 50,
    "ffn_dim": 50,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize("name", architectures.CAUSAL)
def test_a_weight_less_or_more_is_noticed(name, tmp_path):
    """Of every architecture, whichever it is, but the position table of our own, which not every config has."""
    import torch

    settings = tiny.config(name, tie_word_embeddings=False)
    with torch.device("meta"):
        model = architectures.model_class(name)(settings)
    config = json.loads(json.dumps(settings.to_dict()))
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}

    def write(without: str = "", **more: list[int]) -> None:
        """Writes only the header of these weights, and as many bytes as it promises."""
        header, end = {}, 0
        for key, shape in {**shapes, **more}.items():
            if key != without:
                size = torch.Size(shape).numel()
                header[key] = {"dtype": "I8", "shape": shape, "data_offsets": [end, end + size]}
                end += size
        text = json.dumps(header).encode()
        content = struct.pack("<Q", len(text)) + text + b"\0" * end
        (tmp_path / "model.safetensors").write_bytes(content)

    write()
    headers.check_language_model(tmp_path, config)
    sometimes = architectures.ARCHITECTURES[name].sometimes
    for key in shapes:
        if not key.endswith((*sometimes, "lm_head.bias")):
            write(without=key)
            with pytest.raises(UserError, match="lacks weights"):
                headers.check_language_model(tmp_path, config)
    layer = next(key for key in shapes if ".1." in key or key.endswith("_l1"))
    write(**{layer.replace(".1.", ".2.").replace("_l1", "_l2"): shapes[layer]})
    with pytest.raises(UserError, match="has weights that its config has no room for"):
        headers.check_language_model(tmp_path, config)
    write(**{"value_head.weight": [1, 32]})
    with pytest.raises(UserError, match=r"has weights that its config has no room for, value_head.weight"):
        headers.check_language_model(tmp_path, config)
    write()
    for key, value in OTHER_SIZES.items():
        if config.get(key) is not None and (name, key) != ("lstm", "hidden_size"):
            with pytest.raises(UserError, match="do not fit its own config"):
                headers.check_language_model(tmp_path, config | {key: value})


@pytest.mark.parametrize("name", [name for name in architectures.CAUSAL if name not in architectures.OWN])
def test_the_defaults_are_those_of_transformers(name):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = architectures.complete({"model_type": name})
    theirs = CONFIG_MAPPING[name]()
    assert {key: getattr(theirs, key, None) for key in config if key != "model_type"} == {
        key: value for key, value in config.items() if key != "model_type"
    }


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("change", CHANGES)
def test_headers_and_loading_refuse_alike(change, prefix, causal, tmp_path):
    shapes, message = CHANGES[change]
    folder = shutil.copytree(causal["gpt2"], tmp_path / "checkpoint")
    weights = {
        name.removeprefix("transformer."): array for name, array in load_file(folder / "model.safetensors").items()
    }
    some = next(iter(weights.values()))
    for name, shape in shapes.items():
        weights.pop(name, None)
        if shape:
            weights[name] = some.__class__(shape, some.dtype)
    heads = ("lm_head.", "value_head.")
    named = {name if name.startswith(heads) else prefix + name: array for name, array in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    for check in (lambda: headers.check_language_model(folder, read_config(folder)), lambda: build.load(folder)):
        if message:
            with pytest.raises(UserError, match=message):
                check()
        else:
            check()
