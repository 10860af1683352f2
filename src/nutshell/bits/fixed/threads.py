"""Lanes in as many threads as torch has: since every sum is exact, how they are dealt out changes no bit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def spread(work: Callable[[slice], None], rows: int, most: int) -> None:
    """Calls work with slices of so many rows, of at most `most` each, until all of them are done.

    Each thread computes with one thread of torch: small products gain nothing from more, but all else does.
    """
    threads = torch.get_num_threads()
    size = max(1, min(most, -(-rows // threads)))
    parts = [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
    if min(threads, len(parts)) < 2:
        for part in parts:
            work(part)
    else:
        list(_pool(threads).map(work, parts))  # list: to raise what a thread has raised


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "lanes", initializer=lambda: torch.set_num_threads(1))
