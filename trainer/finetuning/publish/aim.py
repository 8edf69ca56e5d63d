"""A runtime profile for AMD's AIM containers, beside the model that it is for."""

from typing import Any

import yaml

from finetuning.publish.arguments import Serving
from finetuning.publish.errors import UsageError
from finetuning.publish.facts import Facts

FOLDER = "aim"
METRIC = "latency"
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def profile(serving: Serving, facts: Facts) -> tuple[str, str]:
    """Name and text of the profile, as AIM's own are named and written.

    Raises:
        UsageError: the run does not say in which precision its weights are.
    """
    precision = str(facts.profile.get("precision"))
    if precision not in _DTYPES:
        raise UsageError(
            f"aim_profile.json: precision {precision!r} is none of {', '.join(_DTYPES)}; without "
            "it there is no AIM profile: drop --aim-gpu-model"
        )
    found: dict[str, Any] = {
        "aim_id": serving.aim_id,
        "model_id": serving.model_id,
        "metadata": {
            "engine": "vllm",
            "gpu": serving.gpu_model,
            "precision": precision,
            "gpu_count": serving.gpus,
            "metric": METRIC,
            "manual_selection_only": False,
            # Nobody has tuned it for this model.
            "type": "unoptimized",
        },
        "engine_args": {
            "dtype": _DTYPES[precision],
            "tensor-parallel-size": serving.gpus,
        },
        "env_vars": {"VLLM_DO_NOT_TRACK": "1"},
    }
    name = f"vllm-{serving.gpu_model.lower()}-{precision}-tp{serving.gpus}-{METRIC}.yaml"
    return name, yaml.safe_dump(found, sort_keys=False)
