"""`task: compress`: codes the beginning of a text, decodes it again, and counts what has to be sent for it."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
from pydantic import Field

from nutshell.bits.baselines.compressors import COMPRESSORS, installed, measure
from nutshell.bits.baselines.learners import LEARNERS
from nutshell.bits.codec import container, stream
from nutshell.bits.figures.codes import Code
from nutshell.bits.figures.metrics import Metric
from nutshell.bits.figures.statistics import ratio
from nutshell.bits.figures.units import Units
from nutshell.data.datasets import TEXTS, problems
from nutshell.data.text import beginnings, documents
from nutshell.experiment.blocks import Checkpoint, Experiment
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


@dataclass(frozen=True)
class Coder:
    """What codes texts.

    Attributes:
        code: The code of a text, by what it is called and its bytes; decoded again.
        parameters: How many weights there are that were learned before.
    """

    code: Callable[[str, bytes], Code]
    parameters: int = 0


@dataclass(frozen=True)
class Way:
    """One word of `coder:`.

    Attributes:
        prepare: Of an experiment and a seed the coders, one after the other; may write into a folder that is there
            until the run ends.
        keys: Of the experiment, which it takes and others may not.
    """

    prepare: Callable[["CompressExperiment", int, Path], Iterable[Coder]]
    keys: tuple[str, ...] = ()


Form = Literal["fp32", "bf16", "int8", "int7", "int6", "int5", "int4", "int3", "int2", "q4_1"]


class CompressExperiment(Experiment):
    """What a file with `task: compress` may say."""

    coder: Literal[container.EXACT, container.NATIVE, *LEARNERS]
    model: Checkpoint | None = None
    weights: Form | list[Form] | None = None  # None: fp32; of several each is a model of its own
    precision: Literal["fp32", "bf16"] | None = None  # None: fp32
    window: Annotated[int, Field(ge=1, le=container.MOST_WINDOW)] | None = None  # tokens
    lanes: Annotated[int, Field(ge=1, le=container.MOST_LANES)] | None = None
    data: beginnings.Beginning
    compressors: list[Literal[tuple(COMPRESSORS)]] | None = None  # None: those that are installed


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
        name, codes = f"{experiment.data.title}, {part} part", []
        with tempfile.TemporaryDirectory() as folder:
            for coder in WAYS[experiment.coder].prepare(experiment, args.seed, Path(folder)):
                if not codes:  # nothing of an earlier run is discarded before a coder is ready
                    record.begin(args)
                for raw in texts:
                    progress.stage(f"coding and decoding {len(raw):,} bytes")
                    codes.append(coder.code(name, raw))
                    if codes[-1].code_bytes is None:
                        reason = f"its code of {len(raw):,} bytes decodes to no such text; report this"
                        raise UserError(f"{codes[-1].name}: {reason}")
        code = min((one for one in codes if one.text_bytes == len(raw)), key=lambda one: one.total_bytes)
        for raw in texts:
            progress.stage(f"the compressors, {len(raw):,} bytes")
            others = [measure(name, raw, COMPRESSORS[word]) for word in words]
            codes += others
        columns = {"code_bits": 8 * code.code_bytes, "total_bits": 8 * code.total_bytes, "bytes": len(raw)}
        tokens = code.tokens or len(raw)
        units = Units("texts", METRICS, {key: numpy.array([value]) for key, value in columns.items()})
        units.write(Path(args.output_dir))
        baseline = {one.name: one.bits_per_byte for one in others if one.code_bytes}
        failed = sorted({one.name for one in codes if one.code_bytes is None})
        return Measurement(
            evaluated_on=EvaluatedOn(
                part=part,
                count=1,
                units=units.kind,
                sha256=code.text_sha256,
                chose=False,
                text=f"the first {len(raw):,} bytes of the {part} part, decoded again",
            ),
            metrics=units.figures(),
            baseline={metric.name: baseline for metric in METRICS if baseline},
            notes=[f"{one} failed: its decoder did not return the text" for one in failed],
            data=Data(
                source=parts.source,
                repository=parts.origin and parts.origin.repository,
                config=parts.origin and parts.origin.folder,
                revision=parts.origin and parts.origin.revision,
                examples={part: 1},
                bytes={part: len(raw)},
                sha256={part: code.text_sha256},
            ),
            parameters=Parameters(all=coder.parameters, trained=0),
            evaluation=Pass(
                examples=1,
                tokens=tokens,
                seconds=code.compress_seconds,
                examples_per_second=1 / code.compress_seconds,
                tokens_per_second=tokens / code.compress_seconds,
            ),
            codes=codes,
        )


def _check_compressors(experiment: CompressExperiment) -> list[str]:
    """The words of those that the text is coded with, too."""
    present = installed()
    words = present if experiment.compressors is None else list(dict.fromkeys(experiment.compressors))
    if missing := [word for word in words if word not in present]:
        raise UserError(f"compressors: the program {missing[0]} is not on this machine; install it, or leave it out")
    return words


def _check_model(experiment: CompressExperiment, weights: bool) -> Path | None:
    """The folder of the model, if there is one and it can be the coder."""
    if not experiment.model:
        return None
    checkpoint = find(experiment.model.name, experiment.model.revision, CAUSAL, weights)
    coding.check(checkpoint, experiment.coder, experiment.window)
    return checkpoint


def _model(experiment: CompressExperiment, seed: int, folder: Path) -> Iterator[Coder]:
    """A model whose weights were written in a form and read again, as those who decode have them; in each form."""
    from nutshell.bits import weights
    from nutshell.models.language import build

    progress.stage("loading the model")
    checkpoint = _check_model(experiment, weights=True)
    forms = experiment.weights if isinstance(experiment.weights, list) else [experiment.weights or "fp32"]
    model = build.load(checkpoint)
    own = {name: tensor.detach().clone() for name, tensor in weights.weights(model).items()}
    side = sum(weights.side_bytes(checkpoint).values())
    for form in dict.fromkeys(forms):
        bodies = {one: weights.pack(own, one) for one in dict.fromkeys((*FORMS, form))}
        decoded = weights.unpack(bodies[form], {name: tensor.shape for name, tensor in own.items()})
        model.load_state_dict(decoded, strict=False)  # without the other names of what is tied
        model.save_pretrained(folder)
        for file in (file for pattern in SMALL_FILES if pattern != "config.json" for file in checkpoint.glob(pattern)):
            shutil.copy(file, folder)
        sizes = {one: len(body) + side for one, body in bodies.items()}
        yield _coder(experiment, form, sizes, folder, sum(tensor.numel() for tensor in own.values()))


def _coder(experiment: CompressExperiment, form: str, sizes: dict[str, int], folder: Path, parameters: int) -> Coder:
    """The coder of a model that was written to a folder.

    Args:
        form: Of its weights.
        sizes: Bytes of the model, by the form of its weights.
    """
    precision = (experiment.precision or "fp32") if experiment.coder == container.NATIVE else None
    coder = coding.load(folder, experiment.coder, precision, experiment.window, experiment.lanes)
    parts = (experiment.model.name, *Path(experiment.model.name).resolve().parts[::-1])
    names = [part for part in parts if "/" not in part and part not in ("model", ".") and not part.startswith("seed-")]
    name = f"{names[0]}, {' '.join(filter(None, [precision, experiment.coder]))}, {form} weights"

    def code(text: str, raw: bytes) -> Code:
        packed, unpacked = io.BytesIO(), io.BytesIO()
        facts = stream.compress(io.BytesIO(raw), packed, coder)
        packed.seek(0)
        reader = container.Reader(packed, name)
        decoder = coding.of_header(reader.header, folder, name)
        seconds = stream.decompress(reader, unpacked, lambda header: decoder).seconds
        return Code(
            name=name,
            kind="model",
            text=text,
            text_bytes=len(raw),
            text_sha256=hashlib.sha256(raw).hexdigest(),
            code_bytes=facts.file_bytes if unpacked.getvalue() == raw else None,
            ideal_bits=facts.ideal_bits if facts.coded_bytes == len(raw) else None,
            tokens=facts.tokens,
            weights=form,
            model_bytes=sizes,
            compress_seconds=facts.seconds,
            decompress_seconds=seconds,
        )

    return Coder(code, parameters)


def _learner(experiment: CompressExperiment, seed: int, folder: Path) -> list[Coder]:
    compressor = LEARNERS[experiment.coder](seed)
    return [Coder(lambda text, raw: measure(text, raw, compressor))]


MODEL_KEYS = ("model", "weights", "window", "lanes")
WAYS = {
    container.EXACT: Way(_model, MODEL_KEYS),
    container.NATIVE: Way(_model, (*MODEL_KEYS, "precision")),
    **{word: Way(_learner) for word in LEARNERS},
}
register(Compress())
