"""A model's weights as bytes, at several precisions, and back: L(M) of a two-part code L(M) + L(D|M).

What is decoded is what is then run to get L(D|M), so that no figure is of weights that no decoder has. The bytes hold
all that a decoder needs but the config, which gives names and shapes.

Source: Rissanen 1978, "Modeling by shortest data description"; Grünwald 2007, "The Minimum Description Length
Principle", chapter 1.
"""

import json
import lzma
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

from nutshell.bits.coder import Damaged
from nutshell.machine.errors import UserError

INTEGERS = {f"int{bits}": bits for bits in range(8, 1, -1)}  # of which each number takes so many bits
FORMS = ("fp32", "bf16", "bf16_coded", *INTEGERS, "q4_1")  # a body's first byte is the place in it
CODED = ("bf16_coded", *INTEGERS)
BLOCK, BLOCK_BYTES = 32, 20  # of Q4_1: weights with one scale and one least value
SHARES = numpy.linspace(1.0, 0.3, 15)  # of the largest weight, at which the others may be cut
STATE = 0xFFFFFFFF  # the coder's, 32 bits
TINY = numpy.finfo(numpy.float32).tiny

Weights = dict[str, torch.Tensor]


def weights(model: torch.nn.Module) -> Weights:
    """What a model has learned, by name: its parameters, those that are tied once, and the buffers that it saves."""
    saved = model.state_dict(keep_vars=True)
    return dict(model.named_parameters()) | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def pack(state: Mapping[str, torch.Tensor], form: str) -> bytes:
    """The weights as bytes.

    - `fp32`, `bf16`: 4 and 2 bytes each. `q4_1`: as GGUF's, a scale and a least value in fp16 for 32 weights of a
      matrix with 4 bits each, 5 bits in all; vectors in fp32.
    - `bf16_coded`: the exponents, and the signs with the mantissas, each by an adaptive coder.
    - `int8` to `int2`: a matrix is scale x whole number, |number| < 2^(k - 1), by the same coder, with a scale in bf16
      for each row, or for each column if those are fewer. The scale is that of least squared error. Vectors as in
      `bf16_coded`.

    Args:
        state: By name; what is tied is in it once.
        form: One of FORMS.

    Raises:
        UserError: If a weight is not finite, or too large for the form.
    """
    tensors = {name: _finite(name, state[name].detach().float().cpu()) for name in sorted(state)}
    planes = [plane for name, tensor in tensors.items() for plane in _planes(name, tensor, form)]
    body = _encode(planes) if form in CODED else b"".join(symbols.tobytes() for symbols, _ in planes)
    return bytes([FORMS.index(form)]) + body


def unpack(body: bytes, like: Mapping[str, Sequence[int]]) -> Weights:
    """The weights that `pack` has stored, in fp32.

    Args:
        body: From `pack`.
        like: Every weight's shape by its name, as the model's config gives them.

    Raises:
        Damaged: If the body is not one of such weights, as far as its length tells.
    """
    if not body or body[0] >= len(FORMS):
        raise Damaged("these are no weights, or of a later version")
    form, source = FORMS[body[0]], _Source(body)
    state = {name: torch.from_numpy(_array(source, tuple(like[name]), form)) for name in sorted(like)}
    source.end()
    return state


def side_bytes(folder: Path) -> dict[str, int]:
    """What a decoder needs next to the weights, by what it is, in bytes: `tokenizer`, its tokens in the order of their
    numbers and its merges, and `config`, both by `xz -9e`. How it splits a text into words is not counted.

    Args:
        folder: Of a saved model, with tokenizer.json and config.json.
    """
    tokenizer, config = (json.loads((folder / f"{name}.json").read_bytes()) for name in ("tokenizer", "config"))
    model, added = tokenizer["model"], {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    entries = model["vocab"]  # of Unigram a list of tokens with their scores, which are not counted
    numbers = (entries if isinstance(entries, dict) else {pair[0]: at for at, pair in enumerate(entries)}) | added
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges", [])]
    texts = {
        "tokenizer": "\n".join([*sorted(numbers, key=numbers.get), *merges]),
        "config": json.dumps(config, separators=(",", ":")),
    }
    return {name: len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)) for name, text in texts.items()}


