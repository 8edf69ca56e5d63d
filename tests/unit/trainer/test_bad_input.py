"""What is wrong is told in one line with a remedy, early, and with the right exit code."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import io
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import ROWS, write_rows

from finetuning.base.app import main
from finetuning.base.errors import ModelError
from finetuning.base.model import load_tokenizer
from finetuning.base.outline import outline_of

WITHOUT_TORCH = """
import sys
from finetuning.base.app import main
code = main(sys.argv[1:])
assert not {"torch", "transformers", "peft"} & set(sys.modules), "torch was loaded for nothing"
sys.exit(code)
"""


class Outcome:
    """A run that was refused."""

    def __init__(self, code: int, caplog: pytest.LogCaptureFixture, words: Path) -> None:
        self.code = code
        self.errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        self.words: dict[str, Any] = json.loads(words.read_text(encoding="utf-8"))


@pytest.fixture
def refuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Runs the trainer and returns how it was refused."""
    words = tmp_path / "termination"
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(words))

    def run(*arguments: object) -> Outcome:
        output = ("--output-dir", tmp_path / "out")
        code = main([str(argument) for argument in (*output, *arguments)])
        return Outcome(code, caplog, words)

    return run


def check(outcome: Outcome, reason: str, *words: str) -> None:
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "\n" not in line
    assert all(word in line for word in words), line
    assert outcome.words["result"] == "failed"
    assert outcome.words["reason"] == reason
    assert outcome.words["message"] in line


BAD_DATA = [
    ("", "holds no rows"),
    ('{"text": "a"}\n' * 16 + '{"text": "b"', "line 17: not valid JSON"),
    ('{"question": "a", "answer": "b"}\n', "known shapes"),
    ('{"instruction": "a", "output": ""}\n', "line 1: `output` is missing or empty"),
    ('{"text": "a"}\n{"text": "and so on \\ud83d"}\n', "line 2: holds half a character"),
]


