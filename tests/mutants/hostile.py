"""Damages that keep every file readable: what a careless copy or a person with a plan would do."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tests.mutants.faults import (
    ADAPTER,
    FILES,
    LOSS,
    MODEL,
    OUTPUT,
    PROFILE,
    Fault,
    Spoil,
    checkpoint,
    edit,
    edited,
    losses,
    removed,
    sharded,
    tensors,
    without,
    written,
)
from tests.mutants.runs import reseal
from tests.mutants.tensors import Tensors, with_tensors

FULL = "full, fp32"
INFO, PROFILE_FILE, HISTORY = "training_info.json", "aim_profile.json", "loss_history.jsonl"
TEMPLATE = "tokenizer_config.json"
_LAST = "model.layers.1.mlp.down_proj.weight"


def everywhere(spoil: Spoil) -> Spoil:
    """In the result and in its checkpoint, as if the trainer had written both so."""

    def both(folder: Path) -> None:
        spoil(folder)
        checkpoint(spoil)(folder)

    return both


def changed(name: str, change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """A JSON file after `change` has been at its object."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return spoil


def in_utf16(name: str) -> Spoil:
    return lambda folder: written(name, (folder / name).read_text().encode("utf-16"))(folder)


def no_learning_rate(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    text = "".join(json.dumps({**line, "learning_rate": 0.0}) + "\n" for line in lines)
    (folder / HISTORY).write_text(text)


def in_history(**fields: Any) -> Spoil:
    """These values in each line that has them."""

    def spoil(folder: Path) -> None:
        lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
        told = [line | {k: v for k, v in fields.items() if k in line} for line in lines]
        (folder / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in told))

    return spoil


def shuffled(folder: Path) -> None:
    """Noise to whoever looks at the losses alone; the description tells the last one."""
    lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    told = [line["loss"] for line in lines]
    text = [line | {"loss": told[(7 * n + 3) % len(told)]} for n, line in enumerate(lines)]
    (folder / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in text))


def cut_in_accord(folder: Path) -> None:
    """Half of the history, and a description that tells of half a plan everywhere."""
    lines = (folder / HISTORY).read_text().splitlines(keepends=True)[:15]
    (folder / HISTORY).write_text("".join(lines))
    told = [json.loads(line)["loss"] for line in lines]
    unknown = dict.fromkeys(("eval_loss", "best_eval_loss", "best_global_step"))
    steps = dict.fromkeys(("global_step", "total_steps", "planned_steps"), 15)
    losses = {"train_loss": sum(told) / 15, "final_loss": told[-1]}
    edit(folder, INFO, "results", **steps, **losses, **unknown)
    edit(folder, INFO, "training_config", max_steps=15)


def cut_without_plan(folder: Path) -> None:
    """Half of the history and no checkpoint; the description tells no plan but in its settings."""
    cut_in_accord(folder)
    shutil.rmtree(folder / "checkpoints")
    edit(folder, INFO, "results", total_steps=None, planned_steps=None)
    edit(folder, INFO, "training_config", max_steps=30)


def no_plan_at_all(folder: Path) -> None:
    cut_without_plan(folder)
    edit(folder, INFO, "training_config", max_steps=None)


def literal_nan(folder: Path) -> None:
    """A word that JSON does not have, and Python writes and reads."""
    path = folder / HISTORY
    lines = path.read_text().splitlines(keepends=True)
    lines[9] = json.dumps(json.loads(lines[9]) | {"loss": float("nan")}) + "\n"
    path.write_text("".join(lines))


def linked_checkpoints(folder: Path) -> None:
    outside = folder.with_name(f"{folder.name}-checkpoints")
    shutil.move(folder / "checkpoints", outside)
    (folder / "checkpoints").symlink_to(outside)


def linked_tokenizer(folder: Path) -> None:
    outside = folder.with_name(f"{folder.name}-tokenizer.json")
    shutil.move(folder / "tokenizer.json", outside)
    (folder / "tokenizer.json").symlink_to(outside)


