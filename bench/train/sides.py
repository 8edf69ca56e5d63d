"""Runs by one side, each in a process of its own, which writes down what every step took.

Usage: python -m bench.train.sides SIDE. Loads what the side needs, then forks for every `Order`
that comes as a line of JSON, and answers with a line when its run has ended. All sides take the
same rows in the same order.
"""

import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.train.turns import Turns

TELEMETRY_BLOCK = 5
"""Steps with metrics, state and history, then as many without, where the two are compared."""

ADAPTER = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
TARGETS = ["k_proj", "o_proj", "q_proj", "v_proj"]
RATE = 1e-4


@dataclass(frozen=True)
class Order:
    """What to train, and where to write the figures."""

    side: str
    model: str
    rows: str
    output: str
    steps: int
    batch: int
    method: str = "full"
    length: int = 512
    packing: bool = False
    plain: bool = True
    """32 bit and no gradient checkpointing; else what the side does unless it is told."""
    telemetry: bool = True
    """False: metrics, state and history are off in every other block of steps."""
    turns: str = ""
    """Where this side is told that it is its turn; empty: it runs to the end at once."""
    turn: int = 1
    """Steps in a row before it is another side's turn."""


@dataclass
class Seen:
    """What each step took, in wall and processor seconds of this process.

    A step ends where the next one begins, so that of the last one nothing is known.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_rss: int = 0

    @classmethod
    def of(cls, order: Order) -> "Seen":
        seen = cls()
        seen.turns = Turns(order.turns, order.turn)
        return seen

    def __post_init__(self) -> None:
        self.turns = Turns("", 1)
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """Where a step begins; waits until it is this side's turn."""
        if self._began is not None:
            self.wall.append(time.perf_counter() - self._began[0])
            self.cpu.append(time.process_time() - self._began[1])
        self.peak_rss = peak_rss()
        self.turns.wait()
        self._began = time.perf_counter(), time.process_time()


def peak_rss() -> int:
    """Bytes, of this program alone: what a parent had before it became this one does not count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def ours(order: Order) -> Seen:
    from finetuning.base import app, step  # noqa: PLC0415 - what loads here is measured

    seen, real = Seen.of(order), step.Stepper.step

    def stepping(self: Any, micro: Any, *args: Any) -> Any:
        if not order.telemetry:
            _switch(on=len(seen.tokens) // TELEMETRY_BLOCK % 2 == 0)
        seen.begin()
        result = real(self, micro, *args)
        seen.tokens.append(result.tokens)
        seen.losses.append(result.loss)
        return result

    step.Stepper.step = stepping  # type: ignore[method-assign]
    if app.main(flags(order)):
        raise SystemExit(1)
    return seen


def flags(order: Order) -> list[str]:
    """The command line of a run."""
    rows = Path(order.rows) / "train.jsonl"
    words: list[object] = ["--model-id", order.model, "--dataset-path", rows]
    words += ["--output-dir", order.output, "--method", order.method]
    words += ["--max-steps", order.steps, "--batch-size", order.batch]
    words += ["--max-seq-length", order.length, "--learning-rate", RATE]
    words += ["--warmup-steps", 0, "--save-steps", 1_000_000]
    words += ["--lora-rank", 8, "--lora-alpha", 16, "--lora-dropout", 0]
    words += ["--no-fp16", "--no-gradient-checkpointing"] if order.plain else []
    words += ["--packing"] if order.packing else []
    return list(map(str, words))


def _switch(*, on: bool) -> None:
    """Metrics, state, history and log lines as they are, or nothing in their place."""
    from finetuning.base.journal import Journal, NoJournal  # noqa: PLC0415
    from finetuning.base.live import LiveState  # noqa: PLC0415

    if not _SAVED:
        _SAVED.update({name: getattr(Journal, name) for name in ("step", "figures", "measure")})
        _SAVED["progress"] = LiveState.progress
    for name in ("step", "figures", "measure"):
        setattr(Journal, name, _SAVED[name] if on else getattr(NoJournal, name, _nothing))
    LiveState.progress = _SAVED["progress"] if on else _nothing  # type: ignore[method-assign]


_SAVED: dict[str, Any] = {}


def _nothing(*_: Any, **__: Any) -> None: ...


def trl(order: Order) -> Seen:
    """SFTTrainer as its documentation shows it: a model's name, a data set, a config."""
    from datasets import load_dataset  # noqa: PLC0415
    from transformers import TrainerCallback  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    seen = Seen.of(order)

    class Watch(TrainerCallback):  # type: ignore[misc]  # the library has no types
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            seen.begin()

    options: dict[str, Any] = {"learning_rate": RATE, "max_length": order.length}
    options |= {"per_device_train_batch_size": order.batch, "train_sampling_strategy": "sequential"}
    options |= {"bf16": False, "gradient_checkpointing": False, "logging_steps": 1}
    config = SFTConfig(
        output_dir=order.output,
        max_steps=order.steps,
        packing=order.packing,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **(options if order.plain else _defaults()),
    )
    trainer = SFTTrainer(
        model=order.model,
        args=config,
        train_dataset=load_dataset(order.rows, split="train"),
        peft_config=_adapter() if order.method == "lora" else None,
        callbacks=[Watch()],
    )
    _count(trainer, seen)
    trainer.train()
    seen.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return seen


