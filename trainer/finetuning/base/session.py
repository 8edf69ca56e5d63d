"""From what was typed to an exit code and last words.

Everything that can be wrong without torch is found before torch is loaded.
"""

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from finetuning.api.hyperparameters import Method
from finetuning.api.run_config import RunConfig
from finetuning.artifacts import AIM_PROFILE, CHECKPOINTS_DIR, STATE_DIR, TRAINING_INFO, leaving
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.data_report import DataReport
from finetuning.artifacts.exits import ExitCode, TrainFailure
from finetuning.artifacts.failures import DatasetError, TrainerError
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.artifacts.plain import harmless
from finetuning.artifacts.spared import load, without_bitsandbytes
from finetuning.base import console, data_report, environment, folder_lock, reading, tracking
from finetuning.base.errors import ConfigError, InterruptedRun, WorkerLostError
from finetuning.base.facts import Facts, differences, facts_of
from finetuning.base.hub import local_folder, refuse_four_bit, require_weights, settings_folder
from finetuning.base.last_words import (
    figures_in,
    figures_of,
    finished_result,
    paused_early,
    said,
    say,
)
from finetuning.base.live import LiveState
from finetuning.base.options import Options, options_of, parse
from finetuning.base.rank import Rank
from finetuning.base.reading import RunRows
from finetuning.base.results import finished_info, foreign_files, remove_run
from finetuning.base.run import Run
from finetuning.base.stop import Stop
from finetuning.base.storage import writable_folder
from finetuning.base.wording import in_the_users_words

if TYPE_CHECKING:
    from finetuning.monitoring.metrics import FineTuningMetricsExporter

log = logging.getLogger("finetuning")


def run(given: argparse.Namespace) -> int:
    """Train as the flags in `given` say; the exit code is one of artifacts.exits.ExitCode."""
    environment.prepare()
    console.set_up()
    try:
        options = options_of(given)
        rank = Rank.read(os.environ)
    except TrainerError as error:
        return _failed(error, None)
    if not rank.alone:
        environment.end_with_launcher()
    if options.check_data:
        leaving.hear()
    if rank.leads:
        return _leading(options, rank)
    console.quiet(rank.number)
    return 0 if options.check_data else _taking_part(options, rank)


def _leading(options: Options, rank: Rank) -> int:
    """The process that writes; mostly the only one."""
    try:
        tracking.require(options.config, os.environ)
        output = _output_folder(options.config)
        lock = folder_lock.take(output, os.environ, launched=not rank.alone)
    except TrainerError as error:
        return _failed(error, None)
    except InterruptedRun:
        return int(ExitCode.INTERRUPTED)
    try:
        if options.check_data:
            return _check(options.config, output)
        return _locked(options, output, _live(options, output), rank)
    finally:
        os.close(lock)


def _live(options: Options, output: Path) -> LiveState:
    """Silent where a finished run has told its end: what follows repeats it or is refused."""
    live = LiveState(Path(options.config.state_dir or output / STATE_DIR).expanduser())
    ended = live.found is not None and live.found.state is RunState.FINISHED
    live.reports = not ended or options.overwrite or finished_info(output) is None
    return live


def _taking_part(options: Options, rank: Rank) -> int:
    """One of the other processes: it reads and computes, and writes nothing."""
    output = Path(options.config.output_dir).expanduser()
    quiet = replace(options, metrics_port=None)
    return _locked(quiet, output, LiveState(output / STATE_DIR, reports=False), rank)


def _check(config: RunConfig, output: Path) -> int:
    """Every row as a run would read it, and nothing else."""
    try:
        found = _read(config, output)
        with without_bitsandbytes():
            load("finetuning.base.data", "transformers.modeling_utils")
        from finetuning.base.data import prepare  # noqa: PLC0415 - loads torch
        from finetuning.base.model import load_tokenizer  # noqa: PLC0415 - loads torch
        from finetuning.base.outline import outline_of  # noqa: PLC0415 - loads torch

        settings = settings_folder(config)
        outline = outline_of(settings)
        tokenizer = load_tokenizer(settings)
        report = data_report.of(prepare(found, tokenizer, config, outline), config)
        if finished_info(output) is None:
            data_report.write(report, output)
    except TrainerError as error:
        return _failed(error, None)
    _print_check(report)
    return int(ExitCode.OK)


