"""The policy: what it accepts, and that only the checks that it names must pass."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.models import CheckResult, ValidationResult
from finetuning.monitoring.validators.settings import CONFIG_ENV, Match, ValidationSettings
from finetuning.monitoring.validators.validator import FineTuningValidator

POLICY: dict[str, Any] = {
    "requireAll": True,
    "baseModelPath": None,
    "checks": ["training_loss", "aim_profile"],
    "maxLoss": 5.0,
    "minLossDecrease": 0.1,
    "maxOverfit": None,
    "maxNewTokens": 512,
    "prompts": [{"prompt": "Where?", "expectedKeywords": ["Lima"], "match": "all"}],
    "heldOut": {"source": "/data/rows.jsonl", "maxRows": 8},
    "baseline": {"compare": True, "maxPerplexityIncrease": 0.05},
    "timeoutSeconds": 600,
    "modelId": "org/base",
    "method": "lora",
}


def read(config: Any) -> ValidationSettings:
    return ValidationSettings.from_environment({CONFIG_ENV: json.dumps(config)})


def test_the_operators_policy_is_read_whole() -> None:
    found = read(POLICY)
    assert found.checks == ["training_loss", "aim_profile"]
    assert found.questions[0].match is Match.ALL
    assert (found.held_out.source, found.held_out.max_rows) == ("/data/rows.jsonl", 8)
    assert found.baseline.max_perplexity_increase == 0.05
    assert (found.min_loss_decrease, found.max_overfit, found.timeout_seconds) == (0.1, None, 600)
    assert found.max_new_tokens == 512


GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "children"
CONFIG = re.compile(rf"name: {CONFIG_ENV}\n\s*value: '(.*)'")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_that_the_operator_writes_is_known(path: Path) -> None:
    for config in CONFIG.findall(path.read_text()):
        text = config.replace("''", "'")
        assert ValidationSettings.from_environment({CONFIG_ENV: text}).require_all


def test_parts_that_are_null_have_their_defaults() -> None:
    assert read({"heldOut": None, "baseline": None}) == ValidationSettings()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"checks": []}, "checks"),
        ({"checks": ["speed"]}, "checks.0"),
        ({"maxOverfit": -1}, "maxOverfit"),
        ({"minLossDecrease": 1}, "minLossDecrease"),
        ({"prompts": [{"prompt": "x", "match": "some"}]}, "prompts.0.match"),
        ({"heldOut": {"maxRows": 0}}, "heldOut.maxRows"),
        ({"baseline": {"maxPerplexityIncrease": "much"}}, "baseline.maxPerplexityIncrease"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"maxNewTokens": 0}, "maxNewTokens"),
        ({"maxLos": 5}, "maxLos"),
        ({"prompts": [{"prompt": "x", "expectedKeyword": ["y"]}]}, "prompts.0.expectedKeyword"),
        ({"maxNewTokens": 4097}, "maxNewTokens"),
    ],
)
def test_a_wrong_value_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f": {named}: "):
        read(config)


def test_a_check_that_is_not_named_is_made_and_only_reported(tmp_path: Path) -> None:
    (tmp_path / "aim_profile.json").write_text(
        json.dumps(
            {
                "model_id": "a",
                "base_model_id": "b",
                "fine_tuning_method": "lora",
                "memory_gb": 1,
            }
        )
    )
    settings = ValidationSettings(checks=["aim_profile"])
    results = FineTuningValidator(settings).run_all_checks({"results": {}}, tmp_path)
    made = {found.name: (found.required, found.result) for found in results}
    assert made == {
        "training_loss": (False, CheckResult.FAIL),
        "checkpoint_integrity": (False, CheckResult.FAIL),
        "aim_profile": (True, CheckResult.PASS),
    }
    verdict = ValidationResult(checks=list(results))
    assert verdict.ok
    report = FineTuningValidator(settings).generate_report(results)
    assert report.endswith("Summary: 1/1 checks passed")
    assert report.count("(only reported: it does not count)") == 2
