"""What is checked after training, how strictly, and what a failed check means for the job."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetuning.api.base import ApiModel, Rule
from finetuning.api.resources import ResourceSpec
from finetuning.api.text import HeldOutSource, TaskFolder, TaskName


class CheckName(StrEnum):
    """The checks, in the order of the report."""

    TRAINING_LOSS = "training_loss"
    MODEL_OUTPUT = "model_output"
    CHECKPOINT_INTEGRITY = "checkpoint_integrity"
    AIM_PROFILE = "aim_profile"


class KeywordMatch(StrEnum):
    """How many of the expected words an answer must hold."""

    ANY = "any"
    ALL = "all"


class OnFailure(StrEnum):
    """What a model that is not validated means for the job's phase."""

    REPORT = "Report"
    FAIL = "Fail"


class ValidationPrompt(ApiModel):
    """A question for the tuned model and what a good answer holds."""

    prompt: str = Field(min_length=1, max_length=2000, description="Sent as one user message.")
    expected_keywords: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list,
        max_length=16,
        description="Words that must stand in the answer, in any case; see match.",
    )
    match: KeywordMatch = Field(
        default=KeywordMatch.ANY,
        description="any: one of expectedKeywords is enough; all: each of them must be there.",
    )


class HeldOutSpec(ApiModel):
    """Rows that the training has not seen."""

    source: HeldOutSource = Field(
        description="One of: a file path inside the pod (/workspace/templates/<key> is a key of "
        "the ConfigMap finetuning-templates), configmap:<name>:<key> or pvc://<claim>/<path>; "
        "mounted read-only. Rows as in dataset.source.",
    )
    max_rows: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Rows to read, from the first: more rows cost more time and narrow the error.",
    )


class BaselineSpec(ApiModel):
    """The comparison with the base model."""

    RULES: ClassVar = (
        Rule(
            "!has(self.maxPerplexityIncrease) || self.compare",
            lambda baseline: baseline.max_perplexity_increase is None or baseline.compare,
            "maxPerplexityIncrease compares with the base model: set compare to true, or drop "
            "maxPerplexityIncrease",
            field="maxPerplexityIncrease",
        ),
    )

    compare: bool = Field(
        default=True,
        description="Require that the tuned model differs from the base model, and report both "
        "perplexities where heldOut is given.",
    )
    max_perplexity_increase: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Share by which the perplexity on heldOut may lie above the base model's: 0.1 "
        "allows a tenth more. When absent, 0.5, and only what is beyond 3 standard errors fails; "
        "1000 lets nearly everything pass with a warning.",
    )


class BenchmarksSpec(ApiModel):
    """Tasks of lm-evaluation-harness, run on the tuned model and on its base."""

    tasks: Annotated[
        list[TaskName],
        Rule(
            "self.all(name, self.exists_one(other, other == name))",
            lambda names: len(set(names)) == len(names),
            "must name each task once",
        ),
    ] = Field(
        min_length=1,
        max_length=8,
        description="Names of tasks: those in includePath, and those of the library, whose data "
        "come from the Hub.",
    )
    include_path: TaskFolder | None = Field(
        default=None,
        description="Folder with tasks of your own, *.yaml, and their rows: a path inside the pod, "
        "configmap:<name> or pvc://<claim>/<folder>; mounted read-only. Code in it is refused.",
    )
    limit: int = Field(
        default=200, ge=1, le=100_000, description="Questions of each task, from the first."
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, le=64, description="Solved examples before each question; the task's "
        "own number when absent.",
    )  # fmt: skip
    apply_chat_template: bool = Field(
        default=False, description="Ask as one user message, by the model's chat template."
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Share of the base model's score by which a score that is clearly worse (a "
        "z-test at 5 % over all tasks) may be so: 0.05 allows a twentieth. Reported only when "
        "absent.",
    )


TEXTS_LIMIT = 100_000
"""Bytes of all prompts and their words: they travel in one environment variable."""


def _texts(validation: "ValidationSpec") -> int:
    texts = (text for each in validation.prompts for text in (each.prompt, *each.expected_keywords))
    return sum(len(text.encode()) for text in texts)


def _asks_the_model(validation: "ValidationSpec") -> bool:
    return CheckName.MODEL_OUTPUT in validation.checks


_ASKED = "!has(self.checks) || 'model_output' in self.checks"


