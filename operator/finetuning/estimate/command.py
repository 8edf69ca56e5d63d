"""`finetuning estimate`: reads the manifest and the model's shape, prints the answer."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.estimate import files, gpus, known, of_job, page
from finetuning.estimate.advice import judge
from finetuning.estimate.shape import Shape, UnknownShapeError
from finetuning.local import manifest
from finetuning.local.problems import InputError

CLAIMS = Path("runs/claims")
DEFAULT_GPU = "MI300X"
GPU_RESOURCE = "amd.com/gpu"


@dataclass(frozen=True, slots=True)
class Options:
    """What was told on the command line."""

    manifest: Path
    name: str | None = None
    model: Path | None = None
    claims: Mapping[str, Path] = field(default_factory=dict)
    gpu: str = DEFAULT_GPU
    as_json: bool = False


def main(options: Options) -> int:
    """Print the estimate; 0 when it fits, 1 when not, 2 when the input is wrong."""
    try:
        text, fits = answer(options)
    except InputError as error:
        for line in error.lines:
            sys.stderr.write(f"finetuning: {line}\n")
        return 2
    sys.stdout.write(text + "\n")
    return 0 if fits else 1


def answer(options: Options) -> tuple[str, bool]:
    """The page and whether it fits; raises InputError."""
    found = manifest.load(options.manifest, options.name, to_create=True)
    shape = _shape(found, options)
    job = of_job.settings(found.job, GPU_RESOURCE)
    try:
        gpu = gpus.of_resource(of_job.device(found.job, GPU_RESOURCE), options.gpu)
    except gpus.UnknownGpuError as error:
        raise InputError(f"--gpu {error}") from None
    verdict = judge(shape, job, gpu)
    name, model = found.job.metadata.name, found.job.spec.base_model.model_id
    if options.as_json:
        data = page.in_json(name, model, shape.parameters, verdict)
        return json.dumps(data, indent=2), verdict.fits
    return page.in_text(name, model, shape.parameters, job, verdict), verdict.fits


def _shape(found: manifest.Manifest, options: Options) -> Shape:
    """From a folder where there is one, else by the model's name."""
    model_id = found.job.spec.base_model.model_id
    folder = options.model or _claimed(found.job, options.claims)
    if folder is None:
        shape = known.shape_of(model_id)
        if shape is None:
            raise InputError(
                f"{found.at('spec', 'baseModel', 'modelId')}: the shape of {model_id} is not known "
                "here; give --model FOLDER with its config.json"
            )
        return shape
    try:
        return files.shape_in(folder)
    except UnknownShapeError as error:
        raise InputError(f"{error}; give --model FOLDER with the model") from None


def _claimed(job: FineTuningJob, claims: Mapping[str, Path]) -> Path | None:
    """The folder of pvc://<claim>/<path> on this machine, as for `finetuning run`."""
    source = job.spec.base_model.source
    if source is None:
        return None
    claim, _, path = source.removeprefix("pvc://").partition("/")
    folder = claims.get(claim, CLAIMS / claim) / path
    known_by_name = known.shape_of(job.spec.base_model.model_id) is not None
    return None if known_by_name and not folder.exists() else folder
