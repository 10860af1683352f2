"""A byte-level LSTM that is trained on what it has just coded.

Source: Hochreiter & Schmidhuber 1997; Bellard 2019, "Lossless data compression with neural networks" (NNCP); Knoll's
lstm-compress and cmix, for an LSTM's distribution as one input of a mixer.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import numpy
import torch
from torch import nn
from torch.nn import functional

from nutshell.bits.prequential.settings import Settings

FREQUENCY_BITS = 24
_WARM_STEPS = 20
_LEAST_RATE = 0.1  # of the rate, at the end

State = list[tuple[torch.Tensor, torch.Tensor]]


class Layers(nn.Module):
    """The network: a byte's row in a table goes straight to the first layer's gates, as a one-hot input would."""

    def __init__(self, hidden: int, layers: int):
        super().__init__()
        self.hidden = hidden
        self.table = nn.Embedding(256, 4 * hidden)
        self.recurrent = nn.ModuleList(
            nn.Linear(hidden if layer == 0 else 2 * hidden, 4 * hidden, bias=layer > 0) for layer in range(layers)
        )
        self.head = nn.Linear(layers * hidden, 256)
        for name, weight in self.named_parameters():
            nn.init.normal_(weight, std=0.3 if "table" in name else weight.shape[-1] ** -0.5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.table.weight[:, hidden : 2 * hidden] += 1  # the forget gates begin open

    def fresh(self, rows: int) -> State:
        return [(torch.zeros(rows, self.hidden), torch.zeros(rows, self.hidden)) for _ in self.recurrent]

    def forward(self, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Logits (rows, bytes, 256) of the bytes after ids (rows, bytes), and the state after them."""
        state, outputs = list(state), []
        for gates in self.table(ids).unbind(1):
            below = None
            for layer, recurrent in enumerate(self.recurrent):
                output, cell = state[layer]
                gates = gates + recurrent(output) if layer == 0 else recurrent(torch.cat([below, output], -1))
                entry, forget, exit, new = gates.split(self.hidden, -1)
                cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(new)
                below = torch.sigmoid(exit) * torch.tanh(cell)
                state[layer] = below, cell
            outputs.append(torch.cat([output for output, _ in state], -1))
        return self.head(torch.stack(outputs, 1)), state


class Learner:
    """The network, its optimizer and its place in the lanes.

    Args:
        steps: Bytes of the longest lane: the learning rate falls over them.
    """

    def __init__(self, settings: Settings, steps: int):
        self._settings, self._segments = settings, max(1, steps // settings.segment)
        self._generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = Layers(settings.hidden, settings.layers)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=0.0, betas=(0.9, 0.99), eps=1e-7)
        self._ids = torch.zeros(settings.lanes, steps + 1, dtype=torch.long)  # a zero byte goes before each lane
        self._done, self._state, self._passed = 0, self.network.fresh(settings.lanes), []

    @torch.no_grad()
    def frequencies(self) -> numpy.ndarray:
        """What is expected of each lane's next byte, (lanes, 256) int64: each at least 1, the sum about 2^24."""
        if self._done % self._settings.stretch == 0:
            self._passed.append(self._state)
        logits, self._state = self.network(self._ids[:, self._done : self._done + 1], self._state)
        chances = torch.softmax(logits[:, 0].double(), -1)
        return (chances * (1 << FREQUENCY_BITS)).floor().long().numpy() + 1

    def tell(self, step: bytes) -> None:
        """Gives the next byte of each lane; after a segment, the network learns it."""
        self._done += 1
        self._ids[:, self._done] = torch.frombuffer(bytearray(step), dtype=torch.uint8)
        if self._done % self._settings.segment == 0:
            self._learn()
            self._passed = []

    def _learn(self) -> None:
        settings, segment = self._settings, self._done // self._settings.segment
        share = min(1, segment / _WARM_STEPS) * (1 - (1 - _LEAST_RATE) * segment / self._segments)
        for group in self._optimizer.param_groups:
            group["lr"] = share * settings.rate_millionths * 1e-6
        starts = torch.arange(self._done - settings.segment, self._done, settings.stretch)
        self._teach(
            torch.arange(settings.lanes).repeat(len(starts)),
            starts.repeat_interleave(settings.lanes),
            [tuple(map(torch.cat, zip(*layer, strict=True))) for layer in zip(*self._passed, strict=True)],
        )
        rows = settings.lanes * len(starts)
        for _ in range(settings.replays):
            lanes = torch.randint(settings.lanes, (rows,), generator=self._generator)
            starts = torch.randint(self._done - settings.stretch + 1, (rows,), generator=self._generator)
            self._teach(lanes, starts, self.network.fresh(rows))

    def _teach(self, lanes: torch.Tensor, starts: torch.Tensor, state: State) -> None:
        """One step of Adam on stretches that begin at these places, (rows,), with the network in these states."""
        ids = self._ids[lanes[:, None], starts[:, None] + torch.arange(self._settings.stretch + 1)]
        logits, _ = self.network(ids[:, :-1], state)
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()

    def digest(self) -> str:
        """Of the weights: the same after the same bytes on the same processor path."""
        weights = b"".join(weight.detach().numpy().tobytes() for weight in self.network.parameters())
        return hashlib.sha256(weights).hexdigest()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it, sums are made in one order, and no number is too small to be a zero."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def fingerprint(settings: Settings) -> str:
    """Version, path and results of arithmetic: a digest of what two segments of fixed bytes lead to."""
    steps = 2 * settings.segment
    with one_thread():
        learner, digest = Learner(settings, steps), hashlib.sha256()
        for step in range(steps):
            digest.update(learner.frequencies().tobytes())
            learner.tell(bytes(step * (step + lane) % 251 for lane in range(settings.lanes)))
        digest.update(learner.digest().encode())
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, 1 thread, {digest.hexdigest()[:16]}"
