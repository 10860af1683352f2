"""What it costs to send a text: its code, and the model that decodes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Code(BaseModel):
    """One text's code, which was decoded again.

    Attributes:
        name: Of what coded it, with its settings.
        kind: A compressor; a model, whose weights the receiver needs as well; or prequential: a model that learns
            while it codes, so that the receiver needs the program alone.
        text_bytes, text_sha256: Of the text.
        code_bytes: Of the whole file; None: its decoder did not return the text, which is a failure.
        ideal_bits: The sum of -log2 p that the model gave the text's tokens; None if unknown.
        model_bytes: Of the weights, by the form that they are written in; {} without weights.
        compress_seconds, decompress_seconds: Each with its model in memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    kind: Literal["compressor", "model", "prequential"]
    text_bytes: int
    text_sha256: str
    code_bytes: int | None
    ideal_bits: float | None = None
    model_bytes: dict[str, int] = {}
    compress_seconds: float
    decompress_seconds: float

    @property
    def smallest_model_bytes(self) -> int:
        """Of the weights in their smallest form; 0 without weights."""
        return min(self.model_bytes.values(), default=0)

    @property
    def total_bytes(self) -> int | None:
        """Code and model; None if it failed."""
        return None if self.code_bytes is None else self.code_bytes + self.smallest_model_bytes

    @property
    def bits_per_byte(self) -> float | None:
        """Of the code; None if it failed."""
        return None if self.code_bytes is None else 8 * self.code_bytes / self.text_bytes

    @property
    def overhead(self) -> float | None:
        """How much longer the file is than the ideal code, as a share of it; None if either is unknown."""
        return 8 * self.code_bytes / self.ideal_bits - 1 if self.code_bytes and self.ideal_bits else None
