"""The order in which examples are trained on and evaluated, as a function of seed and epoch alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

PADDING = -100  # a label that costs nothing


class LengthGroupedSampler(Sampler[int]):
    """Examples of about the same length next to each other, so that little is padded, in a new order each epoch.

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


DUMMY = -1  # the index of an example that costs nothing


class PaddedOrder(Sampler[int]):
    """An order of examples, and after it as many dummies as make its length a multiple of `size`.

    Stock accelerate's `dataloader_config` can fill up the processes' last batches only with examples from the epoch's
    beginning (even_batches): those are trained on twice, and the last step differs from that of one process.

    Args:
        order: A sampler; with `set_epoch`, if it has one.
        size: Examples that all processes take at once.
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
        yield from [DUMMY] * (len(self) - len(self.order))


class WithDummies(Dataset):
    """Training examples, and at the index DUMMY one that costs nothing.

    Args:
        examples: The examples.
        dummy: Turns an example into one that costs nothing.
    """

    def __init__(self, examples: Dataset, dummy: Callable[[Any], Any]):
        self.examples, self.dummy = examples, dummy

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.dummy(self.examples[0]) if index == DUMMY else self.examples[index]


def longest_first(lengths: Sequence[int], *keys: Sequence[int]) -> numpy.ndarray:
    """The order (n,) in which as little as possible is padded and what does not fit into memory fails at once.

    Args:
        lengths: Tokens of each row.
        keys: What rows are sorted by before their lengths.
    """
    return numpy.lexsort((-numpy.asarray(lengths), *map(numpy.asarray, keys)))


def in_data_order(values: numpy.ndarray, order: numpy.ndarray) -> numpy.ndarray:
    """Rows in the data's order, made of rows in another order."""
    back = numpy.empty_like(values)
    back[order] = values
    return back
