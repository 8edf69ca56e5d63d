"""What a first manifest needs to know, and the defaults that suit the rest of the answers."""

import re
from dataclasses import dataclass

from finetuning.api.hyperparameters import Method, Objective
from finetuning.api.v1alpha1 import CHILD_STEM_MAX_LENGTH

EVAL_SPLIT = 0.1
EPOCHS, BATCH_SIZE, MAX_SEQ_LENGTH = 3, 4, 2048
_RATES = {Method.LORA: 2e-4, Method.FULL: 2e-5}
_DPO_RATE = 5e-6


@dataclass(frozen=True, slots=True)
class Answers:
    """Empty texts and None stand for what nobody has said."""

    model: str = ""
    data: str = ""
    name: str = ""
    namespace: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    """The trainer's name for a column, and the data set's."""
    method: str = Method.LORA.value
    objective: str = Objective.SFT.value
    source: str = ""
    token_secret: tuple[str, str] | None = None
    eval_split: float = EVAL_SPLIT
    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    max_seq_length: int = MAX_SEQ_LENGTH
    learning_rate: float | None = None
    claim: str = ""
    size: str = ""

    @property
    def rate(self) -> float:
        """The peak learning rate that suits method and objective, unless one was named."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.objective == Objective.DPO:
            return _DPO_RATE
        return _RATES[Method.FULL if self.method == Method.FULL else Method.LORA]

    @property
    def job(self) -> str:
        """The name, or one made from model and method."""
        return self.name or suggested_name(self.model, self.method)


def suggested_name(model: str, method: str) -> str:
    """`Qwen/Qwen2.5-7B-Instruct`, lora -> `qwen2-5-7b-instruct-lora`."""
    base = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower()).strip("-")
    room = CHILD_STEM_MAX_LENGTH - len(method) - 1
    letter = base if base[:1].isalpha() else f"job-{base}"
    return f"{letter[:room].strip('-')}-{method}"
