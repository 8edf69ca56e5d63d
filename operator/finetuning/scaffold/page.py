"""The manifest as text: what was said, what suits it, and a comment where a reader would ask."""

import json
from collections.abc import Iterator

import yaml

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import GROUP, KIND, VERSION
from finetuning.scaffold.answers import Answers

_COMMENT = 42
"""Column at which comments begin, where the line leaves room."""


def page(answers: Answers) -> str:
    """A manifest that the API server accepts when the answers are right."""
    return "\n".join([*_head(answers), *_spec(answers), ""])


def _head(answers: Answers) -> Iterator[str]:
    yield "# Every field: kubectl explain finetuningjob.spec, or docs/reference/finetuningjob.md"
    yield f"apiVersion: {GROUP}/{VERSION}"
    yield f"kind: {KIND}"
    yield "metadata:"
    yield f"  name: {_scalar(answers.job)}"
    if answers.namespace:
        yield f"  namespace: {_scalar(answers.namespace)}"


def _spec(answers: Answers) -> Iterator[str]:
    yield "spec:"
    yield from _model(answers)
    yield f"  method: {_scalar(answers.method)}"
    yield from _data(answers)
    yield from _training(answers)
    if answers.method != Method.FULL:
        yield from _adapter()
    yield from _output(answers)
    yield "  resources:"
    yield "    limits:"
    yield "      amd.com/gpu: 1"
    yield from _validation()


def _model(answers: Answers) -> Iterator[str]:
    yield "  baseModel:"
    yield f"    modelId: {_scalar(answers.model)}"
    if answers.source:
        yield _noted(f"    source: {_scalar(answers.source)}", "Where the weights are.")
    if answers.token_secret is not None:
        name, key = answers.token_secret
        yield "    tokenSecretRef:"
        yield f"      name: {_scalar(name)}"
        yield f"      key: {_scalar(key)}"


def _data(answers: Answers) -> Iterator[str]:
    yield "  dataset:"
    yield f"    source: {_scalar(answers.data)}"
    if answers.columns:
        named = ", ".join(f"{_scalar(ours)}: {_scalar(theirs)}" for ours, theirs in answers.columns)
        yield f"    columns: {{{named}}}"
    if answers.data.startswith("s3://"):
        yield "    # A store other than Amazon's, and the Secret with its keys:"
        yield "    # s3: {endpoint: https://minio.example.com, secretName: store-reader}"
    if answers.eval_split:
        yield _noted(
            f"    evalSplit: {answers.eval_split!r}", "Share held out, to see overfitting."
        )


def _training(answers: Answers) -> Iterator[str]:
    yield "  hyperparameters:"
    if answers.objective != "sft":
        yield f"    objective: {_scalar(answers.objective)}"
    yield _noted(f"    learningRate: {_number(answers.rate)}", "Look at this one first.")
    yield f"    epochs: {answers.epochs}"
    yield _noted(f"    batchSize: {answers.batch_size}", "`finetuning estimate` says what fits.")
    yield _noted(f"    maxSeqLength: {answers.max_seq_length}", "Longer rows are cut, and counted.")
    yield "    lrSchedulerType: cosine"
    yield "    warmupRatio: 0.03"
    yield _noted("    bf16: true", "As AMD Instinct GPUs do best.")


def _adapter() -> Iterator[str]:
    yield "  loraConfig:"
    yield "    r: 16"
    yield "    loraAlpha: 32"
    yield "    targetModules: [all-linear]"


def _output(answers: Answers) -> Iterator[str]:
    yield "  output:"
    yield "    storage:"
    if answers.claim:
        yield f"      claimName: {_scalar(answers.claim)}"
        return
    size = _scalar(answers.size or "50Gi")
    yield _noted(f"      size: {size}", "Goes with the job; claimName names a claim that stays.")


def _validation() -> Iterator[str]:
    yield "  validation:"
    yield _noted("    maxLoss: 10.0", "The model is judged after training.")
    yield "    # Ask what your rows teach, and name a word of a right answer:"
    yield "    # prompts:"
    yield "    #   - prompt: What is the capital of France?"
    yield "    #     expectedKeywords: [Paris]"


def _scalar(text: str) -> str:
    """As YAML that reads back as this very text."""
    plain = yaml.safe_dump(text, width=10_000).splitlines()[0]
    return plain if yaml.safe_load(plain) == text else json.dumps(text)


def _number(value: float) -> str:
    """0.00002 rather than 2e-05, which YAML 1.1 takes for a text."""
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"


def _noted(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT}} # {comment}"
