"""What a job says about its rows; the trainer is told the same."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from finetuning.api.base import ApiModel, Rule


class DatasetFormat(StrEnum):
    """How the rows are stored."""

    AUTO = "auto"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    HF = "hf"


class OnBadRows(StrEnum):
    """What becomes of a run whose data has rows that cannot be trained on."""

    FAIL = "Fail"
    SKIP = "Skip"


AT_MOST_HALF = Rule(
    "self <= 0.5",
    lambda share: share <= 0.5,  # noqa: PLR2004
    "may be at most 0.5, half of the rows, since the others are trained on",
)
"""A rule and no `maximum`, which the API server prints as 0 when it is asked for a whole number."""

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class DatasetColumns(ApiModel):
    """Which column of the data set holds what; a column that is not named here is not read."""

    messages: ColumnName | None = Field(
        default=None, description="Column with a conversation: a list of {role, content}."
    )
    tools: ColumnName | None = Field(
        default=None, description="Column with the tools that the conversation may call."
    )
    instruction: ColumnName | None = Field(default=None, description="Column with a task.")
    input: ColumnName | None = Field(
        default=None, description="Column with what the task is about; may be empty in a row."
    )
    output: ColumnName | None = Field(
        default=None, description="Column with the answer to the instruction."
    )
    system: ColumnName | None = Field(
        default=None, description="Column with the system prompt of an instruction."
    )
    prompt: ColumnName | None = Field(
        default=None, description="Column with a prompt, or with the question of a preference pair."
    )
    completion: ColumnName | None = Field(
        default=None, description="Column with what the model should answer to the prompt."
    )
    text: ColumnName | None = Field(
        default=None, description="Column with running text, all of which is trained."
    )
    chosen: ColumnName | None = Field(
        default=None, description="Column with the better answer, for objective dpo."
    )
    rejected: ColumnName | None = Field(
        default=None, description="Column with the worse answer, for objective dpo."
    )

    @property
    def named(self) -> dict[str, str]:
        """The trainer's name for a column and the data set's, for those that were given."""
        return self.model_dump(exclude_none=True)


class RowOptions(ApiModel):
    """How the rows are read and which are used."""

    format: DatasetFormat = Field(
        default=DatasetFormat.AUTO,
        description="How the rows are stored; `auto` goes by the file's name.",
    )
    columns: DatasetColumns | None = Field(
        default=None,
        description="Which column of the data set holds what, where its columns have other names "
        "than the trainer knows: prompt: question, completion: answer.",
    )
    on_bad_rows: OnBadRows = Field(
        default=OnBadRows.FAIL,
        description="Fail ends the job before the model is loaded when a row cannot be trained "
        "on, and names it; Skip trains on the others. Either way data_report.json lists them.",
    )
    max_bad_row_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The largest share of bad rows that onBadRows: Skip bears; with more the job "
        "fails.",
    )
    eval_split: Annotated[float, AT_MOST_HALF] = Field(
        default=0.0,
        ge=0,
        description="Share of the rows held out for evaluation, chosen by hyperparameters.seed; "
        "0.1 is a good start, 0 means no evaluation.",
    )


def evaluates(dataset: Any) -> bool:
    """Whether there are rows to evaluate on."""
    return dataset.eval_split > 0 or dataset.eval_source is not None


EVALUATES = "(self.dataset.evalSplit > 0.0 || has(self.dataset.evalSource))"
"""The same in CEL, seen from the spec."""

ROWS_TO_EVALUATE_ON = (
    "needs rows to evaluate on: set evalSplit of the dataset, for example to 0.1, or evalSource"
)

EVALUATION_RULES = (
    Rule(
        "!has(self.evalSource) || self.evalSplit == 0.0",
        lambda dataset: dataset.eval_source is None or not dataset.eval_split,
        "evalSource has all rows to evaluate on, so evalSplit would hold out others: drop one",
        field="evalSplit",
    ),
)
"""Of a FineTuningJob's data and of the trainer's."""
