"""data_report.json: what a run found in its data, before it loaded the model."""

from pydantic import BaseModel, ConfigDict, Field

from finetuning.artifacts.models import Count

LISTED = 100
"""Bad rows that the report lists; the count is of all."""


class BadRowEntry(BaseModel):
    """A row that is not trained on."""

    model_config = ConfigDict(extra="ignore")

    line: Count = Field(description="Line of a text file, number of the row elsewhere.")
    problem: str = Field(max_length=1000)


class Lengths(BaseModel):
    """Tokens of an example before any is cut to maxSeqLength; percentiles by nearest rank."""

    model_config = ConfigDict(extra="ignore")

    median: Count
    p95: Count
    max: Count


class SourceReport(BaseModel):
    """What was found in one source, in snake_case like the other files about a run."""

    model_config = ConfigDict(extra="ignore")

    source: str = Field(max_length=4096)
    unit: str = Field(max_length=16, description="What `line` counts: line or row.")
    rows: Count = Field(description="All that were read, the bad ones among them.")
    bad_rows: Count
    duplicate_rows: Count = Field(description="Good rows that say the same as an earlier one.")
    empty_rows: Count = Field(default=0, description="Bad rows with nothing in any column.")
    bad: list[BadRowEntry] = Field(default_factory=list, max_length=LISTED)


class EvaluationReport(SourceReport):
    """The rows to evaluate on, where they have a source of their own."""

    trained_rows: Count = Field(
        default=0, description="Good rows that say the same as one that is trained on."
    )


class DataReport(SourceReport):
    """The rows to train on, and what the tokenizer made of all."""

    evaluation: EvaluationReport | None = None
    max_seq_length: Count | None = None
    model_places: Count | None = Field(
        default=None,
        description="Tokens that the model has positions for, where it keeps them in a table; "
        "absent for models that compute them, which have no last one.",
    )
    train_examples: Count | None = None
    eval_examples: Count | None = None
    cut_examples: Count | None = Field(
        default=None, description="Longer than maxSeqLength, or than the model's table."
    )
    dropped_examples: Count | None = Field(
        default=None, description="Left out, since no answer was left after the cut."
    )
    tokens: Count | None = None
    trained_tokens: Count | None = Field(
        default=None, description="Tokens whose prediction counts: the answers."
    )
    lengths: Lengths | None = None