def _print_check(report: DataReport) -> None:
    counts = f"{report.train_examples} examples to train on, {report.eval_examples} held out"
    lines = [f"{report.source}: {report.rows} rows, {counts}", *data_report.findings(report)]
    print("\n".join(f"{line}." for line in lines))  # noqa: T201 - the outcome, for people


def _locked(options: Options, output: Path, live: LiveState, rank: Rank) -> int:
    """Run, and turn whatever comes of it into last words and an exit code."""
    many = not rank.alone
    # Who leaves before it has met the others leaves them waiting.
    stop = Stop(launched=many, waits=many, in_vain=lambda: _failure_of_another() is not None)
    with stop.handling():
        try:
            with stop.interrupting(), _metrics(options, live.folder, output):
                live.event(RunState.STARTING)
                result = _run(options, output, live, stop, rank)
        except TrainerError as error:
            return _failed(error, live)
        except InterruptedRun:
            result = paused_early(output)
        except Exception as error:
            log.exception("The trainer failed unexpectedly.")
            return _failed(TrainerError(f"{type(error).__name__}: {error}"), live)
        if rank.leads:
            return _ended(result, options, live, rank)
        return int(ExitCode.INTERRUPTED if result.result is RunState.PAUSED else ExitCode.OK)


def _run(options: Options, output: Path, live: LiveState, stop: Stop, rank: Rank) -> TrainingResult:
    config = options.config
    found = _read(config, output, writes=rank.leads)
    facts = facts_of(config, *found.digests(), rank.of)
    if options.overwrite and rank.leads:
        remove_run(output)
    _refuse_foreign(output)
    # What is being deleted says nothing.
    done = None if options.overwrite else finished_info(output)
    if done is not None:
        changed = _changed(done, facts, config)
        if changed:
            raise ConfigError(f"--output-dir {output}: {_not_this_run(changed)}")
        log.info("%s holds the finished result of this very run; nothing to do.", output)
        live.progress(**figures_in(done))
        return finished_result(done, output)

    run = Run(config, output, settings_folder(config), found, facts)
    refuse_four_bit(run.settings, config.method)
    require_weights(config)

    log.info("Loading PyTorch and the model.")
    _load_libraries(config)
    from finetuning.base.train import train  # noqa: PLC0415 - loads torch

    return train(run, live, stop, rank)


def _changed(done: dict[str, Any], facts: Facts, config: RunConfig) -> list[str]:
    """What makes a finished result that of another run.

    The Hub is not asked: it may have another version of the model since, of which nobody knows.
    """
    changed = differences(done.get("training_config", {}), facts)
    folder = local_folder(config)
    with contextlib.suppress(ValidationError):
        told = BaseWeights.model_validate(done.get("base_weights"))
        if folder is not None and told.is_another(BaseWeights.of(folder)):
            changed.append("base_weights: those of the base model are others now")
    return changed


def _not_this_run(changed: list[str]) -> str:
    """What a finished result is in place of this run's, and what to do."""
    anew = "give another folder, or --overwrite-output-dir to begin anew"
    names = sorted({each.partition(":")[0] for each in changed})
    if not set(names) <= {"epochs", "max_steps"}:
        return f"holds the result of another run ({'; '.join(changed)}); {anew}"
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in names)
    return (
        f"holds the result of a run of another length ({'; '.join(changed)}). What has finished is "
        f"not trained further: its learning rate has come to its end. Set {flags} back to have "
        f"that result, {anew}"
    )


def _load_libraries(config: RunConfig) -> None:
    """All that takes long to load, at once."""
    own = {Method.FULL: (), Method.LORA: ("peft",), Method.QLORA: ("bitsandbytes", "peft")}
    with nullcontext() if config.method is Method.QLORA else without_bitsandbytes():
        load("finetuning.base.train", "transformers.modeling_utils", *own[config.method])


def _read(config: RunConfig, output: Path, *, writes: bool = True) -> RunRows:
    """The rows of the run; what is wrong with the others is written down also when none may be.

    Raises:
        DatasetError: there are none, or bad ones that the policy does not allow.
    """
    found = reading.read(config)
    try:
        found.settle(config.dataset)
    except DatasetError:
        if writes and finished_info(output) is None:
            data_report.write(data_report.of_rows(found), output)
        raise
    return found


