"""model_output: the rules on answers, what is planned, and real models in real processes."""

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import model_output
from finetuning.monitoring.validators.checks.answers import has_keywords, loop_of
from finetuning.monitoring.validators.checks.held_out import read_rows
from finetuning.monitoring.validators.checks.model_output import Facts
from finetuning.monitoring.validators.checks.probe import (
    Answer,
    ProbeFailure,
    ProbeReport,
    ProbeRequest,
    RowLoss,
)
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, first_finding, shortened
from finetuning.monitoring.validators.settings import (
    DEFAULT_PROMPT,
    HeldOut,
    Match,
    Question,
    ValidationSettings,
)
from finetuning.monitoring.validators.subject import Subject, subject

RunOf = Callable[[str], Path]
QUESTION = "What is the capital of Peru ?"


def subject_of(output: Path, **settings: Any) -> Subject:
    return subject(
        output / "training_info.json", output, None, None, ValidationSettings(**settings)
    )


def asking(*keywords: str) -> list[Question]:
    return [Question(prompt=QUESTION, expected_keywords=list(keywords))]


def judged(
    answer: Answer | None = None, keywords: tuple[str, ...] = (), **report: Any
) -> Finding | None:
    answers = [answer or Answer(text="It is Lima.", tokens=[1, 2, 3], finite=True)]
    given = {"answers": answers, "largest_logit_difference": 1.5, **report}
    return first_finding(model_output.RULES, Facts(ProbeReport(**given), asking(*keywords)))


def test_a_good_answer_breaks_no_rule() -> None:
    assert judged() is None
    assert judged(keywords=("Cusco", "lima")) is None
    assert judged(largest_logit_difference=None) is None


@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        (judged(Answer(text="", tokens=[1], finite=True)), "AnswerEmpty"),
        (judged(Answer(text="It", tokens=[1], finite=False)), "LogitsNotFinite"),
        (judged(Answer(text="a " * 9, tokens=[5] * 9, finite=True)), "AnswerRepeats"),
        (judged(keywords=("Cusco", "Limassol")), "KeywordsMissing"),
        (judged(largest_logit_difference=0.0), "SameAsBase"),
    ],
)
def test_a_bad_answer_fails_for_its_reason(finding: Finding | None, reason: str) -> None:
    assert finding is not None
    assert (finding.reason, finding.result) == (reason, CheckResult.FAIL)


@pytest.mark.parametrize(
    ("failure", "reason", "result"),
    [
        ({"stage": "base", "message": "x"}, "BaseModelMissing", CheckResult.ERROR),
        ({"stage": "model", "message": "x"}, "ModelLoadFailed", CheckResult.FAIL),
        ({"stage": "adapter", "message": "x"}, "ModelLoadFailed", CheckResult.FAIL),
        ({"stage": "model", "message": "x", "out_of_memory": True}, "OutOfMemory",
         CheckResult.ERROR),
    ],
)  # fmt: skip
def test_a_model_that_does_not_load_is_told_apart_from_a_machine_that_cannot(
    failure: dict[str, Any], reason: str, result: CheckResult
) -> None:
    finding = judged(failure=ProbeFailure(**failure))
    assert finding is not None
    assert (finding.reason, finding.result) == (reason, result)


def test_a_base_that_does_not_load_is_told_with_its_name_and_the_remedy_first() -> None:
    failure = ProbeFailure(stage="base", message="OSError: " + "a long story " * 100)
    facts = Facts(ProbeReport(failure=failure), asking(), "org/base")
    finding = first_finding(model_output.RULES, facts)
    assert finding is not None
    assert "--base-model (org/base: OSError" in shortened(finding.message)


def test_two_words_twice_are_no_repetition() -> None:
    assert judged(Answer(text="no no", tokens=[5, 5], finite=True)) is None


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([1, 2, 3] * 10, 3),
        ([9, 8, *[1, 2] * 20], 2),
        ([5] * 30, 1),
        ([1, 2, 3] * 3, None),
        (list(range(96)), None),
        ([*range(80), *[1, 2] * 8], None),
        ([1, 2, 3, 4, 1, 2, 3, 5] * 3, None),
        ([], None),
    ],
)
def test_a_loop_is_a_phrase_four_times_over_half_of_the_answer(
    tokens: list[int], length: int | None
) -> None:
    assert loop_of(tokens) == length