Plane = tuple[numpy.ndarray, int]  # symbols (n,) uint8, and of how many bits each is


def _planes(name: str, tensor: torch.Tensor, form: str) -> Iterator[Plane]:
    """What is stored of one tensor, each plane with statistics of its own."""
    if form == "fp32" or (form == "q4_1" and tensor.ndim < 2):
        yield numpy.frombuffer(tensor.numpy().astype("<f4").tobytes(), numpy.uint8), 8
    elif form == "q4_1":
        yield _q4_1(name, tensor.numpy()).ravel(), 8
    elif form in INTEGERS and tensor.ndim > 1:
        scales, numbers = _quantize(name, tensor.flatten(1).numpy(), _levels(form))
        yield from _bf16_planes(scales)
        yield (numbers + _levels(form)).astype(numpy.uint8).ravel(), INTEGERS[form]
    else:
        yield from _bf16_planes(_bf16(name, tensor))


def _array(source: "_Source", shape: tuple[int, ...], form: str) -> numpy.ndarray:
    """The inverse of `_planes`: the next tensor (shape), fp32."""
    count = math.prod(shape)
    if form == "fp32" or (form == "q4_1" and len(shape) < 2):
        return source.take(4 * count, 8).view("<f4").astype(numpy.float32).reshape(shape)
    if form == "q4_1":
        blocks = source.take(-(-count // BLOCK) * BLOCK_BYTES, 8).reshape(-1, BLOCK_BYTES)
        return _from_q4_1(blocks).ravel()[:count].reshape(shape)
    if form not in INTEGERS or len(shape) < 2:
        return source.take_bf16(count).reshape(shape)
    matrix = shape[0], count // shape[0]
    scales = source.take_bf16(max(_scales(matrix))).reshape(_scales(matrix))
    numbers = source.take(count, INTEGERS[form]).astype(numpy.float32) - _levels(form)
    return (numbers.reshape(matrix) * scales).reshape(shape)


class _Source:
    """Reads planes in turn."""

    def __init__(self, body: bytes):
        self.body, self.coded = numpy.array(memoryview(body)), FORMS[body[0]] in CODED
        first = int.from_bytes(body[1:5].ljust(4, b"\0"), "big")
        self.state = numpy.array([0, STATE, first, 5 if self.coded else 1], numpy.int64)  # the last: what is read

    def take(self, count: int, bits: int) -> numpy.ndarray:
        """The next symbols, (count,) uint8."""
        if not self.coded:
            self.state[3] += count
            return numpy.resize(self.body[self.state[3] - count : self.state[3]], count)  # `end` tells if it was short
        symbols = numpy.empty(count, numpy.uint8)
        _compiled(_code)(symbols, bits, self.state, self.body, True)
        return symbols

    def take_bf16(self, count: int) -> numpy.ndarray:
        """The next numbers, (count,) fp32."""
        exponents, others = (self.take(count, 8).astype(numpy.uint16) for _ in range(2))
        return _from_bf16((others & 0x80) << 8 | exponents << 7 | others & 0x7F)

    def end(self) -> None:
        """Passes if all was read: of a code all but three bytes, which are read ahead, as 0."""
        if len(self.body) != self.state[3] - 3 * self.coded:
            raise Damaged("they end before or after the last weight")


def _levels(form: str) -> int:
    return 2 ** (INTEGERS[form] - 1) - 1


def _finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.isfinite().all():
        raise UserError(f"{name}: a weight is not finite, or too large for this form; they cannot be stored")
    return tensor


def _bf16(name: str, tensor: torch.Tensor) -> numpy.ndarray:
    """The 16 bits of each, rounded to the nearest."""
    return _finite(name, tensor.to(torch.bfloat16)).view(torch.int16).numpy().view(numpy.uint16)


def _from_bf16(bits: numpy.ndarray) -> numpy.ndarray:
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def _bf16_planes(bits: numpy.ndarray) -> Iterator[Plane]:
    """The exponents, of which few are frequent, and the signs with the mantissas, which are nearly noise."""
    yield (bits >> 7 & 0xFF).astype(numpy.uint8).ravel(), 8
    yield (bits >> 8 & 0x80 | bits & 0x7F).astype(numpy.uint8).ravel(), 8


def _q4_1(name: str, array: numpy.ndarray) -> numpy.ndarray:
    import gguf

    padded = numpy.pad(array.ravel(), (0, -array.size % BLOCK), mode="edge")
    blocks = gguf.quantize(padded.reshape(-1, BLOCK), gguf.GGMLQuantizationType.Q4_1)
    _finite(name, torch.from_numpy(_from_q4_1(blocks)))
    return blocks


def _from_q4_1(blocks: numpy.ndarray) -> numpy.ndarray:
    import gguf

    return gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q4_1)


def _scales(matrix: tuple[int, int]) -> tuple[int, int]:  # their shape
    return (matrix[0], 1) if matrix[0] <= matrix[1] else (1, matrix[1])


def _quantize(name: str, matrix: numpy.ndarray, most: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The scale of least squared error of each row or column, as the bits of a bf16, and the whole numbers, -most to
    most."""
    axis = int(matrix.shape[0] <= matrix.shape[1])
    largest = numpy.abs(matrix).max(axis, keepdims=True)
    largest = numpy.where(largest == 0, most, largest)  # all are 0, whatever the scale
    least, chosen = numpy.inf, numpy.zeros(largest.shape, numpy.uint16)
    for share in SHARES:
        bits = _bf16(name, torch.from_numpy(largest * numpy.float32(share / most)))
        error = ((matrix - _rounded(matrix, bits, most) * _from_bf16(bits)) ** 2).sum(axis, keepdims=True)
        chosen, least = numpy.where(error < least, bits, chosen), numpy.minimum(error, least)
    return chosen, _rounded(matrix, chosen, most)


def _rounded(matrix: numpy.ndarray, bits: numpy.ndarray, most: int) -> numpy.ndarray:
    return numpy.rint(matrix / numpy.maximum(_from_bf16(bits), TINY)).clip(-most, most)


@cache
def _compiled(function: Callable) -> Any:
    import numba

    return numba.njit(function)


def _encode(planes: Sequence[Plane]) -> bytes:
    """All planes by one coder, each bit of a symbol by how often it was 1 after the same bits before it: (n1 + 1/2) /
    (n0 + n1 + 1). No table is sent: the decoder counts too.

    Source: Krichevsky & Trofimov 1981, "The performance of universal encoding"; Mahoney's lpaq for the coder.
    """
    room = numpy.empty(2 * sum(len(symbols) for symbols, _ in planes) + 4096, numpy.uint8)
    state = numpy.array([0, STATE, 0, 0], numpy.int64)
    for symbols, bits in planes:
        _compiled(_code)(symbols, bits, state, room, False)
    end = (int(state[0]) >> 24) + (state[0] > 0)  # the shortest number of the interval, zeros after it
    return room[: state[3]].tobytes() + bytes([end])


def _code(symbols, bits, state, body, decoding):  # pragma: no cover - compiled
    """One plane from symbols to a body, or back.

    Args:
        symbols: (n,) uint8, which are filled in if it decodes.
        bits: Of each.
        state: The interval's ends, the 4 bytes of the body that are looked at if it decodes, and how many were written
            or read; what it is afterwards is written there.
        body: uint8.
    """
    counts = numpy.zeros((1 << bits, 2), numpy.int64)
    low, high, code, at = state
    for place in range(len(symbols)):
        node = 1
        for shift in range(bits - 1, -1, -1):
            zeros, ones = counts[node]
            chance = ((2 * ones + 1) << 16) // (2 * (zeros + ones) + 2)
            middle = low + ((high - low) * min(max(chance, 1), 65535) >> 16)
            bit = int(code <= middle) if decoding else (symbols[place] >> shift) & 1
            low, high = (low, middle) if bit else (middle + 1, high)
            counts[node, bit] += 1
            node = 2 * node + bit
            while (low ^ high) >> 24 == 0:
                if decoding:
                    code = (code << 8) & 0xFFFFFFFF | (body[at] if at < len(body) else 0)
                else:
                    body[at] = high >> 24
                low, high, at = (low << 8) & 0xFFFFFFFF, (high << 8) & 0xFFFFFFFF | 255, at + 1
        symbols[place] = node - (1 << bits)
    state[0], state[1], state[2], state[3] = low, high, code, at
