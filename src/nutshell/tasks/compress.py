"""`task: compress`: codes the beginning of a text, decodes it again, and counts what has to be sent for it."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy

from nutshell.bits import baselines
from nutshell.bits.codec import container, stream
from nutshell.bits.figures.codes import Code
from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import ratio
from nutshell.bits.figures.units import Units
from nutshell.data import beginnings
from nutshell.data.datasets import TEXTS, problems
from nutshell.data.text import documents
from nutshell.experiment.blocks import Checkpoint, Experiment, Positive
from nutshell.experiment.checks import Blocks, Problem
from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.models.find import SMALL_FILES, files, find
from nutshell.models.language.architectures import CAUSAL
from nutshell.report.results.result import Data, EvaluatedOn, Measurement, Parameters, Pass
from nutshell.runs import coding
from nutshell.tasks.task import Task, register

METRICS = tuple(
    Metric(name, unit, False, ratio, (column, "bytes"), given=("bytes",), resampled=False)
    for name, unit, column in (
        ("bits_per_byte", "bits per byte, the whole file", "code_bits"),
        ("total_bits_per_byte", "bits per byte, the model counted", "total_bits"),
    )
)
FORMS = ("fp32", "bf16", "int8", "q4_1")  # of weights, whose bytes are counted whichever the code is made with
MODEL_KEYS = ("model", "weights", "window", "lanes")


@dataclass(frozen=True)
class Coded:
    """What codes texts.

    Attributes:
        name: With its settings.
        encoder: A coder for a new file.
        decoder: The coder of a file's header.
        model_bytes: By the form of its weights; {} where none are sent.
        parameters: How many weights there are.
    """

    name: str
    encoder: Callable[[], stream.Coder]
    decoder: Callable[[container.Header], stream.Coder]
    model_bytes: dict[str, int]
    parameters: int


@dataclass(frozen=True)
class Way:
    """One word of `coder:`.

    Attributes:
        kind: Of its codes.
        keys: Of the experiment, which it takes and others may not.
        prepare: Of an experiment and a seed, what codes; may write into a folder that is there until the run ends.
    """

    kind: Literal["model", "prequential"]
    keys: tuple[str, ...]
    prepare: Callable[["CompressExperiment", int, Path], Coded]


class CompressExperiment(Experiment):
    """What a file with `task: compress` may say."""

    coder: Literal["exact", "native"]
    model: Checkpoint | None = None
    weights: Literal["fp32", "bf16", "int8", "int7", "int6", "int5", "int4", "int3", "int2", "q4_1"] | None = None
    precision: Literal["fp32", "bf16"] | None = None  # of native arithmetic; None: fp32
    window: Positive | None = None  # tokens
    lanes: Positive | None = None
    data: beginnings.Beginning
    compressors: list[Literal[tuple(baselines.COMPRESSORS)]] | None = None  # None: those that are installed


class Compress(Task):
    """Codes and decodes."""

    word = "compress"
    asks = CompressExperiment

    def checks(self, plain: Mapping[str, Any], blocks: Blocks) -> Iterator[Problem]:
        yield from problems(blocks["data"], TEXTS)
        way = WAYS.get(str(plain.get("coder")))
        if way is None:
            return
        if "model" in way.keys and not plain.get("model"):
            yield ("coder",), f"coder: {plain['coder']} arithmetic is a model's; name it in model"
        for key in dict.fromkeys(key for other in WAYS.values() for key in other.keys):
            if plain.get(key) is not None and key not in way.keys:
                others = " and ".join(word for word, other in WAYS.items() if key in other.keys)
                yield (key,), f"{key}: {plain['coder']} has none; it is of coder: {others}"

    def metrics(self, blocks: Blocks) -> tuple[Metric, ...]:
        return METRICS

    def reads(self, experiment: CompressExperiment) -> dict[str, Any]:
        model = experiment.model
        return {
            "data": experiment.data.reads(documents.files(experiment.data.whole)),
            "model": files(model.name, model.revision) if model else {},
        }

    def check(self, experiment: CompressExperiment, weights: bool = False) -> None:
        _check_model(experiment, weights)
        _check_compressors(experiment)

    def plan(self, experiment: CompressExperiment) -> list[str]:
        _check_model(experiment, weights=False)
        words, (parts, part, texts) = _check_compressors(experiment), beginnings.load(experiment.data)
        sizes = ", ".join(f"{len(text):,}" for text in texts)
        return [
            f"texts:    the first {sizes} bytes of the {part} part ({parts.source})",
            f"codes:    {experiment.coder}, {', '.join(words) or 'no compressors'}; each is decoded again",
        ]

    def run(self, experiment: CompressExperiment, args, resume: Path | None, record) -> Measurement:
        if args.world_size > 1 or args.mixed_precision != "no":
            raise UserError("task: compress is one process in its own precision; start it without accelerate launch")
        progress.stage(f"reading {experiment.data.name}")
        words, (parts, part, texts) = _check_compressors(experiment), beginnings.load(experiment.data)
        way, name = WAYS[experiment.coder], f"{experiment.data.title}, {part} part"
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            progress.stage("loading the model" if way.kind == "model" else "compiling")
            coded = way.prepare(experiment, args.seed, folder)
            record.begin(args)
            codes, facts = [], None
            for raw in texts:
                code, facts = _code(experiment, coded, name, raw)
                codes.append(code)
                for word in words:
                    progress.stage(f"{word}, {len(raw):,} bytes")
                    codes.append(baselines.code(name, raw, baselines.COMPRESSORS[word]))
        raw, longest = texts[-1], codes[-1 - len(words)]
        columns = {"code_bits": 8 * longest.code_bytes, "total_bits": 8 * longest.total_bytes, "bytes": len(raw)}
        units = Units("texts", METRICS, {key: numpy.array([value]) for key, value in columns.items()})
        units.write(Path(args.output_dir))
        others = {one.name: one.bits_per_byte for one in codes[len(codes) - len(words) :] if one.code_bytes}
        failed = sorted({one.name for one in codes if one.code_bytes is None})
        return Measurement(
            evaluated_on=EvaluatedOn(
                part=part,
                count=1,
                units=units.kind,
                sha256=longest.text_sha256,
                chose=False,
                text=f"the first {len(raw):,} bytes of the {part} part, decoded again",
            ),
            metrics=units.figures(),
            baseline={metric.name: others for metric in METRICS if others},
            notes=[f"{one} failed: its decoder did not return the text" for one in failed],
            data=Data(
                source=parts.source,
                repository=parts.origin and parts.origin.repository,
                config=parts.origin and parts.origin.folder,
                revision=parts.origin and parts.origin.revision,
                examples={part: 1},
                bytes={part: len(raw)},
                sha256={part: longest.text_sha256},
            ),
            parameters=Parameters(all=coded.parameters, trained=0),
            evaluation=Pass(
                examples=1,
                tokens=facts.tokens,
                seconds=facts.seconds,
                examples_per_second=1 / facts.seconds,
                tokens_per_second=facts.tokens / facts.seconds,
            ),
            facts={"bytes of the body": facts.body_bytes, "bytes that xz codes shorter": len(raw) - facts.coded_bytes},
            codes=codes,
        )


def _check_compressors(experiment: CompressExperiment) -> list[str]:
    """The words of those that the text is coded with, too."""
    installed = baselines.installed()
    words = installed if experiment.compressors is None else list(dict.fromkeys(experiment.compressors))
    if missing := [word for word in words if word not in installed]:
        raise UserError(f"compressors: the program {missing[0]} is not on this machine; install it, or leave it out")
    return words


def _check_model(experiment: CompressExperiment, weights: bool) -> Path | None:
    """The folder of the model, if there is one and it can be the coder."""
    if not experiment.model:
        return None
    checkpoint = find(experiment.model.name, experiment.model.revision, CAUSAL, weights)
    coding.check(checkpoint, experiment.coder, experiment.window)
    return checkpoint


def _model(experiment: CompressExperiment, seed: int, folder: Path) -> Coded:
    """A model whose weights were written in a form and read again, as those who decode have them."""
    from nutshell.bits import weights
    from nutshell.models.language import build

    form, checkpoint = experiment.weights or "fp32", _check_model(experiment, weights=True)
    model = build.load(checkpoint)
    own = weights.weights(model)
    side = sum(weights.side_bytes(checkpoint).values())
    bodies = {one: weights.pack(own, one) for one in dict.fromkeys((*FORMS, form))}
    parameters = sum(tensor.numel() for tensor in own.values())
    model.load_state_dict(weights.unpack(bodies[form], {key: one.shape for key, one in own.items()}), strict=False)
    model.save_pretrained(folder)
    for file in (file for pattern in SMALL_FILES if pattern != "config.json" for file in checkpoint.glob(pattern)):
        shutil.copy(file, folder)
    del model, own
    precision = (experiment.precision or "fp32") if experiment.coder == container.NATIVE else None
    coder = coding.load(folder, experiment.coder, precision, experiment.window, experiment.lanes)
    how = " ".join(filter(None, [precision, experiment.coder]))
    return Coded(
        f"{_short(experiment.model.name)}, {how}, {form} weights",
        lambda: coder,
        lambda header: coding.of_header(header, folder, experiment.model.name),
        {one: len(body) + side for one, body in bodies.items()},
        parameters,
    )


def _short(name: str) -> str:
    """A checkpoint's name without the folders around it."""
    return [part for part in Path(name).parts if part != "model" and not part.startswith("seed-")][-1]


