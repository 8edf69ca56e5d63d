"""Whether the API server would accept the manifest; a mistake is told by its option."""

from collections.abc import Mapping

import yaml
from pydantic import ValidationError

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.scaffold.answers import Answers
from finetuning.scaffold.page import page

OPTIONS: Mapping[str, str] = {
    "metadata.name": "name",
    "metadata.namespace": "namespace",
    "spec.baseModel.modelId": "model",
    "spec.baseModel.source": "source",
    "spec.baseModel.tokenSecretRef.name": "token-secret",
    "spec.baseModel.tokenSecretRef.key": "token-secret",
    "spec.method": "method",
    "spec.dataset.source": "data",
    "spec.dataset.columns": "columns",
    "spec.dataset.evalSplit": "eval-split",
    "spec.hyperparameters.objective": "objective",
    "spec.hyperparameters.learningRate": "learning-rate",
    "spec.hyperparameters.epochs": "epochs",
    "spec.hyperparameters.batchSize": "batch-size",
    "spec.hyperparameters.maxSeqLength": "max-seq-length",
    "spec.output.storage.claimName": "claim",
    "spec.output.storage.size": "size",
    "spec.output.storage": "size",
}
"""Field of the manifest -> option of the command."""
RULE = ""


def problems(answers: Answers) -> dict[str, str]:
    """Option -> what is wrong with it; what concerns several fields stands under RULE."""
    try:
        FineTuningJob.from_body(yaml.safe_load(page(answers)))
    except ValidationError as error:
        return dict(_told(each["loc"], each["input"], each["msg"]) for each in error.errors())
    return {}


def _told(loc: tuple[int | str, ...], value: object, message: str) -> tuple[str, str]:
    words = message.removeprefix("Value error, ").removeprefix("Input ")
    for length in range(len(loc), 0, -1):
        # The members of a union add a part of their own at the end.
        if option := OPTIONS.get(".".join(map(str, loc[:length]))):
            said = value.get(option, value) if isinstance(value, Mapping) else value
            return option, f"{said!r}: {words}"
    return RULE, f"{'.'.join(map(str, loc))}: {words}"
