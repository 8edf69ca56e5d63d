"""`finetuning init`: its arguments."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  finetuning init
      Asks for model, method, data and name, and writes job.yaml.

  finetuning init --model Qwen/Qwen2.5-7B-Instruct --data train.jsonl
      Without a question. A small file that is here becomes a ConfigMap; how is said.

  finetuning init qwen.yaml --model Qwen/Qwen2.5-7B-Instruct --source pvc://models/qwen \\
      --data pvc://data/train.jsonl --method full --claim tuned-models
      Weights and data from claims, the result into one that outlives the job.

  finetuning init - --model a/b --data hf://a/rows | kubectl apply -f -
      On stdout.

exit codes:
  0 written     1 the file cannot be written
  2 something is wrong or missing, or the file exists     130 interrupted
"""
HELP = "write a first job.yaml, from options or answers"
DESCRIPTION = """\
Write a manifest that the API server accepts, with settings that suit method and objective and
a comment on what to look at. A file that exists is replaced with --force only."""
_FIELDS = (
    "model", "data", "name", "namespace", "method", "objective", "source", "token_secret",
    "columns", "eval_split", "epochs", "batch_size", "max_seq_length", "learning_rate", "claim",
    "size",
)  # fmt: skip


def add_arguments(init: argparse.ArgumentParser) -> None:
    init.add_argument(
        "file", nargs="?", type=Path, default=Path("job.yaml"), metavar="FILE",
        help="default: job.yaml; - is stdout, without questions",
    )  # fmt: skip
    init.add_argument("--force", action="store_true", help="replace a file that exists")
    _add_subject(init)
    _add_training(init)
    init.add_argument("--claim", metavar="NAME", help="an existing claim for the result")
    init.add_argument("--size", metavar="AMOUNT", help="of the job's own claim (default: 50Gi)")


def _add_subject(init: argparse.ArgumentParser) -> None:
    init.add_argument("--model", metavar="ID", help="Hugging Face id of the base model")
    init.add_argument(
        "--source", metavar="pvc://CLAIM/FOLDER", help="its weights, when not from the Hub"
    )
    init.add_argument(
        "--token-secret", type=_secret, metavar="NAME=KEY", help="Secret with a Hub token"
    )
    init.add_argument(
        "--data", metavar="SOURCE",
        help="a file here, configmap:<name>:<key>, pvc://<claim>/<path>, s3://<bucket>/<path> or "
        "hf://<org>/<name>",
    )  # fmt: skip
    init.add_argument(
        "--columns", type=_column, nargs="+", metavar="NAME=COLUMN",
        help="which column of the data is which, such as prompt=question completion=answer",
    )  # fmt: skip
    init.add_argument("--name", help="of the job (default: from model and method)")
    init.add_argument("-n", "--namespace", metavar="NAME", help="written into the manifest")


def _add_training(init: argparse.ArgumentParser) -> None:
    init.add_argument("--method", choices=("lora", "qlora", "full"), help="default: lora")
    init.add_argument(
        "--objective", choices=("sft", "dpo"), help="answers, or preferences (default: sft)"
    )
    init.add_argument("--learning-rate", type=float, metavar="RATE", help="default: by method")
    init.add_argument("--epochs", type=int, metavar="N", help="default: 3")
    init.add_argument("--batch-size", type=int, metavar="ROWS", help="default: 4")
    init.add_argument("--max-seq-length", type=int, metavar="TOKENS", help="default: 2048")
    init.add_argument(
        "--eval-split", type=float, metavar="SHARE", help="held out; 0 for none (default: 0.1)"
    )


def _secret(text: str) -> tuple[str, str]:
    name, equals, key = text.partition("=")
    if not (name and equals and key):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=KEY, such as hf=token")
    return name, key


def _column(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=COLUMN, such as prompt=question")
    return name, column


def execute(given: argparse.Namespace) -> int:
    from finetuning.scaffold import command  # noqa: PLC0415 - pydantic
    from finetuning.scaffold.answers import Answers  # noqa: PLC0415

    said = {name: getattr(given, name) for name in _FIELDS if getattr(given, name) is not None}
    options = command.Options(given.file, Answers(**said), frozenset(said), given.force)
    return command.main(options)
