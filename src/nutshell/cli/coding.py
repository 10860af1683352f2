"""The commands `compress`, `decompress` and `info`: any file through a language model, and back."""

import argparse
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nutshell.cli import streams
from nutshell.cli.streams import STANDARD
from nutshell.machine import progress
from nutshell.machine.errors import UserError, plural

SUFFIX = ".nut"
logger = logging.getLogger("nutshell")


def compress(arguments: argparse.Namespace) -> None:
    """Writes the coded file.

    Raises:
        UserError: For whatever is wrong with the model, the file or the place to write to.
    """
    load = _learning(arguments) if arguments.prequential else _of_model(arguments)
    output = streams.output(arguments, lambda name: f"{name}{SUFFIX}")
    with streams.source(arguments.file) as source, _prepared():
        from nutshell.bits.codec import stream
        from nutshell.bits.codec.container import Reader

        progress.stage("loading the model")
        coder = load()
        with streams.target(output) as target:
            with streams.bar("coding", source.size) as listen:
                facts = stream.compress(source.stream, target, coder, listen)
            source.check()
            if arguments.verify:
                target.seek(0)
                with streams.bar("verifying", facts.size_bytes) as listen, open(os.devnull, "wb") as nothing:
                    try:
                        stream.decompress(Reader(target, output), nothing, lambda _: coder, listen)
                    except UserError as error:
                        raise UserError(
                            f"{source.name}: its code does not decode to it, and is not kept: {error}"
                        ) from None
                target.seek(0, os.SEEK_END)
    bits = f", {8 * facts.file_bytes / facts.size_bytes:.3f} bits per byte" if facts.size_bytes else ""
    stored = facts.size_bytes - facts.coded_bytes
    note = f"; {stored:,} bytes are stored as xz has them, which is shorter here" if stored else ""
    logger.info(
        "%s: %s bytes to %s%s, in %s, %s%s",
        streams.shown(output),
        f"{facts.size_bytes:,}",
        f"{facts.file_bytes:,}",
        bits,
        progress.duration(facts.seconds),
        coder.header.arithmetic,
        note,
    )


def _of_model(arguments: argparse.Namespace) -> Callable[[], Any]:
    """What loads the coder of a model, once all that can be known without it is found right."""
    from nutshell.bits.fixed import build as fixed
    from nutshell.models.find import read_config
    from nutshell.runs import coding

    if not arguments.model or (arguments.file == STANDARD and os.path.isfile(arguments.model)):
        raise UserError("RUN is missing: name the model to code with, such as smollm2, or say --prequential")
    checkpoint = coding.find_checkpoint(arguments.model)
    offered = fixed.problem(read_config(checkpoint)) is None
    arithmetic = arguments.arithmetic or ("exact" if offered and not arguments.precision else "native")
    if arguments.precision and arithmetic == "exact":
        raise UserError("--precision: exact arithmetic has one of its own; it is of native arithmetic")
    coding.check(checkpoint, arithmetic, arguments.window)
    options = (arithmetic, arguments.precision, arguments.window, arguments.lanes)
    return lambda: coding.load(checkpoint, *options)


def _learning(arguments: argparse.Namespace) -> Callable[[], Any]:
    """What makes the coder that learns as it codes; FILE is then the only positional argument."""
    if arguments.file != STANDARD:
        raise UserError("--prequential: takes no RUN, only a FILE: its network is new")
    for name in ("arithmetic", "precision", "lanes", "window"):
        if getattr(arguments, name):
            raise UserError(f"--{name}: is of a model's coding; --prequential has its own")
    arguments.file = arguments.model or STANDARD

    def load() -> Any:
        from nutshell.bits.codec.learning import Learning
        from nutshell.bits.prequential import Settings

        return Learning(Settings())

    return load


def decompress(arguments: argparse.Namespace) -> None:
    """Writes the text of a coded file, once all of it was found right.

    Raises:
        UserError: If it is damaged, of another model or of another machine; nothing is written then.
    """
    from nutshell.bits.codec.container import PREQUENTIAL, Header, Reader
    from nutshell.runs import coding

    output = streams.output(arguments, _without_suffix)
    with streams.source(arguments.file, seekable=True) as source, _prepared():
        reader = Reader(source.stream, source.name)

        def find(header: Header) -> Any:
            progress.stage("loading the model")
            if header.arithmetic == PREQUENTIAL:
                if arguments.model:
                    raise UserError("--model: the file was made without one, by a network that learned it")
                return learning.of_header(header, source.name)
            if arguments.model:
                folder = coding.find_checkpoint(arguments.model)
            else:
                folder = coding.find_made_with(header, source.name, _here())
            return coding.of_header(header, folder, source.name)

        from nutshell.bits.codec import learning, stream

        with streams.target(output) as target, streams.bar("decoding", reader.total.size) as listen:
            facts = stream.decompress(reader, target, find, listen)
    logger.info("%s: %s bytes, in %s", streams.shown(output), f"{facts.size_bytes:,}", progress.duration(facts.seconds))


def info(arguments: argparse.Namespace) -> None:
    """Prints what a coded file says of itself.

    Raises:
        UserError: If it is none, or damaged.
    """
    from nutshell.bits.codec.container import CODED, PREQUENTIAL, Reader

    with streams.source(arguments.file, seekable=True) as source:
        reader = Reader(source.stream, source.name)
        header, total = reader.header, reader.total
        # Of each segment, not to keep its body.
        segments = [(segment.mode == CODED, segment.lanes, len(segment.body)) for segment in reader.segments()]
        coded = [segment for segment in segments if segment[0]]
        rows = {
            "file": f"{reader.size:,} bytes",
            "text": f"{total.size:,} bytes, sha256 {total.sha256.hex()}",
            "ratio": f"{8 * reader.size / total.size:.4f} bits per byte" if total.size else "no text",
            "arithmetic": " ".join((header.arithmetic, *header.environment)),
            "segments": f"{len(segments):,}, of which {len(segments) - len(coded):,} are stored",
        }
        if coded:
            rows |= {
                "tokens": f"{total.tokens:,}, in {plural(max(lanes for _, lanes, _ in coded), 'lane')} at most"
                + f" of windows of {header.window:,}" * (header.arithmetic != PREQUENTIAL),
                "bodies": f"{sum(size for *_, size in coded):,} bytes",
            }
            digests = {name: getattr(header, name).hex() for name in ("weights", "config", "tokenizer", "tables")}
            if header.arithmetic != PREQUENTIAL:
                rows["digests"] = ", ".join(f"{name} {digest}" for name, digest in digests.items())
    for name, value in rows.items():
        print(f"{name + ':':<12}{value}")


def _without_suffix(name: str) -> str:
    if not name.endswith(SUFFIX) or name == SUFFIX:
        raise UserError(f"{name}: does not end with {SUFFIX}; name the output with --output")
    return name.removesuffix(SUFFIX)


@contextlib.contextmanager
def _prepared() -> Iterator[None]:
    """Within it progress is told, and transformers is silent."""
    with progress.beating():
        progress.silence_transformers()
        yield


def _here() -> Iterator[Path]:
    """The folders that may hold the model of a file: the embedded ones that are there, then those in outputs/."""
    from nutshell.models.embedded.registry import EMBEDDED, served
    from nutshell.models.language.architectures import CAUSAL

    for name in served(CAUSAL):
        with contextlib.suppress(UserError):
            yield EMBEDDED[name].folder()
    for config in sorted(Path("outputs").glob("**/model/config.json")):
        yield config.parent