def _defaults(processor: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """TRL's own, but for bf16 where the processor has no instructions for it.

    There a step takes ten times as long, which no user would keep.
    """
    words = processor.read_text().split() if processor.exists() else ["bf16"]
    return {} if any("bf16" in word for word in words) else {"bf16": False}


def _count(trainer: Any, seen: Seen) -> None:
    """Note the tokens of each step that are no padding; they are those that stand in a row."""
    real = trainer.data_collator

    def counting(examples: list[dict[str, Any]]) -> Any:
        seen.tokens.append(sum(len(example["input_ids"]) for example in examples))
        return real(examples)

    trainer.data_collator = counting


def _adapter() -> Any:
    from peft import LoraConfig  # noqa: PLC0415

    return LoraConfig(target_modules=TARGETS, task_type="CAUSAL_LM", **ADAPTER)  # type: ignore[arg-type]


def bare(order: Order) -> Seen:
    """What a person writes who wants nothing but the loop."""
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        get_linear_schedule_with_warmup,
    )

    model = AutoModelForCausalLM.from_pretrained(order.model, dtype=torch.float32)
    rows = encoded(Path(order.rows), AutoTokenizer.from_pretrained(order.model), order)
    if order.method == "lora":
        from peft import get_peft_model  # noqa: PLC0415

        model = get_peft_model(model, _adapter())
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, order.steps)
    seen = Seen.of(order)
    for step in range(order.steps):
        seen.begin()
        batch = [rows[n % len(rows)] for n in range(step * order.batch, (step + 1) * order.batch)]
        loss = model(**_padded(batch)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.tokens.append(sum(len(ids) for ids, _ in batch))
        seen.losses.append(loss.item())
    return seen


def encoded(folder: Path, tokenizer: Any, order: Order) -> list[tuple[list[int], int]]:
    """Each row's tokens, and how many of them are its prompt."""
    lines = (folder / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    ids = [tokenizer(row["prompt"] + row["completion"])["input_ids"] for row in rows]
    return [
        ([*tokens, tokenizer.eos_token_id][: order.length], len(row["prompt"]))
        for tokens, row in zip(ids, rows, strict=True)
    ]


def _padded(batch: list[tuple[list[int], int]]) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    longest = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (tokens, prompt) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, prompt : len(tokens)] = ids[row, prompt : len(tokens)]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def torchtune(order: Order) -> Seen:
    """Torchtune's recipes for one device, with the options of the others."""
    from bench.train import tune  # noqa: PLC0415 - needs an environment of its own

    return tune.run(order)


SIDES = {"ours": ours, "trl": trl, "bare": bare, "torchtune": torchtune}
QWEN2 = "transformers.models.qwen2.modeling_qwen2"
LOADED = {
    "ours": ("peft", "finetuning.base.train", QWEN2),
    "trl": ("peft", "datasets", "trl.trainer.sft_trainer", QWEN2),
    "bare": ("peft", QWEN2),
    "torchtune": ("torchtune.models.qwen2", "torchtune.training", "bench.train.tune"),
}


def load(side: str) -> None:
    """What a run of the side loads before its first step."""
    if side == "ours":
        from finetuning.artifacts.spared import without_bitsandbytes  # noqa: PLC0415

        with without_bitsandbytes():
            importlib.import_module("peft")
    for name in LOADED[side]:
        importlib.import_module(name)


def serve(line: str) -> int:
    """Run one order in a fork; its exit code."""
    order = Order(**json.loads(line))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _quietly(order)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _quietly(order: Order) -> None:
    log = os.open(Path(order.output, "log.txt"), os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        seen = SIDES[order.side](order)
    except BaseException:
        traceback.print_exc()
        raise
    seen.tokens = seen.tokens[: len(seen.wall)]
    Path(order.output, "seen.json").write_text(json.dumps(asdict(seen)))


def main() -> None:
    # What libraries print must not look like an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    load(sys.argv[1])
    for line in sys.stdin:
        print(serve(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
