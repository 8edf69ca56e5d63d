"""Pairs of answers: how rows are read, which tokens count, what the settings change."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import PAIRS, write_rows
from tests.unit.trainer.test_resume import arguments, history, losses
from tests.unit.trainer.test_shapes import ANSWER, ASK, accepted, rows

from finetuning.api.hyperparameters import Objective
from finetuning.artifacts.failures import DatasetError
from finetuning.base.app import main
from finetuning.dataset.encode import encode
from finetuning.dataset.shapes import Chat, Completion, Preference

OTHER = {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("row", "sample"),
    [
        (
            {"prompt": "Why? ", "chosen": "Because.", "rejected": "No."},
            Preference(Completion("Why? ", "Because."), Completion("Why? ", "No.")),
        ),
        (
            {"prompt": [ASK], "chosen": [ANSWER], "rejected": [OTHER]},
            Preference(Chat([ASK, ANSWER]), Chat([ASK, OTHER])),
        ),
        (
            {
                name: json.dumps([each])
                for name, each in (("prompt", ASK), ("chosen", ANSWER), ("rejected", OTHER))
            },
            Preference(Chat([ASK, ANSWER]), Chat([ASK, OTHER])),
        ),
        (
            {"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
            Preference(Chat([ASK, ANSWER]), Chat([ASK, OTHER])),
        ),
        (
            {"prompt": ASK["content"], "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
            Preference(Chat([ASK, ANSWER]), Chat([ASK, OTHER])),
        ),
    ],
)
def test_pairs_of_text_and_of_messages_are_read(row: dict[str, Any], sample: Preference) -> None:
    assert accepted(rows(row), Objective.DPO) == [sample]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "chosen": "b"}, "known shapes for --objective dpo: prompt, chosen, rej"),
        ({"prompt": "a", "completion": "b"}, "columns found (completion, prompt)"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "nothing to prefer"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "`rejected` is missing or empty"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "`prompt` is missing or empty"),
        ({"prompt": [ASK], "chosen": "b", "rejected": [OTHER]}, "`chosen` must be a list of one"),
        (
            {"prompt": [ASK, ANSWER], "chosen": [OTHER], "rejected": [ASK]},
            "`rejected` must be a message",
        ),
        ({"prompt": "a", "chosen": ["b"], "rejected": "c"}, "`chosen` must be text, found list"),
        ({"chosen": [ASK, ANSWER], "rejected": [OTHER]}, "must be the same conversation up to"),
        ({"chosen": [ANSWER], "rejected": [OTHER]}, "must be the same conversation up to"),
        (
            {"chosen": [ASK, ANSWER], "rejected": [ASK, ASK]},
            "`prompt and rejected` has no assistant's",
        ),
        (
            {"prompt": "Other?", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
            "`prompt` is in none of the messages",
        ),
        ({"chosen": ["x", "y"], "rejected": ["x", "z"]}, "message 1: expected {role, content}"),
        ({"prompt": "a", "chosen": {"x": 1}, "rejected": 3}, "`chosen` must be text, found dict"),
    ],
)
def test_bad_pairs_are_refused_by_their_column(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        accepted(rows(row), Objective.DPO)
    assert words in str(caught.value)
    assert "line 1" in str(caught.value)


def test_pairs_are_not_taken_for_answers_to_learn() -> None:
    pair = rows({"prompt": "a", "chosen": "b", "rejected": "c"})
    words = "known shapes for --objective sft: .*; for pairs set --objective to dpo"
    with pytest.raises(DatasetError, match=words):
        accepted(pair)


@pytest.mark.training
def test_only_the_last_answer_counts(tokenizer: Any) -> None:
    earlier = [ASK, ANSWER, ASK]
    data = rows({"prompt": earlier, "chosen": [ANSWER], "rejected": [OTHER]})
    (pair,) = encode(accepted(data, Objective.DPO), data, tokenizer, 999).rows
    trained = [tokenizer.decode(each.ids[each.trained]) for each in pair]
    assert trained == ["Because.<|im_end|>", "No.<|im_end|>"]


@pytest.mark.training
def test_a_pair_whose_answer_is_cut_off_is_dropped_whole(tokenizer: Any) -> None:
    long = {"prompt": "Why? ", "chosen": "x", "rejected": "y"}
    data = rows(long, {"prompt": "Why? " * 50, "chosen": "x", "rejected": "y"})
    encoded = encode(accepted(data, Objective.DPO), data, tokenizer, 20)
    assert [len(row) for row in encoded.rows] == [2]
    assert (encoded.cut, encoded.dropped) == (2, 2)


@pytest.mark.training
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_model_learns_to_prefer(
    method: str, tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    command = arguments(tiny_model, pairs_file, tmp_path / "out", "--method", method)
    rate = ("--learning-rate", "1e-3", "--max-steps", "8", "--eval-split", "0.2")
    assert main([*command, "--objective", "dpo", *rate]) == 0
    found = losses(tmp_path / "out")
    # Before the first update both models are the same, whatever the dropout of the adapter.
    assert found[0] == pytest.approx(math.log(2), abs=1e-6)
    assert history(tmp_path / "out")[-1]["eval_loss"] < math.log(2) - 0.01


@pytest.mark.training
def test_beta_and_the_answers_count(tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    steps = ("--objective", "dpo", "--max-steps", "4", "--learning-rate", "1e-3")
    seen = []
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in PAIRS]
    other = write_rows(tmp_path / "swapped.jsonl", swapped)
    for name, data, more in (
        ("a", pairs_file, ()),
        ("b", pairs_file, ("--beta", "0.5")),
        ("c", other, ()),
        ("d", pairs_file, ("--beta", "0.1")),
    ):
        assert main(arguments(tiny_model, data, tmp_path / name, *steps, *more)) == 0
        seen.append(losses(tmp_path / name)[1:])
    assert seen[0] != seen[1]
    assert seen[0] != seen[2]
    assert seen[0] == seen[3]
