"""Train a job once for each combination of some settings, and rank them by their held-out loss.

Usage: python examples/sweeps/sweep.py JOB.yaml --vary PATH=VALUE,VALUE [--vary …] [-n NAMESPACE]
       python examples/sweeps/sweep.py JOB.yaml --vary PATH=VALUE,VALUE --local [-- OPTION …]

PATH is a field below `spec`, such as hyperparameters.learningRate. The jobs are called <job>-1,
<job>-2 and so on. In the cluster of the kubeconfig all of them are created, or none, and the
scheduler or Kueue decides which run together; the same command again takes up those that are there.
With --local they run here, one after the other, by `finetuning run` with the OPTIONs that it needs.
"""

import argparse
import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase
from finetuning.client import FineTuningClient
from finetuning.client.errors import ClientError, JobNotFoundError
from finetuning.controller import publications
from finetuning.local.manifest import load
from finetuning.local.problems import InputError

Varied = tuple[str, list[Any]]
LABEL = "sweep"
"""Of all trials, with the name of the job that they vary."""


_MAY_CHANGE = {"suspend", "ttl_seconds_after_finished", "validation", "output"}


class SweepError(Exception):
    """What cannot be swept, and what to do."""


@dataclass(frozen=True)
class Trial:
    """One combination of the settings, and the job that trains it."""

    settings: Mapping[str, Any]
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True)
class Outcome:
    """What became of a trial; without a loss it says why."""

    trial: Trial
    loss: float | None
    """On the held-out rows, in nats per token."""
    verdict: str
    why: str


def variation(text: str) -> Varied:
    """`path=value,value`; the values are JSON where they can be read so, such as ["a"],["b"]."""
    path, _, values = text.partition("=")
    if not path or not values.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH=VALUE,VALUE")
    return path.removeprefix("spec."), _values(values)


