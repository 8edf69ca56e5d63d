"""Errors name what the reader wrote: flags on a command line, fields in a FineTuningJob."""

import pytest

from finetuning.api.run_config import ENV
from finetuning.base.wording import in_the_users_words


@pytest.mark.parametrize(
    ("flag", "field"),
    [
        ("--dataset-path", "spec.dataset.source"),
        ("--model-path", "spec.baseModel.source"),
        ("--eval-steps", "spec.hyperparameters.evalSteps"),
        ("--target-modules", "spec.loraConfig.targetModules"),
        ("--output-dir", "spec.output.storage"),
        ("--no-such-flag", "--no-such-flag"),
    ],
)
def test_a_flag_is_a_field_for_whoever_wrote_a_resource(flag: str, field: str) -> None:
    text = f"{flag} /data/x: no such file; give another {flag}"
    assert in_the_users_words(text, {}) == text
    assert in_the_users_words(text, {ENV: "{}"}) == text.replace(flag, field)


def test_dashes_that_are_no_flag_stay() -> None:
    assert in_the_users_words("a -- b --- c", {ENV: "{}"}) == "a -- b --- c"
