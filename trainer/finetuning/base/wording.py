"""A setting has two names: a flag on the command line, a field in a FineTuningJob."""

import re
from collections.abc import Mapping

from finetuning.api.hyperparameters import Hyperparameters, LoraConfig
from finetuning.api.run_config import ENV

_FIELDS = {
    "--dataset-columns": "spec.dataset.columns",
    "--dataset-format": "spec.dataset.format",
    "--dataset-path": "spec.dataset.source",
    "--eval-source": "spec.dataset.evalSource",
    "--eval-split": "spec.dataset.evalSplit",
    "--method": "spec.method",
    "--model-id": "spec.baseModel.modelId",
    "--model-path": "spec.baseModel.source",
    "--output-dir": "spec.output.storage",
    "--overwrite-output-dir": "an empty output claim",
    "--revision": "spec.baseModel.revision",
}


def in_the_users_words(text: str, environ: Mapping[str, str]) -> str:
    """Name fields of the resource where the configuration came from one, flags elsewhere."""
    if not environ.get(ENV):
        return text
    return re.sub(r"--[a-z0-9]+(?:-[a-z0-9]+)*", lambda found: _field(found[0]), text)


def _field(flag: str) -> str:
    name = flag.removeprefix("--").replace("-", "_")
    if name in Hyperparameters.model_fields:
        return f"spec.hyperparameters.{Hyperparameters.model_fields[name].alias}"
    if name in LoraConfig.model_fields:
        return f"spec.loraConfig.{LoraConfig.model_fields[name].alias}"
    return _FIELDS.get(flag, flag)
