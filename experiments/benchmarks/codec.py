"""How fast a text is coded and decoded, next to what one writes first: a Hugging Face model that reads its whole window
again for each token. Rates are per second of the processor, one thread, in turns.

    python experiments/benchmarks/codec.py outputs/quickstart/language_model text.txt --coders exact:64 native:64
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import nutshell  # noqa: F401 - makes the models of its own known to transformers
from nutshell.bits.coder import Encoder
from nutshell.data.encoding import vocabularies
from nutshell.models.find import read_config
from nutshell.models.language import build
from nutshell.report.tables import markdown_table
from nutshell.runs import coding


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="as nutshell compress has it")
    parser.add_argument("text", type=Path)
    parser.add_argument("--coders", nargs="+", default=["exact:64", "native:64"], help="ARITHMETIC:LANES[:PRECISION]")
    parser.add_argument("--bytes", type=int, default=100_000, help="of the text")
    parser.add_argument("--tokens", type=int, default=50, help="that the plain coder codes")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, raw = coding.find_checkpoint(arguments.model), arguments.text.read_bytes()[: arguments.bytes]
    coders = {}
    for word in arguments.coders:
        arithmetic, lanes, *precision = word.split(":")
        coders[word] = coding.load(folder, arithmetic, *precision, lanes=int(lanes), threads=1)
        coders[word].encode(raw[:2000], lambda _: None)  # numba compiles
    window = next(iter(coders.values())).header.window
    model, vocabulary = build.load(folder).eval(), vocabularies.of_checkpoint(folder, read_config(folder))
    rates: dict[str, list[tuple[float, float]]] = {word: [] for word in coders}
    plain_rates = []
    for _ in range(arguments.turns):
        plain_rates.append(plain(model, vocabulary, raw, window, arguments.tokens))
        for word, coder in coders.items():
            (segment, _), encoding = timed(lambda coder=coder: coder.encode(raw, lambda _: None))
            text, decoding = timed(lambda coder=coder, segment=segment: coder.decode(segment, lambda _: None))
            assert text == raw
            rates[word].append(tuple(len(raw) / seconds / plain_rates[-1] for seconds in (encoding, decoding)))
    rows = [["plain", f"{statistics.median(plain_rates):,.0f} bytes/s", ""]]
    rows += [[word, *map(times, zip(*pairs, strict=True))] for word, pairs in rates.items()]
    print(markdown_table(("coder", "coding, times as fast", "decoding"), rows))


def timed(work: Callable) -> tuple:
    """What the work gives, and the processor's seconds that it took."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def times(ratios: tuple[float, ...]) -> str:
    """The median, the lowest and the highest."""
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


@torch.no_grad()
def plain(model, vocabulary: vocabularies.Vocabulary, raw: bytes, window: int, count: int) -> float:
    """Bytes a second of a coder that gives the model a whole window for each token."""
    ids = vocabulary.tokenizer.encode(raw[: 16 * (window + count)].decode(errors="ignore")).ids[: window + count]
    size, encoder = vocabulary.token_bytes()[ids[window:]].sum(), Encoder()

    def code() -> None:
        for place in range(window, len(ids)):
            logits = model(input_ids=torch.tensor([ids[place - window : place]]), use_cache=False).logits[0, -1]
            frequencies = (logits.double().softmax(-1) * 2**32).long() + 1
            above, token = frequencies.cumsum(-1), ids[place]
            own, total = int(frequencies[token]), int(above[-1])
            encoder.encode(int(above[token]) - own, own, total)

    return float(size / timed(code)[1])


if __name__ == "__main__":
    main()
