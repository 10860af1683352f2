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

CHANGES = {
    "nothing": ({}, None),
    "old masks": ({"h.0.attn.bias": (1, 1, 64, 64), "h.1.attn.bias": (1, 1, 64, 64)}, None),
    "a head that is the embedding": ({"lm_head.weight": (257, 32)}, None),
    "a layer more": ({"h.2.ln_1.weight": (32,)}, "has weights that its config has no room for, .*h.2.ln_1.weight"),
    "a second head": ({"value_head.weight": (1, 32)}, "has weights that its config has no room for, value_head.weight"),
    "another shape": ({"wpe.weight": (65, 32)}, "do not fit its own config"),
    "a weight less": ({"h.1.ln_2.bias": None}, "lacks weights, .*ln_2.bias"),
}


def test_the_expected_shapes_are_those_of_the_model(tmp_path):
    import torch
    from transformers import GPT2Config

    settings = GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=16, n_inner=40, tie_word_embeddings=False)
    with torch.device("meta"):
        model = architectures.model_class("gpt2")(settings)
    config = json.loads(json.dumps(settings.to_dict()))
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    shapes["lm_head.weight"] = [50257, 24]

    def write(without: str = "") -> None:
        """Writes only the header of these weights, and as many bytes as it promises."""
        header, end = {}, 0
        for key, shape in shapes.items():
            if key != without:
                size = torch.Size(shape).numel()
                header[key] = {"dtype": "I8", "shape": shape, "data_offsets": [end, end + size]}
                end += size
        text = json.dumps(header).encode()
        content = struct.pack("<Q", len(text)) + text + b"\0" * end
        (tmp_path / "model.safetensors").write_bytes(content)

    write()
    headers.check_language_model(tmp_path, config)
    for key in shapes:
        write(without=key)
        with pytest.raises(UserError, match="lacks weights"):
            headers.check_language_model(tmp_path, config)


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