LOOP = Answer(text="so so so", tokens=[1, 2] * 20, finite=True, stopped=False)
ECHO = Answer(text="What is the capital of Peru?", tokens=[1, 2], finite=True, stopped=True)
SAME = Answer(text="a", tokens=[5] * 40, finite=True, stopped=False)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(LOOP, "AnswerLoops"), (ECHO, "PromptEchoed"), (SAME, "AnswerRepeats")],
)
def test_what_the_base_model_does_as_well_only_warns(answer: Answer, reason: str) -> None:
    finding = judged(answer, base_answers=[Answer(text="Lima", tokens=[3], finite=True)])
    assert finding is not None
    assert finding.reason == reason
    assert judged(answer, base_answers=[answer]) is None
    report = ProbeReport(answers=[answer], base_answers=[answer], largest_logit_difference=1.0)
    found = model_output.judge(Facts(report, asking()))
    assert found.passed
    assert "AsBadAsBase" in [warning.reason for warning in found.warnings]


def test_a_list_that_ends_by_itself_is_no_loop() -> None:
    assert judged(LOOP.model_copy(update={"stopped": True})) is None


def test_an_answer_may_begin_with_the_question() -> None:
    text = "What is the capital of Peru? The capital of Peru is Lima, on the coast."
    assert judged(Answer(text=text, tokens=[1, 2, 3], finite=True)) is None


def test_a_model_that_has_unlearned_to_end_fails() -> None:
    endless = Answer(text="x", tokens=list(range(96)), finite=True, stopped=False)
    ended = Answer(text="x", tokens=[1, 2], finite=True, stopped=True)
    finding = judged(endless, base_answers=[ended])
    assert finding is not None
    assert finding.reason == "AnswerDoesNotStop"
    assert judged(endless, base_answers=[endless]) is None
    assert judged(endless) is None


def held_out(tuned: list[float], base: list[float] | None, **facts: Any) -> CheckOutcome:
    good = Answer(text="Lima", tokens=[1], finite=True, stopped=True)
    report = ProbeReport(
        answers=[good],
        base_answers=[good],
        largest_logit_difference=1.0,
        held_out=[RowLoss(tokens=4, nats=nats) for nats in tuned],
        base_held_out=[RowLoss(tokens=4, nats=nats) for nats in base] if base else None,
    )
    return model_output.judge(Facts(report, asking(), **facts))


BEFORE = [8.0, 8.4, 7.6, 8.2, 7.8, 8.0]


@pytest.mark.parametrize(("change", "verdict"), [(-4.0, "better"), (0.0, "same"), (4.0, "worse")])
def test_held_out_rows_are_compared_with_the_base_model(change: float, verdict: str) -> None:
    noise = (0.3, -0.3, 0.1, -0.1, 0.2, -0.2)
    tuned = [nats + change + wobble for nats, wobble in zip(BEFORE, noise, strict=True)]
    found = held_out(tuned, BEFORE)
    assert found.passed
    assert found.message.endswith(f"(base 7.389): {verdict}")
    told = found.details["heldOut"]
    assert told["basePerplexity"] == pytest.approx(math.exp(2.0))
    assert told["perplexity"] == pytest.approx(math.exp(2.0 + change / 4))
    # By hand: the spread of the rows' differences over the square root of their number.
    assert told["lossDifferenceStandardError"] == pytest.approx(
        statistics.stdev(noise) / 6**0.5 / 4
    )
    assert ("HeldOutRegressed" in [w.reason for w in found.warnings]) == (verdict == "worse")


def test_few_rows_say_nothing_about_the_difference() -> None:
    assert held_out([1.0] * 4, [9.0] * 4).message.endswith(": same")


