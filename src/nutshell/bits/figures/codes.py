"""What it costs to send a text: its code, and the model that decodes it."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Code(BaseModel):
    """One text's code, which was decoded again.

    Attributes:
        name: Of what coded it, with its settings.
        kind: A compressor; a model, whose weights the receiver needs as well; or prequential: a model that learns
            while it codes, so that the receiver needs the program alone.
        text: What it is a code of, such as "imdb, test part".
        text_bytes, text_sha256: Of the text, which is the beginning of that.
        code_bytes: Of the whole file; None: its decoder did not return the text, which is a failure.
        ideal_bits: The sum of -log2 p that the model gave the text's tokens; None if unknown.
        tokens: How many these are; None without them.
        weights: The form in which its weights were written, and read again to make this code; None without weights.
        model_bytes: Of weights, tokenizer and config, by the form of the weights; {} without weights.
        compress_seconds, decompress_seconds: Each with its model in memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    kind: Literal["compressor", "model", "prequential"]
    text: str
    text_bytes: int
    text_sha256: str
    code_bytes: int | None
    ideal_bits: float | None = None
    tokens: int | None = None
    weights: str | None = None
    model_bytes: dict[str, int] = {}
    compress_seconds: float
    decompress_seconds: float

    @property
    def sent_bytes(self) -> int:
        """Of the model that is sent with the code, in the form that the code was made with; 0 without weights."""
        return self.model_bytes[self.weights] if self.weights else 0

    @property
    def total_bytes(self) -> int | None:
        """Code and model; None if it failed."""
        return None if self.code_bytes is None else self.code_bytes + self.sent_bytes

    @property
    def bits_per_byte(self) -> float | None:
        """Of the code; None if it failed."""
        return None if self.code_bytes is None else 8 * self.code_bytes / self.text_bytes

    @property
    def overhead(self) -> float | None:
        """How much longer the file is than the ideal code, as a share of it; None if either is unknown."""
        return 8 * self.code_bytes / self.ideal_bits - 1 if self.code_bytes and self.ideal_bits else None

    def scaled(self, text_bytes: int) -> "Code":
        """The code of a longer text by arithmetic: as many bits for each byte, the same weights; a text that nobody
        has, without a digest."""
        factor = text_bytes / self.text_bytes
        code_bytes = None if self.code_bytes is None else round(self.code_bytes * factor)
        unknown = {"text_sha256": "", "ideal_bits": None}
        return self.model_copy(update={"text_bytes": text_bytes, "code_bytes": code_bytes, **unknown})


def break_even_bytes(model: Code, other: Code) -> float | None:
    """How long a text has to be for one code to be the shorter one although it has more to send with it:

        (model bytes - the other's) / (the other's code bytes per byte - the code bytes per byte)

    by arithmetic, at the bits per byte that both have; None if it never is, or either failed.
    """
    if model.code_bytes is None or other.code_bytes is None:
        return None
    gain = other.code_bytes / other.text_bytes - model.code_bytes / model.text_bytes
    return max(0, model.sent_bytes - other.sent_bytes) / gain if gain > 0 else None


def by_text(codes: Iterable[Code]) -> dict[str, list[list[Code]]]:
    """Codes of the same bytes next to each other, by the text that they are of: a list for each length, the shortest
    text first; in it each name once for each size, the shortest total first, what failed last."""
    texts: dict[str, dict[tuple[int, str], dict[tuple, Code]]] = {}
    for code in codes:
        alike = texts.setdefault(code.text, {}).setdefault((code.text_bytes, code.text_sha256), {})
        alike.setdefault((code.name, code.code_bytes), code)

    def total(code: Code) -> float:
        return float("inf") if code.total_bytes is None else code.total_bytes

    return {text: [sorted(group[key].values(), key=total) for key in sorted(group)] for text, group in texts.items()}
