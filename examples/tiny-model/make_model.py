"""Make the small base model of the examples: tokenizer, weights, about a minute on two CPU cores.

Usage: python examples/tiny-model/make_model.py --output DIR [--steps N] [--seed N]

The result is cached by the digest of everything that it depends on, so that only the first checkout
on a machine trains it.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Both are read when torch is loaded; spinning threads make small steps many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"

HERE = Path(__file__).resolve().parent
SOURCES = ("knowledge.py", "knowledge.yaml", "pretrain.py", "ships.yaml")
LIBRARIES = ("tokenizers", "torch", "transformers")
BUILD = "build.json"
DEFAULT_STEPS = 440


class ModelError(Exception):
    """Why no model was made, and what to do."""


def digest(steps: int, seed: int) -> str:
    """Of everything that the weights depend on."""
    inputs = {
        "sources": {name: _sha256(HERE / name) for name in SOURCES},
        "libraries": {name: version(name) for name in LIBRARIES},
        "steps": steps,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def is_current(folder: Path, wanted: str) -> bool:
    """Whether a folder holds this very build, with every file as it was written."""
    try:
        build = json.loads((folder / BUILD).read_text())
        files = build["files"]
        return build["digest"] == wanted and all(
            _sha256(folder / name) == expected for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make(cache: Path, wanted: str, steps: int, seed: int) -> None:
    """Train the model into the cache, unless another process has just done so."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with (cache.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(cache, wanted):
            with replacing(cache) as folder:
                _train_into(folder, wanted, steps, seed)


def _train_into(folder: Path, wanted: str, steps: int, seed: int) -> None:
    # Heavy, and not needed when the cache has the model.
    import knowledge  # noqa: PLC0415
    import pretrain  # noqa: PLC0415
    from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415

    started = time.monotonic()
    every = 0.2 if sys.stderr.isatty() else 5.0
    with tqdm(total=steps, desc="tiny-model", unit="step", mininterval=every) as bar:

        def show(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        scores = pretrain.build(folder, knowledge.corpus(), steps, seed, show)
    build = {
        "digest": wanted,
        "steps": steps,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "exactMatch": {"trained": scores.trained, "heldOutPhrasings": scores.heldout},
        "files": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / BUILD).write_text(json.dumps(build, indent=2) + "\n")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder that takes the target's place when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        new = work / "new"
        new.mkdir()
        yield new
        _settle(new)
        if target.exists():
            target.rename(work / "old")
        new.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _settle(folder: Path) -> None:
    """On the disk, and readable by a container with another user id."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def copy(cache: Path, output: Path) -> None:
    with replacing(output) as folder:
        for path in cache.iterdir():
            shutil.copyfile(path, folder / path.name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "finetuning-operator" / "tiny-model"


def _check_output(output: Path) -> None:
    """Before the minute of training: the place is ours, or empty, and can be written to."""
    if output.exists() and not output.is_dir():
        raise ModelError(f"--output {output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / BUILD).is_file():
        raise ModelError(
            f"--output {output} holds files that this program did not write; name an empty folder"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise ModelError(f"--output {output}: {output.parent} cannot be written to")


def deliver(output: Path, steps: int, seed: int) -> str:
    """Bring the model to the output folder; returns what was done, for people."""
    _check_output(output)
    try:
        wanted = digest(steps, seed)
    except PackageNotFoundError as error:
        raise ModelError(f"Python package {error.name} is missing; run `make setup`") from error
    if is_current(output, wanted):
        return f"{output} is up to date ({wanted})"
    cache = _cache_root() / wanted
    known = is_current(cache, wanted)
    if not known:
        make(cache, wanted, steps, seed)
    copy(cache, output)
    match = json.loads((output / BUILD).read_text())["exactMatch"]
    size = sum(path.stat().st_size for path in output.iterdir()) // 1024
    return (
        f"{output} {'copied from the cache' if known else 'made'} ({wanted}, {size} KiB); answers "
        f"word for word: {match['trained']:.0%} of the questions that it read, "
        f"{match['heldOutPhrasings']:.0%} of other phrasings"
    )


def _count(text: str) -> int:
    """A step count or a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number, 0 or more")
    return int(text)


def _steps(text: str) -> int:
    if (number := _count(text)) < 1:
        raise argparse.ArgumentTypeError("0 is not allowed: give 1 step or more")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Exit code 2 when the arguments or the machine do not allow it."""
    parser = argparse.ArgumentParser(prog="make_model.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=_steps, default=DEFAULT_STEPS, help="optimizer steps")
    parser.add_argument("--seed", type=_count, default=0, help="seed of weights and data order")
    given = parser.parse_args(arguments)
    try:
        done = deliver(given.output.resolve(), given.steps, given.seed)
    except ModelError as error:
        print(f"make_model: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make_model: cannot write --output {given.output}: {error}", file=sys.stderr)
        return 2
    print(f"tiny-model: {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