def _code(experiment: CompressExperiment, coded: Coded, text: str, raw: bytes) -> tuple[Code, stream.Facts]:
    """A text's code, decoded again, and what the codec says of it.

    Raises:
        UserError: If it does not decode to the text.
    """
    packed, unpacked = io.BytesIO(), io.BytesIO()
    progress.stage(f"coding {len(raw):,} bytes")
    facts = stream.compress(io.BytesIO(raw), packed, coded.encoder())
    packed.seek(0)
    reader = container.Reader(packed, coded.name)
    decoder = coded.decoder(reader.header)
    progress.stage(f"decoding {len(raw):,} bytes")
    seconds = stream.decompress(reader, unpacked, lambda header: decoder).seconds
    if unpacked.getvalue() != raw:
        raise UserError(f"{coded.name}: its code of {len(raw):,} bytes decodes to another text; please report this")
    code = Code(
        name=coded.name,
        kind=WAYS[experiment.coder].kind,
        text=text,
        text_bytes=len(raw),
        text_sha256=hashlib.sha256(raw).hexdigest(),
        code_bytes=facts.file_bytes,
        ideal_bits=facts.ideal_bits if facts.coded_bytes == len(raw) else None,
        weights=(experiment.weights or "fp32") if coded.model_bytes else None,
        model_bytes=coded.model_bytes,
        compress_seconds=facts.seconds,
        decompress_seconds=seconds,
    )
    return code, facts


WAYS = {
    container.EXACT: Way("model", MODEL_KEYS, _model),
    container.NATIVE: Way("model", (*MODEL_KEYS, "precision"), _model),
}
register(Compress())
