"""The order in which examples are trained on, as a function of seed and epoch alone; windows of text as batches."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

PADDING = -100  # a label that costs nothing


class LengthGroupedSampler(Sampler[int]):
    """Examples of about the same length side by side, so that little is padded, in a new order each epoch.

    Stock transformers draws this order from the global random state: processes then disagree from the second
    epoch on, and a resumed run sees another order than an uninterrupted one. Here it is a pure function of
    seed and epoch, the same in every process.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples per optimizer step, all processes and accumulation steps together.
        seed: The run's seed.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls this before each epoch, also when it resumes."""
        self.epoch = epoch

    def __iter__(self):
        mixed = int(numpy.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(mixed)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


GHOST = -1  # the index of an example that costs nothing


class Evened(Sampler[int]):
    """An order of examples, and behind it as many ghosts as make its length a multiple of `size`.

    Stock accelerate makes the processes' last batches even with examples from the epoch's beginning instead: those
    are trained on twice, and the last step is another than with one process.

    Args:
        order: A sampler; with `set_epoch`, if it has one.
        size: Examples of all processes side by side.
    """

    def __init__(self, order: Sampler[int], size: int):
        self.order, self.size = order, size

    def __len__(self) -> int:
        return -(-len(self.order) // self.size) * self.size

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls this before each epoch, also when it resumes."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [GHOST] * (len(self) - len(self.order))


class WithGhosts(Dataset):
    """Training examples, and at the index GHOST one that costs nothing.

    Args:
        examples: The examples.
        ghost: Makes of an example one that costs nothing.
    """

    def __init__(self, examples: Dataset, ghost: Callable[[Any], Any]):
        self.examples, self.ghost = examples, ghost

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.ghost(self.examples[0]) if index == GHOST else self.examples[index]


class TextCollator:
    """Windows -> a batch: input_ids and labels (batch, tokens), labels -100 where nothing is to be predicted, and an
    attention_mask where a row is padded.

    Args:
        padding: The token id to pad with, on the right.
    """

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, rows: list[tuple[numpy.ndarray, int]]) -> dict[str, torch.Tensor]:
        """The batch."""
        lengths = [len(ids) for ids, _ in rows]
        width = max(lengths)
        batch = {
            "input_ids": torch.full((len(rows), width), self.padding),
            "labels": torch.full((len(rows), width), PADDING),
        }
        for row, (ids, scored) in enumerate(rows):
            ids = torch.from_numpy(ids.astype(numpy.int64))
            batch["input_ids"][row, : len(ids)] = ids
            batch["labels"][row, len(ids) - scored : len(ids)] = ids[len(ids) - scored :]
        if min(lengths) < width:
            batch["attention_mask"] = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
        return batch