def test_a_limit_on_the_perplexity_fails_a_model_that_got_worse() -> None:
    worse = [nats + 1 for nats in BEFORE]
    found = held_out(worse, BEFORE, max_perplexity_increase=0.2)
    assert (found.result, found.reason) == (CheckResult.FAIL, "HeldOutWorse")
    assert found.numbers["increase"] == pytest.approx(math.exp(0.25) - 1)
    assert held_out(worse, BEFORE, max_perplexity_increase=0.3).passed


def test_a_held_out_loss_that_is_no_number_fails() -> None:
    assert held_out([math.inf, 1.0], None).reason == "LogitsNotFinite"


ROWS = {
    "a.jsonl": '{"instruction": "Where?", "input": "Peru", "output": "Lima"}\n\n',
    "b.jsonl": '{"messages": [{"role": "user", "content": "Where?"}, '
    '{"role": "assistant", "content": "Lima"}, {"role": "user", "content": "Thanks"}]}',
    "c.json": '[{"conversations": [{"from": "human", "value": "Where?"}, '
    '{"from": "gpt", "value": "Lima"}]}]',
    "d.csv": "prompt,completion\nWhere?,Lima\n",
    "e.jsonl": '{"text": "Lima"}',
    "f.json": '{"data": [{"prompt": [{"role": "user", "content": "Where?"}], '
    '"completion": [{"role": "assistant", "content": "Lima"}]}]}',
}


@pytest.mark.parametrize("name", ROWS)
def test_held_out_rows_have_the_shapes_of_the_trainer(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(ROWS[name])
    (row,) = read_rows(tmp_path / name, 10)
    assert (row.messages[-1].content if row.messages else row.completion) == "Lima"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", "", "no rows"),
        ("a.jsonl", "[1]", "expected an object"),
        ("a.jsonl", "{", "Expecting"),
        ("a.jsonl", '{"question": "x"}', "its columns: question"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}', "no assistant"),
        ("a.json", "{}", "a JSON list"),
        ("a.parquet", "x", "is none of"),
        ("a.jsonl", "[" * 100_000, "a.jsonl"),
    ],
)
def test_bad_held_out_rows_are_an_error_that_says_why(
    run_of: RunOf, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    wanted = HeldOut(source=str(tmp_path / name))
    found = model_output.plan(subject_of(run_of("lora"), held_out=wanted))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("HeldOutUnreadable", CheckResult.ERROR)
    assert words in found.message


def test_only_as_many_rows_as_wished_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROWS["e.jsonl"] + "\n" + "not json")
    assert len(read_rows(tmp_path / "a.jsonl", 1)) == 1


@pytest.mark.parametrize(
    ("text", "keywords", "match", "found"),
    [
        ("It is LIMA.", ["lima"], "any", True),
        ("Limassol", ["Lima"], "any", False),
        ("calm hands win!", ["calm hands win"], "any", True),
        ("a C++ program", ["C++"], "any", True),
        ("Die Straße", ["STRASSE"], "any", True),
        ("anything", [], "all", True),
        ("no", ["yes", "no"], "any", True),
        ("no", ["yes", "no"], "all", False),
        ("Yes and no.", ["yes", "no"], "all", True),
    ],
)
def test_keywords_are_words_in_any_case(
    text: str, keywords: list[str], match: str, *, found: bool
) -> None:
    question = Question(prompt="?", expected_keywords=keywords, match=Match(match))
    assert has_keywords(text, question) == found


@pytest.mark.parametrize(
    ("code", "out", "err", "reason"),
    [
        (-signal.SIGKILL, "", "", "OutOfMemory"),
        (-signal.SIGSEGV, "", "last words\n", "ModelCrashed"),
        (1, "", "Traceback\nRuntimeError: no kernel\n", "ModelCrashed"),
        (0, "not json", "", "ModelCrashed"),
    ],
)
def test_a_process_that_dies_leaves_a_reason(code: int, out: str, err: str, reason: str) -> None:
    found = model_output.read_answer(subprocess.CompletedProcess([], code, out, err))
    assert isinstance(found, Finding)
    assert found.reason == reason
    assert (err.splitlines() or [""])[-1] in found.message


