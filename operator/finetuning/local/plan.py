"""From the command line to everything that a run needs, before its first process starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts import PUBLISH_DIR, VALIDATION_DIR
from finetuning.controller import desired, naming, publications
from finetuning.controller.desired import Manifest, group, publishing, sources
from finetuning.controller.desired import pod as desired_pod
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.observed import Children
from finetuning.controller.settings import MonitoringMode, Settings
from finetuning.local import launch, lock, manifest, ports, scratch, volumes
from finetuning.local.launch import Launch
from finetuning.local.options import Options
from finetuning.local.paths import moved
from finetuning.local.problems import InputError
from finetuning.local.volumes import Places

RUNS = Path("runs")
_TRAINERS = ("torch", "transformers", "peft")
LOGS = "logs"

SETTINGS = Settings(
    operator_image="local",
    trainer_image="local",
    monitoring_mode=MonitoringMode.NONE,
    # Nobody scrapes the last state of a local run; it is on the screen and in status.json.
    metrics_linger_seconds=0,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that can start."""

    job: FineTuningJob
    children: desired.Desired
    places: Places
    training: tuple[Launch, ...]
    validation: tuple[Launch, ...]
    environ: Mapping[str, str]
    metrics_port: int
    files: volumes.Contents
    lock: int
    notes: tuple[str, ...]

    @property
    def output(self) -> Path:
        return self.places.output

    @property
    def logs(self) -> Path:
        return self.output / LOGS

    @property
    def state_folder(self) -> Path:
        return self.places.scratch / "state"

    @property
    def metrics_url(self) -> str:
        return f"http://localhost:{self.metrics_port}/metrics"

    def publishing(self, judged: FineTuningJob) -> tuple[Manifest, tuple[Launch, ...]] | None:
        """The Job that publishes, once the status says that it may; None when it may not."""
        attempt, made = publications.missing(judged, Children()), self.children.publishing_job
        if attempt is None or made is None:
            return None
        bound = publishing.bound(made, judged, attempt)
        return bound, _launches(bound, self.places, self.environ, self.metrics_port)

    def mount(self) -> None:
        """Fresh emptyDirs and ConfigMaps, as each pod gets them."""
        scratch.make(self.places.scratch)
        for pod in _pods(self.children):
            volumes.fill(pod, self.places, self.files)


def prepare(options: Options, environ: Mapping[str, str]) -> Plan:
    """Read, check, make folders; raises InputError before anything is started."""
    found = _on_one_machine(manifest.load(options.manifest, options.name))
    _require_trainer()
    children = _children(found)
    places = _places(found, options)
    trainer_pod, *others = _pods(children)
    files = volumes.contents(trainer_pod, places)
    for pod in others:
        files |= volumes.contents(pod, places)
    if missing := list(_missing(found, children, places, files)):
        raise InputError(*missing)
    port = ports.choose(naming.METRICS_PORT, options.metrics_port)
    return Plan(
        job=found.job,
        children=children,
        places=places,
        training=_launches(children.training_job, places, environ, port),
        validation=_launches(children.validation_job, places, environ, port),
        environ=environ,
        metrics_port=port,
        files=files,
        lock=_make_folders(places, publishes=children.publishing_job is not None),
        notes=tuple(_notes(found, options, trainer_pod, port)),
    )


def _require_trainer() -> None:
    """Without its libraries the trainer would be tried as often as the job says."""
    if lacking := [name for name in _TRAINERS if find_spec(name) is None]:
        raise InputError(
            f"to train here the trainer's libraries are needed ({', '.join(lacking)}): pip install "
            "'finetuning-operator[trainer]'"
        )


def _on_one_machine(found: manifest.Manifest) -> manifest.Manifest:
    """The processes of all workers as those of one pod: a step has as many rows as in a cluster."""
    spec = found.job.spec
    update = {"workers": 1, "processes_per_worker": group.of(found.job, SETTINGS).size}
    job = found.job.model_copy(update={"spec": spec.model_copy(update=update)})
    return replace(found, job=job)


def _children(found: manifest.Manifest) -> desired.Desired:
    if found.job.spec.suspend:
        raise InputError(f"{found.at('spec', 'suspend')}: true holds the job; set it to false")
    try:
        return desired.build(found.job, SETTINGS)
    except InvalidSpecError as error:
        raise InputError(f"{found.file}: {error}") from None


def _pod(job: Mapping[str, Any]) -> volumes.Pod:
    spec: volumes.Pod = job["spec"]["template"]["spec"]
    return spec