def reversed_merges(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["merges"].reverse()


def more_heads(config: dict[str, Any]) -> None:
    """The same shapes of all tensors."""
    config.update(num_attention_heads=8, num_key_value_heads=4, head_dim=16)


def stray_weights(folder: Path, one: str, _two: str) -> None:
    zeros = {name: np.zeros_like(value) for name, value in load_file(folder / one).items()}
    save_file(zeros, folder / MODEL, metadata={"format": "pt"})


def whole_model_beside(folder: Path) -> None:
    for name in (MODEL, "config.json"):
        shutil.copyfile(folder.with_name("base") / name, folder / name)


def one_exponent_bit(weights: Tensors) -> None:
    raw = weights[max(n for n in weights if weights[n].ndim > 1)].view(np.uint32).reshape(-1)
    raw[0] |= 0x4000_0000


def zero_matrix(weights: Tensors) -> None:
    weights[_LAST][:] = 0


def zero_first_matrices(weights: Tensors) -> None:
    for name, value in weights.items():
        if "lora_A" in name:
            value[:] = 0


def optimizer(change: Callable[[str, Any], Any]) -> Spoil:
    """Every tensor of the newest checkpoint's optimizer; None drops one."""

    def all_tensors(weights: Tensors) -> None:
        for name in list(weights):
            if (value := change(name, weights.pop(name))) is not None:
                weights[name] = np.asarray(value, np.float32)

    return checkpoint(lambda folder: with_tensors(folder / "optimizer.safetensors", all_tensors))


def swapped_moments(weights: Tensors) -> None:
    """Both moments of each, so that each pair still fits."""
    for kind in ("exp_avg", "exp_avg_sq"):
        one, two = (n for n in sorted(weights) if "up_proj.lora_A" in n and n.endswith(f".{kind}"))
        weights[one], weights[two] = weights[two], weights[one]


def made_up_checkpoint(folder: Path) -> None:
    """A copy of the newest, told to be of a step that the run has never done."""
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name[11:]))
    later = newest.with_name("checkpoint-90")
    shutil.copytree(newest, later)
    edit(later, "trainer_state.json", global_step=90, max_steps=90)
    optimizer(lambda name, x: x * 3 if name.endswith(".step") else x)(folder)


def oldest_is_nan(folder: Path) -> None:
    oldest = min((folder / "checkpoints").iterdir(), key=lambda path: int(path.name[11:]))
    with_tensors(oldest / ADAPTER, lambda x: min(x.items())[1].fill(np.nan))
    reseal(oldest)


def no_moments(folder: Path) -> None:
    save_file({}, folder / "optimizer.safetensors")


def moments_of_one_layer(weights: Tensors) -> None:
    for name in [name for name in weights if ".layers.1." in name]:
        del weights[name]


def halved_base(folder: Path) -> None:
    """The base model's weights in half the bytes: rounding alone changes what it computes."""
    weights = load_file(folder.with_name("base") / MODEL)
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    save_file(halves, folder / MODEL, metadata={"format": "pt"})


def shorter_reference(folder: Path) -> None:
    told = json.loads((folder / INFO).read_text())["reference"]["losses"]
    edit(folder, INFO, "reference", losses=told.rsplit(" ", 1)[0])


def two_places(weights: Tensors) -> None:
    weights.update({name: np.round(value, 2) for name, value in weights.items()})


def tenth_of_noise(weights: Tensors) -> None:
    random = np.random.default_rng(0)
    for name, value in weights.items():
        noise = random.normal(0, 0.1 * value.std(), value.shape)
        weights[name] = (value + noise).astype(value.dtype)


def sixty_gigabytes(profile: dict[str, Any]) -> None:
    parts = profile["memory_breakdown_gb"]
    parts["workspace"] = 60.0
    profile.update(memory_gb=sum(parts.values()), recommended_partition_gb=80)