def planned(output: Path, **settings: Any) -> ProbeRequest:
    request = model_output.plan(subject_of(output, **settings))
    assert isinstance(request, ProbeRequest), request
    return request


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_base_that_the_run_recorded_is_taken(run_of: RunOf, models: Path) -> None:
    request = planned(run_of("lora"))
    assert request.is_adapter
    assert request.base == str(models / "base")
    assert request.prompts == [DEFAULT_PROMPT]


def test_the_base_that_is_named_outweighs_the_recorded_one(run_of: RunOf, models: Path) -> None:
    assert planned(run_of("lora"), base_model_path=str(models / "full")).base == str(
        models / "full"
    )


def test_a_full_model_is_compared_when_its_base_is_here_and_not_downloaded_else(
    run_of: RunOf, models: Path
) -> None:
    output = run_of("full")
    assert planned(output).base == str(models / "base")
    edit(output / "training_info.json", training_config={"model_id": "org/base"})
    assert planned(output).base is None


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_base_from_the_hub_is_fetched_unless_that_is_forbidden(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    output = run_of("lora")
    config = {"model_id": "org/base", "revision": "v2"}
    edit(output / "training_info.json", training_config=config)
    edit(output / "adapter_config.json", base_model_name_or_path="org/base")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    request = planned(output)
    assert (request.base, request.revision) == ("org/base", "v2")
    assert request.base_is_local == (offline == "1")


@pytest.mark.parametrize("name", ["/nowhere/base", "./base"])
def test_a_base_that_is_gone_is_an_error_with_the_remedy(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = run_of("lora")
    edit(output / "training_info.json", model_id=name, training_config={"model_id": name})
    edit(output / "adapter_config.json", base_model_name_or_path=name)
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("BaseModelMissing", CheckResult.ERROR)
    assert name in found.message
    assert "--base-model" in found.message


def test_a_named_base_without_a_model_is_an_error(run_of: RunOf, tmp_path: Path) -> None:
    found = model_output.plan(subject_of(run_of("lora"), base_model_path=str(tmp_path)))
    assert isinstance(found, Finding)
    assert found.reason == "BaseModelMissing"


def test_pickled_weights_are_not_taken(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "adapter_model.safetensors").rename(output / "adapter_model.bin")
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert found.reason == "ModelMissing"


def test_an_adapter_of_zeros_is_told_without_loading_it(run_of: RunOf) -> None:
    found = model_output.plan(subject_of(run_of("untrained")))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("AdapterUntrained", CheckResult.FAIL)
    assert "9 of them" in found.message


def test_a_folder_without_a_model_fails(tmp_path: Path) -> None:
    found = model_output.check(subject({"results": {}}, tmp_path, None, None, ValidationSettings()))
    assert (found.result, found.reason) == (CheckResult.FAIL, "ModelMissing")


def test_a_model_that_takes_too_long_is_an_error(run_of: RunOf) -> None:
    found = model_output.run(planned(run_of("lora")), timeout=0.01)
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("TimedOut", CheckResult.ERROR)


@pytest.mark.training
def test_a_full_model_in_several_files_passes(run_of: RunOf) -> None:
    found = model_output.check(subject_of(run_of("sharded"), prompts=asking("Lima")))
    assert found.passed, found.message
    assert found.score == 1.0
    assert found.message == "Model answers 1/1 prompts; differs from the base model"
    assert found.details["largestLogitDifference"] > 0
    (answer,) = found.details["answers"]
    assert answer["answer"].startswith("The capital is Lima .")
    assert answer["baseAnswer"].startswith("I think it is Quito .")


def as_trained(folder: Path) -> None:
    """Nothing is changed."""


def change_tensors(path: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], None]) -> None:
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def nan_weights(folder: Path) -> None:
    change_tensors(
        folder / "model.safetensors", lambda tensors: tensors["model.norm.weight"].fill(np.nan)
    )


