"""The recipe: one supervised fine-tuning run, read from top to bottom."""

import logging
import time
from contextlib import closing, nullcontext
from typing import Any

from finetuning.api.hyperparameters import Method, Objective
from finetuning.api.run_config import RunConfig
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.failures import TrainerError
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.artifacts.spared import without_bitsandbytes
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base import checkpoints, data_report, gpu
from finetuning.base.apart import without_masks
from finetuning.base.best import forget_if_gone, load_best
from finetuning.base.checkpoints import Checkpoint
from finetuning.base.compiled import as_written, compile_layers, explained, require_compiler
from finetuning.base.console import duration
from finetuning.base.data import Data, prepare
from finetuning.base.device import Device, choose
from finetuning.base.distribute import (
    distributed,
    form_of,
    is_sharded,
    place_of_the_whole,
    sharded,
    unwrapped,
)
from finetuning.base.dpo import DEFAULT_BETA, Dpo
from finetuning.base.errors import ConfigError
from finetuning.base.facts import binding_differences, differences
from finetuning.base.group import Group, SharedStop, joined
from finetuning.base.hub import weights_folder
from finetuning.base.last_words import result_of
from finetuning.base.live import LiveState
from finetuning.base.loop import Loop, counts_of
from finetuning.base.model import (
    add_adapter,
    freeze_beside_text,
    load_adapter,
    load_base,
    load_tokenizer,
)
from finetuning.base.outline import outline_of
from finetuning.base.packing import refuse_mixing, spare_masks
from finetuning.base.plan import Plan, warmup_of
from finetuning.base.pulse import beating
from finetuning.base.rank import Rank
from finetuning.base.report import Ending, write_result, write_run_info
from finetuning.base.run import Run
from finetuning.base.samples import Samples
from finetuning.base.step import Sft, Stepper, checkpoint_bytes, make_optimizer
from finetuning.base.stop import Stop
from finetuning.base.storage import require_space
from finetuning.base.trackers.order import Outcome
from finetuning.base.tracking import Tracking

log = logging.getLogger(__name__)


def train(run: Run, live: LiveState, stop: Stop, rank: Rank) -> TrainingResult:
    """Train until the planned end or a wish to stop; raises TrainerError."""
    device = _choose_device(run.config, rank)
    live.gpus = gpu.states(device.device, rank)
    live.progress(precision=device.precision.value)
    with beating(live), joined(rank, device.device) as group:
        return _train(run, live, stop, device, group)


def _train(run: Run, live: LiveState, stop: Stop, device: Device, group: Group) -> TrainingResult:
    started = time.time()
    config = run.config
    if group.leads:
        write_run_info(run, device, started)
    outline = outline_of(run.settings)
    tokenizer = load_tokenizer(run.settings)
    data = prepare(run.rows, tokenizer, config, outline)
    report = data_report.of(data, config)
    if group.leads:
        data_report.write(report, run.output)
    plan = Plan.of(config.hyperparameters, len(data.train), group.size)
    group.leave_if_told(stop)
    found = _resume_point(run, group)
    state = found.state if found else TrainerState()
    live.event(RunState.STARTING, **counts_of(state, plan))
    _announce(run, plan, data, found)
    grave = data_report.warnings_of(report)
    for finding in data_report.findings(report):
        log.log(logging.WARNING if finding in grave else logging.INFO, "%s.", finding)

    place = _place(config, device, group)
    model = _load_model(run, place, found)
    if config.hyperparameters.packing:
        _let_pack(model, config, place, group)
    form = form_of(model) if _shards(config, group.rank) else model
    stepper = _stepper(run, model, device, group)
    samples = Samples.of(run, data, tokenizer, device, group)
    loop = Loop(run, plan, data, stepper, live, samples=samples, found=found, form=form)

    group.leave_if_told(stop)
    stop.begun()
    with Tracking(run) as tracking, closing(samples), closing(loop):
        with explained(config.hyperparameters):
            loop.run_until(SharedStop(stop, group), tracking)
        if not loop.done:
            tracking.outcome = Outcome.PAUSED
            return loop.pause()
        if not group.leads:
            return result_of(loop.state, RunState.FINISHED, None)
        live.event(RunState.SAVING, total_steps=loop.state.max_steps)
        model = load_best(_whole(model, run, loop.state, place), run, loop.state, place)
        ending = Ending(run, loop.state, plan, data, place, started)
        with as_written(config.hyperparameters):
            result = write_result(ending, model, tokenizer)
        tracking.outcome = Outcome.FINISHED
        return result


