"""The order in which examples are trained on, as a function of seed and epoch alone."""

import numpy
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


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