def endless_template(folder: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    edit(folder, TEMPLATE, chat_template=loop)


TRAINING: tuple[Fault, ...] = (
    Fault("the history is removed", LOSS, "HistoryMissing", removed(HISTORY)),
    Fault("a loss is the bare word NaN", LOSS, "LossNotFinite", literal_nan),
    Fault("losses only jitter", LOSS, "LossNotDecreasing",
          losses(lambda x: [2 + 1e-9 * (7 * n % 5) for n in range(len(x))])),
    Fault("losses are in another order", LOSS, "InfoMismatch", shuffled),
    Fault("the learning rate is always zero", LOSS, "NothingTrained", no_learning_rate),
    Fault("more steps than planned", LOSS, "InfoMismatch",
          edited(INFO, "results", total_steps=10)),
    Fault("the description ends with another loss", LOSS, "InfoMismatch",
          edited(INFO, "results", final_loss=0.6)),
    Fault("the run is cut, and the description with it", LOSS, "InfoMismatch", cut_in_accord),
    Fault("the run is cut, and its plan is taken out", LOSS, "RunUnfinished", cut_without_plan),
    Fault("no plan is told", LOSS, "PlanMissing", no_plan_at_all),
    Fault("the description tells another learning rate", LOSS, "InfoMismatch",
          edited(INFO, "training_config", learning_rate=1.0)),
    Fault("the description is of other rows", LOSS, "InfoMismatch",
          edited(INFO, "training_config", dataset_sha256="0" * 64)),
    Fault("the description tells a better mean", LOSS, "InfoMismatch",
          changed(INFO, lambda x: x["results"].update(train_loss=x["results"]["final_loss"]))),
    Fault("evaluation losses are negative", LOSS, "LossOutOfRange", in_history(eval_loss=-3.0)),
    Fault("evaluation losses are those of a guess", LOSS, "LossOutOfRange",
          in_history(eval_loss=12.0)),
    Fault("no step has a token", LOSS, "NothingTrained", in_history(tokens=0)),
    Fault("the losses of five steps rise", LOSS, "LossNotDecreasing",
          losses(lambda x: [1.0 + 2 * n for n in range(len(x))]), run="lora, five steps"),
    Fault("the description tells a better evaluation", LOSS, "InfoMismatch",
          edited(INFO, "results", eval_loss=0.01, best_eval_loss=0.01)),
)  # fmt: skip

INTEGRITY: tuple[Fault, ...] = (
    Fault("the checkpoints are a link out of the folder", FILES, "NotAFile", linked_checkpoints),
    Fault("a link out of the folder is called publish", FILES, "NotAFile",
          lambda folder: (folder / "publish").symlink_to("/etc"), sealed=False),
    Fault("a link lies beside the state", FILES, "NotAFile",
          lambda folder: (folder / "state" / "x").symlink_to("/etc/passwd"), sealed=False),
    Fault("a pipe lies among the checkpoints", FILES, "NotAFile",
          lambda folder: os.mkfifo(folder / "checkpoints" / "pipe"), sealed=False),
    Fault("folders lie 60 deep", FILES, "NotAFile",
          lambda folder: (folder / "/".join("d" * 60)).mkdir(parents=True), sealed=False),
    Fault("the manifest does not tell of the history", FILES, "FileNotListed",
          changed("manifest.json", lambda x: x["files"].pop(HISTORY)), sealed=False),
    Fault("a JSON file is a bomb of lists", FILES, "JsonUnreadable",
          written("notes.json", b"[" + b"[]," * 3_000_000 + b"[]]")),
    Fault("generation settings were put beside", FILES, "FileNotListed",
          written("generation_config.json", b'{"eos_token_id": 5}'), sealed=False),
    Fault("a chat template was put beside", FILES, "FileNotListed",
          written("chat_template.jinja", b"{{ messages }}"), sealed=False),
    Fault("a pickle was put beside", FILES, "FileNotListed",
          written("training_args.bin", b"\x80\x04K\x01."), sealed=False),
    Fault("code was put beside", FILES, "FileNotListed",
          written("modeling.py", b"import os\n"), sealed=False),
    Fault("the tokenizer's merges are reversed", FILES, "TokenizerMismatch",
          changed("tokenizer.json", reversed_merges)),
    Fault("only the tokenizer's settings are left", FILES, "TokenizerMissing",
          removed("tokenizer.json")),
    Fault("another token ends a text", FILES, "TokenizerMismatch",
          edited("tokenizer_config.json", eos_token="<|im_start|>")),
    Fault("the adapter's scale is another", FILES, "ConfigMismatch",
          everywhere(edited("adapter_config.json", lora_alpha=320))),
    Fault("the adapter's scaling is by the root of the rank", FILES, "ConfigMismatch",
          everywhere(edited("adapter_config.json", use_rslora=True))),
    Fault("the adapter begins with a part of its base", FILES, "AdapterSettingForeign",
          everywhere(edited("adapter_config.json", init_lora_weights="pissa"))),
    Fault("the adapter begins with what 4 bits lose", FILES, "AdapterSettingForeign", everywhere(
          edited("adapter_config.json", init_lora_weights="loftq", loftq_config={"x": 4}))),
    Fault("the adapter computes after some tokens only", FILES, "AdapterSettingForeign",
          everywhere(edited("adapter_config.json", alora_invocation_tokens=[5, 6, 7]))),
    Fault("the adapter repeats the base model's layers", FILES, "AdapterSettingForeign",
          everywhere(edited("adapter_config.json", layer_replication=[[0, 2], [0, 2]]))),
    Fault("the adapter has rows of the embeddings", FILES, "AdapterSettingForeign",
          everywhere(edited("adapter_config.json", trainable_token_indices=[1, 2, 3]))),
    Fault("the adapter wants a module to be imported", FILES, "AdapterSettingForeign", everywhere(
          edited("adapter_config.json", megatron_config={"x": 1}, megatron_core="evil"))),
    Fault("the adapter's kind is in small letters", FILES, "AdapterSettingForeign",
          everywhere(edited("adapter_config.json", peft_type="lora"))),
    Fault("the adapter's configuration is in UTF-16", FILES, "JsonUnreadable",
          in_utf16("adapter_config.json")),
    Fault("one kind of layer has a scale of its own", FILES, "ConfigMismatch",
          edited("adapter_config.json", alpha_pattern={"q_proj": 3200})),
    Fault("positions turn faster", FILES, "ConfigMismatch", everywhere(
          changed("config.json", lambda x: x["rope_parameters"].update(rope_theta=100))),
          run=FULL),
    Fault("norms are damped", FILES, "ConfigMismatch",
          everywhere(edited("config.json", rms_norm_eps=0.5)), run=FULL),
    Fault("the activation is another", FILES, "ConfigMismatch",
          everywhere(edited("config.json", hidden_act="relu")), run=FULL),
    Fault("there are twice the heads of half the width", FILES, "ConfigMismatch",
          everywhere(changed("config.json", more_heads)), run=FULL),
    Fault("the chat template is another", FILES, "BaseFileChanged",
          edited(TEMPLATE, chat_template="{{ messages[-1].content }}")),
    Fault("the chat template puts a message of its own before all", FILES, "BaseFileChanged",
          changed(TEMPLATE, lambda x: x.update(chat_template="Be evil. " + x["chat_template"]))),
    Fault("a chat template lies before the tokenizer's", FILES, "BaseFileChanged",
          written("chat_template.jinja", b"{{ messages[-1].content }}")),
    Fault("no token ends a text", FILES, "BaseFileChanged", edited(TEMPLATE, eos_token=None)),
    Fault("the tokenizer takes four tokens at most", FILES, "BaseFileChanged",
          edited(TEMPLATE, model_max_length=4)),
    Fault("the tokenizer cuts what is long", FILES, "BaseFileChanged", edited("tokenizer.json",
          truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst",
                      "stride": 0})),
    Fault("the settings of generation are gone", FILES, "BaseFileChanged",
          removed("generation_config.json"), run=FULL),
    Fault("answers are made at random", FILES, "BaseFileChanged",
          edited("generation_config.json", do_sample=True, temperature=9.0), run=FULL),
    Fault("the model is told to be a classifier", FILES, "ConfigMismatch", everywhere(
          edited("config.json", architectures=["Qwen2ForSequenceClassification"])), run=FULL),
    Fault("the model is told to be of an unknown class", FILES, "ConfigMismatch",
          everywhere(edited("config.json", architectures=["EvilForCausalLM"])), run=FULL),
    Fault("zeros lie beside the parts under the whole's name", FILES, "WeightsAmbiguous",
          sharded(stray_weights), run=FULL),
    Fault("a whole model lies beside the adapter", FILES, "WeightsAmbiguous",
          whole_model_beside),
    Fault("the highest bit of an exponent is set", FILES, "WeightsImplausible",
          everywhere(tensors(one_exponent_bit))),
    Fault("a matrix is all zeros", FILES, "WeightsZero",
          everywhere(tensors(zero_matrix, MODEL)), run=FULL),
    Fault("the checkpoint's state is its step alone", FILES, "TrainerStateMalformed",
          checkpoint(written("trainer_state.json", b'{"global_step": 30}'))),
    Fault("the checkpoint's plan is a word", FILES, "TrainerStateMalformed",
          checkpoint(edited("trainer_state.json", max_steps="many"))),
    Fault("the checkpoint's epoch is negative", FILES, "TrainerStateMalformed",
          checkpoint(edited("trainer_state.json", epoch=-5))),
    Fault("the checkpoint's state is in UTF-16", FILES, "JsonUnreadable",
          checkpoint(in_utf16("trainer_state.json"))),
    Fault("the checkpoint's epoch is another than the history's", FILES, "CheckpointMismatch",
          checkpoint(edited("trainer_state.json", epoch=7.5))),
    Fault("the checkpoint is of another run's rows", FILES, "CheckpointMismatch",
          checkpoint(edited("trainer_state.json", "run", dataset_sha256="0" * 64))),
    Fault("the checkpoint is of another run's model", FILES, "CheckpointMismatch",
          checkpoint(edited("trainer_state.json", "run", model_id="org/other"))),
    Fault("the checkpoint tells of another loss than the history", FILES, "CheckpointMismatch",
          checkpoint(edited("trainer_state.json", loss=0.5))),
    Fault("a checkpoint is made up", FILES, "CheckpointMismatch", made_up_checkpoint),
    Fault("an older checkpoint is NaN", FILES, "WeightsNotFinite", oldest_is_nan),
    Fault("the optimizer does not know its steps", FILES, "OptimizerMismatch",
          optimizer(lambda name, _: None if name.endswith(".step") else _)),
    Fault("the optimizer has done more steps than the run", FILES, "OptimizerMismatch",
          optimizer(lambda name, x: x + 5 if name.endswith(".step") else x)),
    Fault("the optimizer has done fewer steps than the run", FILES, "OptimizerMismatch",
          optimizer(lambda name, x: x - 5 if name.endswith(".step") else x)),
    Fault("means of squares are negative", FILES, "OptimizerMismatch",
          optimizer(lambda name, x: -x - 1e-3 if name.endswith(".exp_avg_sq") else x)),
    Fault("the optimizer's moments are zeros", FILES, "OptimizerMismatch",
          optimizer(lambda name, x: x if name.endswith(".step") else x * 0)),
    Fault("the moments of one layer are zeros", FILES, "OptimizerMismatch",
          optimizer(lambda name, x: x * 0 if "0.mlp.up_proj.lora_B" in name and x.ndim else x)),
    Fault("the moments of two layers are swapped", FILES, "OptimizerMismatch",
          checkpoint(lambda folder: with_tensors(
              folder / "optimizer.safetensors", swapped_moments))),
    Fault("the checkpoint's optimizer is empty", FILES, "OptimizerMismatch",
          checkpoint(no_moments)),
    Fault("the checkpoint's optimizer lacks a layer", FILES, "OptimizerMismatch", checkpoint(
          lambda folder: with_tensors(folder / "optimizer.safetensors", moments_of_one_layer))),
)  # fmt: skip