def _let_pack(model: Any, config: RunConfig, place: Device, group: Group) -> None:
    """Raises ConfigError for a model that cannot tell packed rows apart."""
    if place.computes:
        refuse_mixing(model, place)
    # A compiled layer would be compiled anew for each number of examples.
    if config.hyperparameters.torch_compile:
        return
    spared = place.computes and spare_masks(model, place)
    # Of shards only the first process has a whole model to try it with.
    if _shards(config, group.rank) and group.first(int(spared)) and not spared:
        without_masks(unwrapped(model))


def _shards(config: RunConfig, rank: Rank) -> bool:
    return config.hyperparameters.fsdp and not rank.alone


def _place(config: RunConfig, device: Device, group: Group) -> Device:
    """Where models are loaded."""
    return place_of_the_whole(device, group) if _shards(config, group.rank) else device


def _choose_device(config: RunConfig, rank: Rank) -> Device:
    settings = config.hyperparameters
    device = choose(settings.precision, rank, shards=_shards(config, rank))
    if settings.torch_compile:
        require_compiler(device)
    if settings.fsdp and rank.alone:
        log.info("fsdp has no effect: there is one process, and it holds the whole model.")
    note = f" ({device.note})" if device.note else ""
    many = "" if rank.alone else f" with {rank.of} processes"
    many += ", each with a part of the model," if _shards(config, rank) else ""
    log.info("Training on %s%s in %s%s.", device.name, many, device.precision, note)
    return device


def _resume_point(run: Run, group: Group) -> Checkpoint | None:
    """The checkpoint to continue from, which rank 0 chooses.

    Raises:
        ConfigError: there is one, but of another run.
    """
    found = checkpoints.newest(run.checkpoints) if group.leads else None
    step = group.first(found.state.global_step if found else 0)
    if not group.leads and step:
        found = _seen_by_all(run, step)
    if found is None:
        return None
    binding = binding_differences(found.state.run, run.facts)
    if binding:
        raise ConfigError(
            f"{found.folder} belongs to another run ({'; '.join(binding)}); give another "
            "--output-dir, or --overwrite-output-dir to begin anew"
        )
    for change in differences(found.state.run, run.facts):
        log.info("Continuing with a changed setting: %s", change)
    _refuse_another_base(found, run)
    forget_if_gone(found.state, run, group)
    return found


def _refuse_another_base(found: Checkpoint, run: Run) -> None:
    """A checkpoint of the whole model needs the base no more, unless it is compared with.

    Raises:
        ConfigError: the weights that an adapter was trained on are no longer there.
    """
    told, settings = found.state.base_weights, run.config.hyperparameters
    if run.config.method is Method.FULL and settings.objective is Objective.SFT:
        return
    if told is not None and told.is_another(BaseWeights.of(weights_folder(run.config))):
        raise ConfigError(
            f"{found.folder} was trained on other weights than {run.config.model_id} has now; put "
            "those back (for a model of the Hub, --revision names them), or give "
            "--overwrite-output-dir to begin anew"
        )


def _seen_by_all(run: Run, step: int) -> Checkpoint:
    """Every process reads the weights for itself.

    Raises:
        TrainerError: this machine does not see what rank 0 has written.
    """
    try:
        return checkpoints.read(run.checkpoints, step)
    except UnreadableFileError as error:
        raise TrainerError(
            f"{error}; rank 0 continues from this checkpoint: all machines of a run need the same "
            "output folder, on a volume that they share (ReadWriteMany)"
        ) from error