def _pods(children: desired.Desired) -> list[volumes.Pod]:
    """That of the training, then those of validation and publishing if there are such."""
    jobs = (children.training_job, children.validation_job, children.publishing_job)
    return [_pod(job) for job in jobs if job]


def _places(found: manifest.Manifest, options: Options) -> Places:
    output = sources.output(found.job)
    sub_path = output.sub_path or ""
    folder = options.output or RUNS / found.job.metadata.name
    if options.output is None and output.claim in options.claims:
        folder = options.claims[output.claim] / sub_path
    return Places(
        output=folder.absolute(),
        output_sub_path=sub_path,
        scratch=scratch.folder_for(folder.absolute()),
        claims_root=RUNS / "claims",
        claims=options.claims,
        config_map_files=options.config_maps,
        config_maps=found.config_maps,
    )


def _missing(
    found: manifest.Manifest, children: desired.Desired, places: Places, files: volumes.Contents
) -> Iterator[str]:
    """Local inputs that are not there, each with what to type."""
    folders: dict[str, str] = {}
    for pod in _pods(children):
        (container,) = pod["containers"]
        folders |= volumes.folders(pod, container, places)
    fields = {
        ("baseModel", "source"): sources.model(found.job),
        ("dataset", "source"): sources.dataset(found.job),
        ("dataset", "evalSource"): sources.evaluation(found.job),
        ("validation", "heldOut", "source"): sources.held_out(found.job),
        ("validation", "benchmarks", "includePath"): sources.tasks(found.job),
    }
    for field, source in fields.items():
        if source is None or not source.local:
            continue
        path = Path(moved(source.path, folders))
        if why := volumes.why_missing(path, places, files):
            where = found.at("spec", *field)
            meant = "" if path == Path(source.path) else f"{source.path}: "
            yield f"{where}: {meant}{path}: {why}; {_remedy(source, path, places)}"


def _remedy(source: sources.Source, path: Path, places: Places) -> str:
    if source.claim is not None:
        return (
            f"type --claims {source.claim}=DIR, where DIR is the folder that stands for the claim"
        )
    if source.path.startswith(sources.TEMPLATES):
        return f"type --configmap {desired_pod.TEMPLATES_CONFIGMAP}=DIR"
    if path.is_relative_to(places.scratch):
        return (
            "the folder is the pod's own and empty there; put the file elsewhere, or give it with "
            "--configmap"
        )
    return "give the path of a file or a folder that is there"


def _make_folders(places: Places, *, publishes: bool) -> int:
    """The output folder and the lock on it."""
    try:
        for name in (VALIDATION_DIR, PUBLISH_DIR, LOGS) if publishes else (VALIDATION_DIR, LOGS):
            folder = places.output / name
            folder.mkdir(parents=True, exist_ok=True)
        held = lock.hold(places.output)
    except OSError as error:
        raise InputError(
            f"{places.output}: {error.strerror}; choose another folder with --output DIR"
        ) from None
    return held


def _launches(
    job: Mapping[str, Any] | None, places: Places, environ: Mapping[str, str], port: int
) -> tuple[Launch, ...]:
    """The sidecars first, as kubelet starts them."""
    if job is None:
        return ()
    template = _pod(job)
    containers = [*template.get("initContainers", []), *template["containers"]]
    return tuple(_launch(template, each, places, environ, port) for each in containers)


def _launch(
    template: volumes.Pod,
    container: Mapping[str, Any],
    places: Places,
    environ: Mapping[str, str],
    port: int,
) -> Launch:
    made = launch.launch(
        container,
        volumes.folders(template, container, places),
        environ,
        run_folder=places.scratch,
        log=places.output / LOGS / f"{container['name']}.log",
        grace=template["terminationGracePeriodSeconds"],
    )
    return replace(made, argv=launch.with_port(made.argv, naming.METRICS_PORT, port))


def _notes(
    found: manifest.Manifest, options: Options, trainer_pod: volumes.Pod, port: int
) -> Iterator[str]:
    """What differs from a cluster, said once."""
    if found.ignored:
        yield f"ignored in {found.file}: {', '.join(found.ignored)}"
    if port != naming.METRICS_PORT and options.metrics_port is None:
        yield f"port {naming.METRICS_PORT} is in use; the metrics are on port {port}"
    processes = found.job.spec.processes_per_worker or 1
    if processes > 1:
        yield f"all {processes} training processes of the job run on this machine"
    devices = {
        name: count
        for container in trainer_pod["containers"]
        for name, count in container["resources"]["limits"].items()
        if "/" in name
    }
    for name, count in devices.items():
        yield f"{name}={count} is not asked for here: the trainer uses a GPU it finds, or the CPU"