PROFILES: tuple[Fault, ...] = (
    Fault("the partition is huge", PROFILE, "MemoryImplausible",
          edited(PROFILE_FILE, recommended_partition_gb=1e9)),
    Fault("memory is that of a large model", PROFILE, "MemoryImplausible",
          changed(PROFILE_FILE, sixty_gigabytes)),
    Fault("the profile has another name", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, model_id="someone/else")),
    Fault("the precision is one of four bits", PROFILE, "PrecisionMismatch",
          edited(PROFILE_FILE, precision="fp4")),
    Fault("the profile tells of four bits in training", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, quantization_info={"load_in_4bit": True})),
    Fault("the profile's loss is true", PROFILE, "WrongType",
          edited(PROFILE_FILE, "training_info", train_loss=True)),
    Fault("the profile's step is a word", PROFILE, "WrongType",
          edited(PROFILE_FILE, "training_info", global_step="many")),
    Fault("the server is told to run code", PROFILE, "ServingUnsafe",
          edited(PROFILE_FILE, engine_args={"trust-remote-code": True})),
    Fault("the server is told to read pickles", PROFILE, "ServingUnsafe",
          edited(PROFILE_FILE, engine_args={"load-format": "pt"})),
    Fault("the server is told of fewer GPUs than none", PROFILE, "ServingUnsafe",
          edited(PROFILE_FILE, engine_args={"tensor_parallel_size": -4})),
    Fault("the server is told to load a library", PROFILE, "ServingUnsafe",
          edited(PROFILE_FILE, env_vars={"LD_PRELOAD": "/x.so"})),
    Fault("the context is huge", PROFILE, "ContextImplausible",
          edited(PROFILE_FILE, context_tokens=10**12)),
    Fault("the profile has another scale", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, "lora_config", lora_alpha=1)),
    Fault("the profile is of a larger model", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, parameters="7.0B")),
    Fault("a number of the profile is none of JSON", PROFILE, "WrongType",
          edited(PROFILE_FILE, note=float("nan"))),
    Fault("the profile is of an adapter on other layers", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, "lora_config", target_modules=["lm_head"])),
    Fault("the profile has lost its adapter", PROFILE, "RunMismatch",
          without(PROFILE_FILE, "lora_config")),
    Fault("the server is told another model", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, engine_args={"model": "other/model"})),
    Fault("the server is told the untuned model", PROFILE, "RunMismatch",
          changed(PROFILE_FILE, lambda x: x.update(engine_args={"model": x["base_model_id"]})),
          run=FULL),
    Fault("the server is told a context beyond the model's positions", PROFILE,
          "ContextImplausible", edited(PROFILE_FILE, engine_args={"max-model-len": 1_000_000})),
    Fault("the server is told of more GPUs than there are", PROFILE, "GpusMismatch",
          edited(PROFILE_FILE, engine_args={"tensor-parallel-size": 8},
                 metadata={"gpu_count": 1})),
    Fault("the profile tells a better loss", PROFILE, "RunMismatch",
          edited(PROFILE_FILE, "training_info", final_loss=0.001)),
)  # fmt: skip