class ValidationSpec(ApiModel):
    """What is checked after training; the verdict lands in status.validation."""

    RULES: ClassVar = (
        Rule(
            f"!has(self.prompts) || size(self.prompts) == 0 || {_ASKED}",
            lambda validation: not validation.prompts or _asks_the_model(validation),
            "prompts are asked by the check model_output: add it to checks, or drop prompts",
            field="prompts",
        ),
        Rule(
            "!has(self.prompts) || self.prompts.map(each, size(bytes(each.prompt)) + "
            "(has(each.expectedKeywords) ? each.expectedKeywords.map(word, size(bytes(word)))"
            f".sum() : 0)).sum() <= {TEXTS_LIMIT}",
            lambda validation: _texts(validation) <= TEXTS_LIMIT,
            f"prompts and their expectedKeywords may have {TEXTS_LIMIT} bytes altogether: ask "
            "fewer, or shorter",
            field="prompts",
        ),
        Rule(
            f"!has(self.heldOut) || {_ASKED}",
            lambda validation: validation.held_out is None or _asks_the_model(validation),
            "heldOut is read by the check model_output: add it to checks, or drop heldOut",
            field="heldOut",
        ),
        Rule(
            # The API server tries this rule on the default of the section, which is empty.
            "!has(self.baseline) || !has(self.baseline.maxPerplexityIncrease) || has(self.heldOut)",
            lambda validation: (
                validation.baseline.max_perplexity_increase is None
                or validation.held_out is not None
            ),
            "maxPerplexityIncrease is measured on rows held out: set heldOut.source, or drop "
            "maxPerplexityIncrease",
            field="baseline.maxPerplexityIncrease",
        ),
        Rule(
            f"!has(self.benchmarks) || {_ASKED}",
            lambda validation: validation.benchmarks is None or _asks_the_model(validation),
            "benchmarks are run by the check model_output: add it to checks, or drop benchmarks",
            field="benchmarks",
        ),
        Rule(
            "!has(self.benchmarks) || !has(self.benchmarks.maxDrop) || !has(self.baseline) || "
            "!has(self.baseline.compare) || self.baseline.compare",
            lambda validation: (
                validation.benchmarks is None
                or validation.benchmarks.max_drop is None
                or validation.baseline.compare
            ),
            "maxDrop compares with the base model: set baseline.compare to true, or drop maxDrop",
            field="benchmarks.maxDrop",
        ),
    )

    enabled: bool = Field(default=True, description="Run the validation Job after training.")
    checks: Annotated[
        list[CheckName],
        Rule(
            "self.all(name, self.exists_one(other, other == name))",
            lambda names: len(set(names)) == len(names),
            "must name each check once",
        ),
    ] = Field(
        default_factory=lambda: list(CheckName),
        min_length=1,
        max_length=len(CheckName),
        description="The checks that must pass, of training_loss, model_output, "
        "checkpoint_integrity and aim_profile: all four when absent. To run none, set enabled to "
        "false.",
    )
    max_loss: float = Field(
        default=10.0, gt=0, le=1000, description="The final training loss must be below this."
    )
    min_loss_decrease: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share by which the training loss must fall from its beginning to its end: "
        "0.1 asks for a tenth less.",
    )
    max_overfit: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Share by which the last evaluation loss may lie above the lowest one: 0.1 "
        "allows a tenth more. Needs dataset.evalSplit or evalSource; not judged when absent.",
    )
    prompts: list[ValidationPrompt] = Field(
        default_factory=list,
        max_length=32,
        description="Questions for the tuned model; a general one is asked when empty.",
    )
    max_new_tokens: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="Longest answer to a prompt, in tokens. Where the base model ends its own "
        "sooner, the tuned one has 1024.",
    )
    held_out: HeldOutSpec | None = Field(
        default=None,
        description="Rows that the training has not seen, on which the tuned model and its base "
        "are compared.",
    )
    baseline: BaselineSpec = Field(
        default_factory=BaselineSpec, description="The comparison with the base model."
    )
    benchmarks: BenchmarksSpec | None = Field(
        default=None,
        description="Tasks of lm-evaluation-harness, as part of the check model_output. The "
        "trainer's image has the library only when built with it.",
    )
    on_failure: OnFailure = Field(
        default=OnFailure.REPORT,
        description="Report: the phase is Succeeded once the model is trained, whatever the "
        "verdict. Fail: it is Succeeded only when the checks passed, until then Running, and "
        "Failed with reason ValidationFailed or ValidatorError otherwise. The model is kept in "
        "any case.",
    )
    resources: ResourceSpec | None = Field(
        default=None,
        description="Resources of the validation pod; those of the training pod when absent.",
    )
    timeout_seconds: int = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Longest time for the whole validation in seconds, with its wait for a node "
        "and its further tries; then the verdict is Error.",
    )