def _announce(run: Run, plan: Plan, data: Data, found: Checkpoint | None) -> None:
    settings, facts = run.config.hyperparameters, data.facts()
    log.info(
        "%d rows: %d examples to train on%s, %d held out; %d steps in %d epochs.",
        len(data.rows.rows),
        facts["train_examples"],
        f", packed into {len(data.train)}" if settings.packing else "",
        facts["eval_examples"],
        plan.total_steps,
        plan.total_epochs,
    )
    by_steps = warmup_of(settings, plan.total_steps + settings.warmup_steps)
    if plan.warmup_steps < by_steps and settings.warmup_ratio is None:
        log.info(
            "A warm-up of %d steps would not end in %d; warming up over %d.",
            settings.warmup_steps,
            plan.total_steps,
            plan.warmup_steps,
        )
    if settings.eval_steps is not None and not data.held_out:
        log.warning(
            "evalSteps has no effect: no rows are held out; set evalSplit (--eval-split) or "
            "evalSource (--eval-source)."
        )
    if found:
        log.info("Continuing from %s.", found.folder.name)


def _stepper(run: Run, model: Any, device: Device, group: Group) -> Stepper:
    """Raises VolumeTooSmallError."""
    if run.config.hyperparameters.torch_compile:
        compile_layers(model)
    spread = sharded if _shards(run.config, group.rank) else distributed
    together = spread(model, device, group)
    optimizer = make_optimizer(model, run.config)
    if group.leads:
        require_space(run.output, checkpoint_bytes(model))
    objective = _objective(run, together, device, group)
    clip = run.config.hyperparameters.max_grad_norm
    return Stepper(objective, optimizer, device, clip, group)


def _objective(run: Run, model: Any, device: Device, group: Group) -> Sft | Dpo:
    settings = run.config.hyperparameters
    if settings.objective is Objective.SFT:
        return Sft(model, device.device, settings.packing)
    start = _start(run, device, group) if run.config.method is Method.FULL else None
    return Dpo(model, start, device.device, settings.beta or DEFAULT_BETA)


def _start(run: Run, device: Device, group: Group) -> Any:
    """The frozen model that dpo compares with, where there is no adapter to leave out."""
    config = run.config
    start = load_base(weights_folder(config), config, _place(config, device, group)).eval()
    start.requires_grad_(requires_grad=False)
    return sharded(start, device, group) if _shards(config, group.rank) else start


def _whole(model: Any, run: Run, state: TrainerState, place: Device) -> Any:
    """Of one in shards what the last checkpoint has, since the other processes leave."""
    if not is_sharded(model):
        return model
    return _load_model(run, place, checkpoints.read(run.checkpoints, state.global_step))


def _load_model(run: Run, device: Device, found: Checkpoint | None) -> Any:
    """The model in training mode, with the weights of the checkpoint if there is one."""
    began = time.monotonic()
    four_bit = run.config.method is Method.QLORA
    with nullcontext() if four_bit else without_bitsandbytes():
        model = _made(run, device, found)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.info(
        "Loaded %s in %s: %s, %s trained parameters.",
        run.config.model_id,
        duration(time.monotonic() - began),
        run.config.method,
        f"{trained:,}",
    )
    return model.train()


def _made(run: Run, device: Device, found: Checkpoint | None) -> Any:
    config = run.config
    whole = found.folder if found and config.method is Method.FULL else None
    model = load_base(whole or weights_folder(config), config, device)
    if config.method is Method.FULL:
        freeze_beside_text(model)
    else:
        model = add_adapter(model, config)
        if found and device.computes:
            load_adapter(model, found.folder)
    if config.hyperparameters.gradient_checkpointing:
        base = model if config.method is Method.FULL else model.get_base_model()
        base.activation_checkpointing_enable({"use_reentrant": False})
    if config.hyperparameters.neftune_noise_alpha is not None:
        # Takes seconds, since it comes with transformers' Trainer.
        from transformers.integrations.neftune import activate_neftune  # noqa: PLC0415

        activate_neftune(model, config.hyperparameters.neftune_noise_alpha)
    return model