@pytest.mark.parametrize(("content", "words"), BAD_DATA)
def test_bad_data_is_refused(
    content: str, words: str, refuse: Any, tiny_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(content, encoding="utf-8")
    outcome = refuse("--model-id", tiny_model, "--dataset-path", data)
    check(outcome, "DatasetInvalid", str(data), words)
    state = json.loads((tmp_path / "out/state/rank-0.json").read_text(encoding="utf-8"))
    assert (state["state"], state["reason"]) == ("failed", "DatasetInvalid")


@pytest.mark.parametrize(("content", "words"), BAD_DATA)
def test_bad_data_is_refused_before_torch_is_loaded(
    content: str, words: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(content, encoding="utf-8")
    command = [sys.executable, "-c", WITHOUT_TORCH, "--model-id", "org/none"]
    done = subprocess.run(
        [*command, "--dataset-path", str(data), "--output-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


@pytest.mark.fault("Data set missing", "refused by its name, exit code 2")
def test_a_missing_data_file_is_refused(refuse: Any, tiny_model: Path) -> None:
    outcome = refuse("--model-id", tiny_model, "--dataset-path", "none.jsonl")
    check(outcome, "DatasetInvalid", "--dataset-path none.jsonl: no such file")


@pytest.mark.parametrize(
    "name",
    [
        "merges.txt",  # Its tokenizer does not read it; it is copied.
        "additional_chat_templates/default.jinja",  # Written to the result as its own template.
        "emoji.json",  # Some class of tokenizers has a file of that name.
    ],
)
def test_a_model_brings_no_link_to_the_tokens_of_the_trainer(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path, name: str
) -> None:
    link = shutil.copytree(tiny_model, tmp_path / "model") / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/proc/self/environ")
    model = tmp_path / "model"
    outcome = refuse("--model-id", model, "--dataset-path", rows_file, "--max-steps", "1")
    check(outcome, "ModelUnavailable", f"{link}: is a link out of the volume")
    assert not (tmp_path / "out" / "merges.txt").exists()


def test_a_model_names_no_file_that_its_tokenizer_would_be_made_of(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """As the vocabulary of one of BERT's kind, it would be a token, and so a word of an answer."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    settings = {"tokenizer_class": "BertTokenizer", "vocab": "/proc/self/environ"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (model / "tokenizer.json").rename(model / "vocab.txt")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file, "--max-steps", "1")
    words = "tokenizer_config.json: vocab names the file /proc/self/environ"
    check(outcome, "ModelUnavailable", f"{model}: {words}")


def test_nobody_is_asked_whether_a_models_code_may_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks on the terminal where it has no tokenizer of its own for the model."""
    model, proof = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "code-was-run"
    (model / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Words: ...\n")
    words = {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["evil.Words"] * 2}}
    changes = {"config.json": {"model_type": "arcee"}, "tokenizer_config.json": words}
    for name, fields in changes.items():
        told = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(told | fields))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ModelError, match="has no tokenizer that can be loaded"):
        load_tokenizer(model)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["default", "tool_use"])
def test_of_several_templates_one_is_trained_with(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    """A result has one: several were a traceback after the training."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "additional_chat_templates").mkdir()
    text = (model / "chat_template.jinja").read_text()
    (model / "additional_chat_templates/rag.jinja").write_text(text)
    (model / "chat_template.jinja").rename(model / f"additional_chat_templates/{name}.jinja")
    template = load_tokenizer(model).chat_template
    assert isinstance(template, str)
    assert (template == text) is (name == "default")


def test_nobody_is_asked_for_a_part_of_a_model_either(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers builds it without what was said of the whole: that no code may run."""
    model, proof = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "code-was-run"
    (model / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Eyes: ...\n")
    part = {"model_type": "chameleon_vqgan", "_name_or_path": str(model)}
    sizes = {"image_size": 64, "patch_size": 16, "hidden_size": 32}
    eyes = {**part, **sizes, "auto_map": {"AutoModel": "evil.Eyes"}}
    told = {"model_type": "gemma3", "vision_config": eyes}
    (model / "config.json").write_text(json.dumps(told))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ModelError, match="needs Python code of its own, which is never run"):
        outline_of(model)
    assert not proof.exists()


@pytest.mark.parametrize("in_folder", [False, True])
def test_in_a_pod_rows_are_not_behind_a_link_to_elsewhere(
    refuse: Any,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    in_folder: bool,
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    (tmp_path / "data").mkdir()
    link = tmp_path / "data" / "rows.csv"
    link.symlink_to("/proc/self/environ")
    outcome = refuse("--model-id", tiny_model, "--dataset-path", link.parent if in_folder else link)
    check(outcome, "DatasetInvalid", f"{link}: is a link out of its volume")


def test_a_wrong_setting_is_refused(refuse: Any) -> None:
    outcome = refuse("--model-id", "m", "--dataset-path", "d", "--lora-rank", "-1")
    check(outcome, "ConfigInvalid", "--lora-rank: '-1' is not allowed")


def test_a_model_that_is_nowhere_is_refused(refuse: Any, rows_file: Path) -> None:
    outcome = refuse("--model-id", "org/none", "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", "org/none", "cannot be reached", "--model-path")
    outcome.errors.clear()


def test_a_folder_that_is_not_there_is_refused(refuse: Any, rows_file: Path) -> None:
    outcome = refuse("--model-id", "./none", "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", "--model-id none: no such folder")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


def copy_of(model: Path, target: Path, *, without: str = "") -> Path:
    shutil.copytree(model, target)
    if without:
        (target / without).unlink()
    return target


def test_rows_can_be_checked_without_any_weights(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(POINTER)
    command = ["--model-id", str(model), "--dataset-path", str(rows_file), "--check-data"]
    assert main([*command, "--output-dir", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_settings_that_are_damaged_are_refused(
    name: str, refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    (model / name).write_text("{", encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    remedies = {"tokenizer.json": "put the model's own", "config.json": "download the model again"}
    check(outcome, "ModelUnavailable", str(model), remedies[name])


def test_settings_that_no_model_can_have_are_refused_by_their_name(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """The library tells of it in a second line."""
    model = copy_of(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] += 1
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", str(model), "`num_hidden_layers` (3)", "compare its files")


def test_pickled_weights_are_refused(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model", without="model.safetensors")
    (model / "pytorch_model.bin").write_bytes(b"anything")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", "pytorch_model.bin", "can run code", "safetensors")


def test_a_model_with_code_of_its_own_is_refused_and_never_run(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    (model / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    names = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    config |= {"model_type": "custom", "auto_map": names}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", str(model))
    assert not (tmp_path / "ran").exists()


INDEX = "model.safetensors.index.json"


def in_4_bit(config: Path) -> None:
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config.write_text(json.dumps(settings), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda weights: weights.write_bytes(weights.read_bytes()[:-100]), "download the model"),
        (lambda weights: weights.write_bytes(b""), "is no safetensors file; download"),
        (lambda weights: weights.write_bytes(POINTER), "pointer and not the weights; run `git lfs"),
        (lambda weights: weights.write_bytes(b"\x08" + bytes(7) + b"[1,2,3]  "), "no safetensors"),
        (lambda weights: weights.unlink(), "b.safetensors cannot be read (No such file"),
        (lambda weights: weights.unlink(), "index of its weights names no files"),
        (lambda weights: in_4_bit(weights.with_name("config.json")), "with --method qlora, or"),
    ],
)
def test_damaged_weights_are_refused_before_torch_is_loaded(
    harm: Any, words: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    harm(model / "model.safetensors")
    if "index" in words:
        (model / INDEX).write_text("[]", encoding="utf-8")
    elif not (model / "model.safetensors").exists():
        where = {"weight_map": {"x": "b.safetensors"}}
        (model / INDEX).write_text(json.dumps(where), encoding="utf-8")
    command = [sys.executable, "-c", WITHOUT_TORCH, "--model-id", str(model)]
    done = subprocess.run(
        [*command, "--dataset-path", str(rows_file), "--output-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    state = json.loads((tmp_path / "out/state/rank-0.json").read_text(encoding="utf-8"))
    assert (state["state"], state["reason"]) == ("failed", "ModelUnavailable")


def test_weights_of_another_model_are_refused(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = copy_of(tiny_model, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1" not in name}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", str(model), "lack", "layers.1", "download it again")


def test_weights_of_another_size_are_refused(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 96}), encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    sizes = ("model.embed_tokens.weight is [320, 64] in its weights", "config.json it is [320, 96]")
    check(outcome, "ModelUnavailable", str(model), *sizes, "download the model again")


@pytest.mark.parametrize("left", ["nothing", "settings", "no token"])
def test_a_model_without_a_tokenizer_is_refused(
    left: str, refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """transformers makes one of the settings alone, of which every text is nothing."""
    model = copy_of(tiny_model, tmp_path / "model", without="tokenizer.json")
    if left != "settings":
        (model / "tokenizer_config.json").unlink()
    if left == "no token":
        from tokenizers import Tokenizer, models

        Tokenizer(models.WordLevel({}, "<unk>")).save(str(model / "tokenizer.json"))
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", str(model), "tokenizer.json", "there")
    assert "tokenizer" in outcome.errors[0]


@pytest.mark.parametrize("more", [(), ("--check-data",)])
def test_a_token_that_the_model_does_not_have_is_refused(
    more: tuple[str, ...], refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    model = copy_of(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["Where is"])
    tokenizer.save_pretrained(model)
    outcome = refuse("--model-id", model, "--dataset-path", rows_file, *more)
    known = len(tokenizer) - 1
    words = (f"token {known} ('Where is')", f"{known} tokens", "resize_token_embeddings")
    check(outcome, "ModelUnavailable", str(model), *words)


def test_an_adapter_is_no_model(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model", without="config.json")
    (model / "adapter_config.json").write_text("{}", encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", "holds an adapter")


def test_an_adapter_beside_its_model_is_not_put_into_it_unasked(
    refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = copy_of(tiny_model, tmp_path / "model")
    (model / "adapter_config.json").write_text("{}", encoding="utf-8")
    outcome = refuse("--model-id", model, "--dataset-path", rows_file)
    check(outcome, "ModelUnavailable", str(model), "holds a model and an adapter", "merge it")


def test_layers_that_are_not_there_are_refused_with_those_that_are(
    refuse: Any, tiny_model: Path, rows_file: Path
) -> None:
    wish = ("--target-modules", "q_proj", "c_attn")
    outcome = refuse("--model-id", tiny_model, "--dataset-path", rows_file, *wish)
    check(outcome, "ConfigInvalid", "c_attn", "gate_proj", "q_proj", "all-linear")


def test_what_peft_refuses_is_a_wrong_setting(
    refuse: Any, tokenizer: Any, rows_file: Path, tmp_path: Path
) -> None:
    """Experts that share a matrix have adapters without dropout alone."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32,
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "qk_nope_head_dim": 8, "first_k_dense_replace": 1, "max_position_embeddings": 256,
    }  # fmt: skip
    model = tmp_path / "model"
    DeepseekV3ForCausalLM(DeepseekV3Config(**sizes)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    run = ("--model-id", model, "--dataset-path", rows_file, "--target-modules", "all-linear")
    outcome = refuse(*run)
    check(outcome, "ConfigInvalid", "--target-modules", "down_proj", "--lora-dropout 0")


def test_one_row_cannot_be_split(refuse: Any, tiny_model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "one.jsonl", ROWS[:1])
    outcome = refuse("--model-id", tiny_model, "--dataset-path", data, "--eval-split", "0.2")
    check(outcome, "DatasetInvalid", "--eval-split")


def test_a_port_in_use_is_refused(refuse: Any, tiny_model: Path, rows_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        metrics = ("--enable-metrics", "--metrics-port", port)
        outcome = refuse("--model-id", tiny_model, "--dataset-path", rows_file, *metrics)
    check(outcome, "ConfigInvalid", f"--metrics-port {port}", "in use")


def test_a_folder_that_cannot_be_written_is_refused(
    refuse: Any, rows_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    where = ("--output-dir", tmp_path / "file" / "out")
    outcome = refuse("--model-id", "m", "--dataset-path", rows_file, *where)
    check(outcome, "ConfigInvalid", "--output-dir", "Not a directory")


def test_the_result_must_not_replace_the_base_model(
    refuse: Any, tiny_model: Path, rows_file: Path
) -> None:
    where = ("--output-dir", tiny_model)
    outcome = refuse("--model-id", tiny_model, "--dataset-path", rows_file, *where)
    check(outcome, "ConfigInvalid", "is the base model's own folder")
    assert not (tiny_model / "state").exists()


@pytest.mark.training
@pytest.mark.parametrize("every", [1, 10])
def test_a_loss_that_leaves_the_numbers_ends_the_run_with_advice(
    every: int, refuse: Any, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """One infinite weight in the base: every loss is then no number, counted and told at once."""
    import torch
    from safetensors.torch import load_file, save_file

    model = copy_of(tiny_model, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], torch.inf)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    where = ("--model-id", model, "--dataset-path", rows_file)
    outcome = refuse(*where, "--logging-steps", every)
    check(outcome, "LossDiverged", "--learning-rate", "3 steps in a row")
    assert outcome.words["step"] == 3
    state = json.loads((tmp_path / "out/state/rank-0.json").read_text(encoding="utf-8"))
    assert (state["nonfiniteLosses"], state["loss"]) == (3, "NaN")
    lines = (tmp_path / "out/loss_history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss"] for line in lines] == ["NaN"] * 3
