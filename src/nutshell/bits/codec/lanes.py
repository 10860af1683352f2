"""Tokens through a model and the range coder: in lanes, which run in lock step, and in windows.

The tokens are cut into lanes of consecutive ones, which the model reads as a batch. Each begins with the token that
begins a text. A symbol of the one body is the next token of the next lane: first those of all lanes' first tokens, then
those of their second ones.

A window is what the model is fed at most. The first one of a lane predicts as many tokens as it has; then the window
begins again with its own last half, of which nothing is coded, so that a token has at least half a window before it.
These are the windows of `evaluation.stride` of half a block.

Source: Delétang et al. 2024, "Language Modeling Is Compression"; lanes in lock step, Bellard's ts_zip.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from nutshell.bits.codec.tables import Tables
from nutshell.bits.coder import Damaged, Decoder, Encoder

LANE_TOKENS = 1024  # a lane's first tokens know little of what is before them: about 9 bytes for each lane
USUAL_LANES = 128
CHECK_TOKENS = 8192  # from one check symbol to the next
CHECK_TOTAL = 16  # of 4 bits: 0.005 % of a text at 10 bits a token
TABLE_ENTRIES = 1 << 22  # of frequencies at once

Listen = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """How so many tokens are read.

    Attributes:
        sizes: Tokens of each lane; the first ones have one more, if they do not divide.
        window: The most tokens that the model is fed.
    """

    sizes: tuple[int, ...]
    window: int

    @classmethod
    def of(cls, tokens: int, lanes: int, window: int) -> "Plan":
        """Of so many tokens, 1 at least, in so many lanes, at most one for each token."""
        return cls(tuple(tokens // lanes + (lane < tokens % lanes) for lane in range(lanes)), window)

    def live(self, place: int) -> int:
        """How many lanes have a token at a place."""
        return len(self.sizes) if place < self.sizes[-1] else self.sizes.count(self.sizes[0])

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Each window's first token that is fed, the first after which the next is coded, and the end."""
        longest, start, first = self.sizes[0], 0, 0
        while first < longest:
            end = min(start + self.window, longest)
            yield start, first, end
            start, first = end - self.window + max(1, self.window // 2), end


def lanes_for(tokens: int, lanes: int | None, most: int) -> int:
    """How many lanes so many tokens get.

    Args:
        lanes: As many as are named; None: one for each LANE_TOKENS, but USUAL_LANES and `most` at most.
    """
    return max(1, min(tokens, lanes or min(USUAL_LANES, most, tokens // LANE_TOKENS)))


def _windows(tables: Tables, rows: torch.Tensor, plan: Plan) -> Iterator[tuple[Any, int, int]]:
    """Of each window the model's state, the first token after which the next is coded, and the end. The state has read
    the tokens before that one, which are in the rows (lanes, tokens) by then."""
    for begin, first, end in plan.spans():
        state = tables.state(len(rows), end - begin)
        if first > begin:
            tables.fill(rows[:, begin:first], state)
        yield state, first, end


class Checks:
    """After every CHECK_TOKENS tokens a symbol that follows from them: a decoder that has gone astray finds another."""

    def __init__(self):
        self._digest, self._count, self._next = 0, 0, CHECK_TOKENS

    def add(self, tokens: Sequence[int]) -> int | None:
        """The symbol that is due after these tokens, if one is."""
        self._digest = zlib.crc32(numpy.array(tokens, "<u4").tobytes(), self._digest)
        self._count += len(tokens)
        if self._count < self._next:
            return None
        self._next += CHECK_TOKENS
        return self._digest % CHECK_TOTAL


@torch.inference_mode()
def encode(tables: Tables, start: int, ids: Sequence[int], plan: Plan, listen: Listen = lambda _: None) -> tuple:
    """The body of some tokens, and the bits that they are worth by the tables.

    Args:
        start: The token that begins a text.
        ids: The tokens.
        plan: Of as many tokens.
        listen: Is told how many tokens are done.

    Returns:
        bytes, and the sum of -log2(frequency / total), check symbols not counted.
    """
    sizes, lanes = plan.sizes, len(plan.sizes)
    rows = torch.full((lanes, sizes[0] + 1), start)
    ends = numpy.cumsum(sizes)
    for row, end, size in zip(rows, ends, sizes, strict=True):
        row[1 : size + 1] = torch.as_tensor(ids[end - size : end])
    encoder, checks, bits, done = Encoder(), Checks(), 0.0, 0
    piece = max(1, TABLE_ENTRIES // (lanes * tables.vocab)) if tables.parallel else 1
    for state, first, end in _windows(tables, rows, plan):
        for at in range(first, end, piece):
            upto = min(at + piece, end)
            frequencies = tables.frequencies(rows[:, at:upto], state)
            targets = rows[:, at + 1 : upto + 1]
            above = frequencies.cumsum(-1)
            last = above.gather(-1, targets[..., None])[..., 0]
            own = frequencies.gather(-1, targets[..., None])[..., 0]
            starts, owns, totals = ((column.T.numpy()) for column in (last - own, own, above[..., -1]))
            worth = numpy.log2(totals / owns)
            for step in range(upto - at):
                live = plan.live(at + step)
                for part in zip(
                    starts[step, :live].tolist(), owns[step, :live].tolist(), totals[step, :live].tolist(), strict=True
                ):
                    encoder.encode(*part)
                bits += worth[step, :live].sum()
                if (symbol := checks.add(targets[:live, step].tolist())) is not None:
                    encoder.encode(symbol, 1, CHECK_TOTAL)
                done += live
            listen(done)
    return encoder.finish(), float(bits)


@torch.inference_mode()
def decode(tables: Tables, start: int, body: bytes, plan: Plan, listen: Listen = lambda _: None) -> list[int]:
    """The tokens of a body.

    Raises:
        Damaged: If the body is none that `encode` has made with these tables.
    """
    sizes = plan.sizes
    rows = torch.full((len(sizes), sizes[0] + 1), start)
    decoder, checks, done = Decoder(body), Checks(), 0
    for state, first, end in _windows(tables, rows, plan):
        for at in range(first, end):
            above = tables.frequencies(rows[:, at : at + 1], state)[:, 0].cumsum(-1).numpy()
            live = plan.live(at)
            tokens = [decoder.decode(row) for row in above[:live]]
            rows[:live, at + 1] = torch.tensor(tokens)
            if (symbol := checks.add(tokens)) is not None:
                if decoder.target(CHECK_TOTAL) != symbol:
                    raise Damaged("a check symbol is another")
                decoder.take(symbol, 1)
            done += live
            listen(done)
    decoder.end()
    return [token for row, size in zip(rows[:, 1:].tolist(), sizes, strict=True) for token in row[:size]]