def _values(text: str) -> list[Any]:
    try:
        return list(json.loads(f"[{text}]"))
    except ValueError:
        return [_value(each) for each in text.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def trials_of(file: Path, varied: Sequence[Varied]) -> list[Trial]:
    """Those of the one job in a manifest, which is read as `finetuning` reads it."""
    found = load(file)
    if found.config_maps or found.ignored:
        raise SweepError(f"{file}: holds other objects too; leave the FineTuningJob in it")
    return trials(found.document.body, varied)


def trials(body: dict[str, Any], varied: Sequence[Varied]) -> list[Trial]:
    """A valid job for each combination; raises SweepError for one that would be refused."""
    names = [path for path, _ in varied]
    combinations = itertools.product(*(values for _, values in varied))
    found = [
        _trial(body, dict(zip(names, values, strict=True)), number)
        for number, values in enumerate(combinations, start=1)
    ]
    first = FineTuningJob.from_body(found[0].body).spec
    if not first.dataset.eval_split and not first.dataset.eval_source:
        raise SweepError("trials are ranked by held-out rows: set dataset.evalSplit, such as 0.1")
    if first.output.storage.sub_path:
        raise SweepError("output.storage.subPath would be one folder for all trials: leave it out")
    if len(found) > 1 and (place := _shared_place(found)):
        raise SweepError(
            f"output.publish: {place} would be one place for all trials, of which the last one "
            "stays: leave it out, and give it to the best one afterwards"
        )
    return found


def _shared_place(found: Sequence[Trial]) -> str | None:
    """Where more than one trial would be published to."""
    jobs = [FineTuningJob.from_body(each.body) for each in found]
    wishes = [wish for job in jobs if (wish := publications.asked(job)) is not None]
    uris = [place.uri for each in wishes for place in (each.s3, each.oci, each.hub) if place]
    return next((uri for uri in uris if uris.count(uri) > 1), None)


def _trial(body: dict[str, Any], settings: Mapping[str, Any], number: int) -> Trial:
    new = copy.deepcopy(body)
    meta = new["metadata"]
    meta["labels"] = {**meta.get("labels", {}), LABEL: meta["name"]}
    meta["name"] += f"-{number}"
    for path, value in settings.items():
        *parents, last = path.split(".")
        place = new["spec"]
        try:
            for name in parents:
                place = place.setdefault(name, {})
            place[last] = value
        except (AttributeError, TypeError):
            raise SweepError(f"{path}: leads through a value that has no fields") from None
    try:
        FineTuningJob.from_body(new)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SweepError(f"{_told(settings)}: {where}: {first['msg']}") from error
    return Trial(settings, new)


def in_a_cluster(found: Sequence[Trial], namespace: str | None) -> list[Outcome]:
    """Create those that are not there yet, all or none of them, then wait for each."""
    there = namespace or found[0].body["metadata"].get("namespace")
    with FineTuningClient(namespace=there) as client:
        _create(client, [trial for trial in found if not _is_there(client, trial)])
        return [_awaited(client, trial) for trial in found]


def _create(client: FineTuningClient, new: Sequence[Trial]) -> None:
    """All or none: a quota may have room for each of them, and not for all."""
    for trial in new:
        client.submit(trial.body, dry_run=True)
    made: list[str] = []
    try:
        for trial in new:
            client.submit(trial.body)
            made.append(trial.name)
    except ClientError:
        for name in made:
            client.delete(name)
        raise


def _is_there(client: FineTuningClient, trial: Trial) -> bool:
    """Made by this sweep before; raises SweepError for another job of the name."""
    try:
        job = client.get(trial.name)
    except JobNotFoundError:
        return False
    if _lasting(job) != _lasting(FineTuningJob.from_body(trial.body)):
        raise SweepError(
            f"{trial.name}: there is a job of that name with other settings, and no trial was "
            "made; delete it, or choose another metadata.name"
        )
    return True


def _lasting(job: FineTuningJob) -> dict[str, Any]:
    """What makes the model; a trial may be paused meanwhile, or published as the best one."""
    spec = job.spec.model_dump(exclude=_MAY_CHANGE)
    output = job.spec.output.model_dump(exclude={"publish", "serve"})
    return {**spec, "output": output}


def _awaited(client: FineTuningClient, trial: Trial) -> Outcome:
    """Of a trial that somebody deleted meanwhile there is none, and the others count."""
    try:
        return outcome(trial, client.wait(trial.name).status)
    except JobNotFoundError:
        return Outcome(trial, None, "", "it was deleted")


def here(found: Sequence[Trial], options: Sequence[str]) -> list[Outcome]:
    """One after the other; each leaves runs/<job>.yaml and its run in runs/<job>."""
    return [outcome(trial, _run(trial, options)) for trial in found]


def _run(trial: Trial, options: Sequence[str]) -> FineTuningJobStatus:
    """By the same Python; raises SweepError where it left no status of its own."""
    output = Path("runs", trial.name)
    before = _written(output)
    manifest = output.with_name(f"{trial.name}.yaml")
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text(yaml.safe_dump(trial.body), encoding="utf-8")
    command = [sys.executable, "-m", "finetuning.cli", "run", str(manifest), *options]
    done = subprocess.run([*command, "--output", str(output)], check=False)
    if done.returncode and _written(output) == before:
        raise SweepError(f"{trial.name}: `finetuning run` says above why it did not begin")
    text = (output / "status.json").read_text(encoding="utf-8")
    return FineTuningJobStatus.model_validate_json(text)


def _written(output: Path) -> int | None:
    """When the status was written; of a folder with another run's result it stays what it was."""
    status = output / "status.json"
    return status.stat().st_mtime_ns if status.exists() else None


def outcome(trial: Trial, status: FineTuningJobStatus) -> Outcome:
    """A trial counts when it was trained to its end, whatever its verdict says."""
    verdict = status.validation.result if status.validation is not None else ""
    if status.phase is Phase.SUCCEEDED and status.eval_loss is not None:
        return Outcome(trial, status.eval_loss, verdict, "")
    return Outcome(trial, None, verdict, f"{status.reason}: {status.message}")


def ranked(found: Iterable[Outcome]) -> list[Outcome]:
    """Best first; those without a loss at the end."""
    return sorted(found, key=lambda each: float("inf") if each.loss is None else each.loss)


def line(found: Outcome) -> str:
    loss = "-" if found.loss is None else f"{found.loss:.4f}"
    told = f"{found.trial.name:24} {loss:>10} {found.verdict or '-':>10}  "
    return told + _told(found.trial.settings) + (f"  {found.why}" if found.why else "")


def _told(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in settings.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("job", type=Path, help="manifest of one FineTuningJob")
    parser.add_argument(
        "--vary", type=variation, action="append", required=True, help="PATH=VALUE,VALUE"
    )
    parser.add_argument("-n", "--namespace", help="in the cluster; else the current context's")
    parser.add_argument("--local", action="store_true", help="run here, without a cluster")
    return parser


def _parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What follows `--` is for `finetuning run`."""
    own = list(itertools.takewhile(lambda each: each != "--", arguments))
    return _parser().parse_args(own), list(arguments[len(own) + 1 :])


def main(arguments: list[str] | None = None) -> int:
    """0 when a trial has a loss, 1 when none has, 2 for what cannot be swept."""
    given, options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        found = trials_of(given.job, given.vary)
        made = here(found, options) if given.local else in_a_cluster(found, given.namespace)
    except (SweepError, ClientError, InputError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep: stopped; the same command takes its trials up again", file=sys.stderr)
        return 130
    print(f"{'JOB':24} {'EVAL LOSS':>10} {'VALIDATED':>10}  SETTINGS")
    for each in ranked(made):
        print(line(each))
    return 0 if any(each.loss is not None for each in made) else 1


if __name__ == "__main__":
    sys.exit(main())