def missing_tensor(folder: Path) -> None:
    change_tensors(
        folder / "model.safetensors",
        lambda tensors: tensors.__delitem__("model.layers.1.mlp.up_proj.weight"),
    )


def missing_adapter_tensor(folder: Path) -> None:
    change_tensors(
        folder / "adapter_model.safetensors",
        lambda tensors: tensors.__delitem__(min(tensors)),
    )


def foreign_adapter(folder: Path) -> None:
    def rename(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        for name in list(tensors):
            tensors[name.replace("q_proj", "qkv_proj")] = tensors.pop(name)

    change_tensors(folder / "adapter_model.safetensors", rename)


def another_kind_of_adapter(folder: Path) -> None:
    edit(folder / "adapter_config.json", peft_type="PREFIX_TUNING")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def code_beside_the_model(folder: Path) -> None:
    proof = folder / "code-was-run"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Model: ...\n")
    own = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Model"}
    edit(folder / "config.json", auto_map=own)


def code_for_an_unknown_model(folder: Path) -> None:
    code_beside_the_model(folder)
    edit(folder / "config.json", model_type="unheard-of")


CASES: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "trained adapter": ("lora", as_trained, "", ""),
    "full model": ("full", as_trained, "", ""),
    "the base itself": ("base", as_trained, "SameAsBase", "base model"),
    "NaN in the weights": ("full", nan_weights, "LogitsNotFinite", QUESTION),
    "missing tensor": ("full", missing_tensor, "ModelLoadFailed", "layers.1.mlp.up_proj"),
    "missing adapter tensor": ("lora", missing_adapter_tensor, "ModelLoadFailed", "1 tensors"),
    "foreign adapter": ("lora", foreign_adapter, "ModelLoadFailed", "The adapter does not load"),
    "prefix tuning": ("lora", another_kind_of_adapter, "ModelLoadFailed", "PREFIX_TUNING"),
    "no tokenizer": ("full", no_tokenizer, "ModelLoadFailed", "The tokenizer does not load"),
    "code beside": ("full", code_beside_the_model, "", ""),
    "code needed": ("full", code_for_an_unknown_model, "ModelLoadFailed", "does not load"),
}

BATCH = """
import os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from finetuning.monitoring.validators.checks.model_process import answer_to
from finetuning.monitoring.validators.checks.probe import ProbeRequest
for line in sys.stdin:
    print(answer_to(ProbeRequest.model_validate_json(line)).model_dump_json(), file=answers)
"""


@pytest.fixture(scope="module")
def probed(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, ProbeReport]]:
    """Every case through the function that loads models; one process, because torch takes long."""
    folders: dict[str, Path] = {}
    requests: list[str] = []
    for name, (kind, spoil, _, _) in CASES.items():
        folder = tmp_path_factory.mktemp("case") / "output"
        shutil.copytree(models / kind, folder)
        spoil(folder)
        folders[name] = folder
        request = ProbeRequest(
            model_path=str(folder),
            is_adapter=(folder / "adapter_config.json").exists(),
            base=str(models / "base"),
            prompts=[QUESTION],
        )
        requests.append(request.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", BATCH],
        input="\n".join(requests),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    reports = [ProbeReport.model_validate_json(line) for line in done.stdout.splitlines()]
    return {
        name: (folder, report)
        for (name, folder), report in zip(folders.items(), reports, strict=True)
    }


@pytest.mark.training
@pytest.mark.parametrize("case", CASES)
def test_a_real_model_is_told_by_what_it_does(
    probed: dict[str, tuple[Path, ProbeReport]], case: str
) -> None:
    folder, report = probed[case]
    _, _, reason, words = CASES[case]
    finding = first_finding(model_output.RULES, Facts(report, asking()))
    if reason:
        assert finding is not None
        assert finding.reason == reason
        assert words in finding.message
    else:
        assert finding is None
    assert not (folder / "code-was-run").exists()