def finished_already(argv: list[str]) -> bool:
    """Whether the output folder holds the result of this very run, so that no others are needed.

    What is wrong with the arguments or the data is left to the run itself to say.
    """
    with contextlib.suppress(TrainerError):
        options = parse(argv)
        output = Path(options.config.output_dir).expanduser()
        done = None if options.overwrite or options.check_data else finished_info(output)
        if done is None:
            return False
        found = _read(options.config, output, writes=False)
        processes = int(done.get("training_config", {}).get("processes", 1))
        facts = facts_of(options.config, *found.digests(), processes)
        return not _changed(done, facts, options.config)
    return False


def _refuse_foreign(output: Path) -> None:
    """The result would replace these files, and nobody could have them back."""
    if foreign := foreign_files(output):
        raise ConfigError(
            f"--output-dir {output}: holds {foreign[0]}, which no run of this trainer wrote; "
            "give an empty folder"
        )


def _output_folder(config: RunConfig) -> Path:
    """Where the result goes; raises TrainerError before anything is written there."""
    output = Path(config.output_dir).expanduser()
    base = Path(config.model_path or config.model_id).expanduser()
    if base.resolve() == output.resolve():
        raise ConfigError(
            f"--output-dir {output}: is the base model's own folder; give another one"
        )
    return writable_folder(output, "--output-dir")


@contextmanager
def _metrics(options: Options, state_dir: Path, output: Path) -> Iterator[None]:
    """Serve the metrics while the trainer works, from before the seconds that torch takes."""
    if options.metrics_port is None:
        yield
        return
    exporter = _exporter(options, options.metrics_port, state_dir, output)
    try:
        exporter.start_server()
    except OSError as error:
        raise ConfigError(
            f"--metrics-port {options.metrics_port}: {error.strerror}; give a free port, or end "
            "what listens there"
        ) from error
    log.info("Metrics at http://localhost:%d/metrics", options.metrics_port)
    try:
        yield
    finally:
        exporter.stop_server()


def _exporter(
    options: Options, port: int, state_dir: Path, output: Path
) -> "FineTuningMetricsExporter":
    from finetuning.monitoring.metrics import (  # noqa: PLC0415 - only with --enable-metrics
        FineTuningMetricsExporter,
    )

    config = options.config
    return FineTuningMetricsExporter(
        port=port,
        job_name=config.job_name,
        model_id=config.model_id,
        method=config.method.value,
        state_dir=state_dir,
        training_info=output / TRAINING_INFO,
    )


def _failed(error: TrainerError, live: LiveState | None) -> int:
    text = harmless(in_the_users_words(str(error), os.environ))
    log.error("error: %s", text)
    reason = TrainFailure(error.reason)
    if live is not None:
        live.end(RunState.FAILED, reason, text)
    words = TrainingResult(result=RunState.FAILED, reason=reason, message=text[:1024])
    say(words, live, unless_said=isinstance(error, WorkerLostError))
    return int(error.exit_code)


def _ended(result: TrainingResult, options: Options, live: LiveState, rank: Rank) -> int:
    if result.result is RunState.PAUSED and not rank.alone and (failure := _failure_of_another()):
        live.end(RunState.FAILED, failure.reason, failure.message)
        return int(ExitCode.INTERRUPTED)
    live.end(result.result, **figures_of(result))
    say(result, live)
    if result.result is RunState.PAUSED:
        where = result.checkpoint or "nothing was trained yet"
        how = "the same command" + (" without --overwrite-output-dir" * options.overwrite)
        log.info("Paused at step %d (%s); %s continues.", result.step, where, how)
        return int(ExitCode.INTERRUPTED)
    print(_summary(result, options.config))  # noqa: T201 - the outcome, for people and scripts
    return int(ExitCode.OK)


def _failure_of_another() -> TrainingResult | None:
    """Why the launcher stops this process, where it does: another one has ended before it."""
    words = said()
    return words if words and words.result is RunState.FAILED else None


def _summary(result: TrainingResult, config: RunConfig) -> str:
    output = config.output_dir.rstrip("/")
    loss = "unknown" if result.loss is None else f"{result.loss:.4f}"
    held_out = "" if result.eval_loss is None else f", on held-out rows {result.eval_loss:.4f}"
    took = console.duration(result.train_seconds or 0)
    return f"""
Done: {result.step} steps in {took}, final loss {loss}{held_out}.
The {config.method} result is in {output}

Validate it:
  python3 -m finetuning.monitoring.validate_job \\
    --training-info {output}/{TRAINING_INFO} --model-path {output} \\
    --checkpoint-path {output}/{CHECKPOINTS_DIR} --profile-path {output}/{AIM_PROFILE}"""