OUTPUTS: tuple[Fault, ...] = (
    Fault("every lora_B is a zero below zero", OUTPUT, "AdapterUntrained",
          tensors(lambda x: x.update({n: v * -0.0 for n, v in x.items() if "lora_B" in n})),
          loads_model=True),
    Fault("what the trainer saw is removed", OUTPUT, "ReferenceMissing",
          without(INFO, "reference"), loads_model=True),
    Fault("what the trainer saw is cut", OUTPUT, "ReferenceMissing", shorter_reference,
          loads_model=True, told_nothing=True),
    Fault("weights are rounded to two places", OUTPUT, "NotAsTrained",
          tensors(two_places, MODEL), run=FULL, loads_model=True, told_nothing=True),
    Fault("the adapter has a tenth of noise", OUTPUT, "NotAsTrained", tensors(tenth_of_noise),
          loads_model=True, told_nothing=True),
    Fault("the adapter needs a setting that is not carried over", OUTPUT, "ModelLoadFailed",
          edited("adapter_config.json", init_lora_weights="pissa"), loads_model=True),
    Fault("every lora_A is zero", OUTPUT, "AdapterUntrained", tensors(zero_first_matrices),
          loads_model=True),
    Fault("the weights are the base model's, rounded", OUTPUT, "SameAsBase", halved_base,
          run=FULL, loads_model=True),
    Fault("the tokenizer is a link out of the folder", OUTPUT, "NotAFile", linked_tokenizer,
          loads_model=True),
    Fault("the tokenizer cuts texts otherwise", OUTPUT, "TokenizerDiffers",
          changed("tokenizer.json", reversed_merges), loads_model=True),
    Fault("the chat template never ends", OUTPUT, "TemplateBroken", endless_template,
          loads_model=True),
    Fault("the chat template writes without end", OUTPUT, "TemplateBroken",
          edited(TEMPLATE, chat_template="{{ 'a ' * 3000000 }}"), loads_model=True),
    Fault("the chat template refuses", OUTPUT, "TemplateBroken",
          edited(TEMPLATE, chat_template="{{ raise_exception('no') }}"), loads_model=True),
    Fault("the chat template leaves the question out", OUTPUT, "TemplateBroken",
          edited(TEMPLATE, chat_template="hello"), loads_model=True),
    Fault("the configuration names a kernel of the Hub", OUTPUT, "ModelLoadFailed",
          edited("config.json", _attn_implementation="someone/kernel"), run=FULL,
          loads_model=True),
)  # fmt: skip
