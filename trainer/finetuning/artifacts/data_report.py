"""data_report.json: what a run found in its data, before it loaded the model."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, computed_field

from finetuning.artifacts.models import Count

LISTED = 100
"""Bad rows that the report lists; the count is of all."""

_NEARLY_ALL = 0.9
"""Of the examples: what is left teaches too little of how an answer ends."""


class RowShape(StrEnum):
    """What a row is to a model, whichever columns say so."""

    CONVERSATIONS = "conversations"
    COMPLETIONS = "completions"
    """A prompt in raw text, and how it goes on."""
    TEXTS = "texts"
    """Plain texts without a prompt: nothing tells a question from its answer."""
    PREFERENCES = "preferences"


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
    shape: RowShape | None = None
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
    endless_examples: Count | None = Field(
        default=None,
        description="Whose last trained token is plain text, before any cut; absent for none.",
    )
    joined_examples: Count | None = Field(
        default=None,
        description="With an answer whose first token begins in the prompt, and so is not "
        "trained; absent for none.",
    )
    tokens: Count | None = None
    trained_tokens: Count | None = Field(
        default=None, description="Tokens whose prediction counts: the answers."
    )
    lengths: Lengths | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorator of a property.
    @property
    def ends_cut(self) -> str | None:
        """What follows where nearly all examples were cut, and the remedy; else None."""
        if not self._nearly_all(self.cut_examples):
            return None
        return (
            f"{self.cut_examples} of {self._examples} examples are longer than {self._limit} "
            "tokens and were cut, so that hardly any end is trained, and the model may not learn "
            f"to stop; {self._remedy}"
        )

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorator of a property.
    @property
    def ends_missing(self) -> str | None:
        """The same where the answers have no token that ends them; else None."""
        if not self._nearly_all(self.endless_examples):
            return None
        return (
            f"{self.endless_examples} of {self._examples} examples end in plain text, without a "
            "token that ends a turn, so the model does not learn to stop; have the model's "
            "chat template end the assistant's turn with the end of sequence, which is eos_token "
            "in its tokenizer_config.json"
        )

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorator of a property.
    @property
    def beginnings_joined(self) -> str | None:
        """What is not trained where prompts end in the white space of a token; else None."""
        if not self.joined_examples:
            return None
        return (
            f"in {self.joined_examples} of {self._examples} examples the answer's first token "
            "begins in the prompt and is not trained, so the model does not learn how those "
            "answers begin; move the white space at the end of the prompts, or of the chat "
            "template's, to the beginning of the answers"
        )

    @property
    def _examples(self) -> int:
        counts = (self.train_examples, self.eval_examples, self.dropped_examples)
        return sum(n or 0 for n in counts)

    def _nearly_all(self, count: int | None) -> bool:
        return bool(count) and (count or 0) >= _NEARLY_ALL * self._examples

    @property
    def _limit(self) -> int:
        return min(n for n in (self.max_seq_length, self.model_places, 1 << 31) if n)

    @property
    def _remedy(self) -> str:
        longest = self.lengths.p95 if self.lengths else 0
        if self.model_places is not None and longest > self.model_places:
            most = f"{self.model_places} tokens, all that the model has places for"
            return f"divide the rows into ones of at most {most}"
        wish = f" to {longest}, which 95% of them fit into" if longest else ""
        return f"raise maxSeqLength (--max-seq-length){wish}, or divide the rows into shorter ones"
