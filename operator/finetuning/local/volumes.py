"""Folders of this machine in place of a pod's volumes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.controller.desired import sources
from finetuning.local.manifest import ConfigMaps
from finetuning.local.problems import InputError

Pod = Mapping[str, Any]
"""A pod's spec, as in the template of a Job."""


@dataclass(frozen=True, slots=True)
class Places:
    """What the command line and the manifest say about folders."""

    output: Path
    output_sub_path: str
    """Folder inside the output claim that `output` stands for."""
    scratch: Path
    """For emptyDirs and the files of ConfigMaps; holds nothing that is needed later."""
    claims_root: Path
    claims: Mapping[str, Path]
    config_map_files: Mapping[str, Path]
    config_maps: ConfigMaps

    def claim(self, name: str) -> Path:
        return self.claims.get(name, self.claims_root / name).absolute()


def folders(pod: Pod, container: Mapping[str, Any], places: Places) -> dict[str, str]:
    """Mount path → folder, for one container; nothing is made or read."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    found = {
        mount["mountPath"]: str(_folder(volumes[mount["name"]], mount, places))
        for mount in container["volumeMounts"]
    }
    # A relative path in the manifest is one below the image's working directory.
    return {sources.WORKSPACE: str(Path.cwd()), **found}


def _folder(volume: Mapping[str, Any], mount: Mapping[str, Any], places: Places) -> Path:
    sub_path: str = mount.get("subPath", "")
    if volume["name"] == "output":
        return places.output / sub_path.removeprefix(places.output_sub_path).lstrip("/")
    if claim := volume.get("persistentVolumeClaim"):
        return places.claim(claim["claimName"]) / sub_path
    name: str = volume["name"]
    return places.scratch / name / sub_path


Contents = dict[str, dict[str, bytes | Path]]
"""Volume → file name → what is in it, of the ConfigMap volumes."""


def contents(pod: Pod, places: Places) -> Contents:
    """What the ConfigMap volumes hold; raises InputError on what is missing."""
    return {
        volume["name"]: dict(_files(volume["configMap"], places))
        for volume in pod["volumes"]
        if "configMap" in volume
    }


def fill(pod: Pod, places: Places, files: Contents) -> None:
    """Make the folders of the emptyDirs and ConfigMaps."""
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            continue
        folder = places.scratch / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.get(volume["name"], {}).items():
            _place(folder / name, data)


def why_missing(path: Path, places: Places, files: Contents) -> str | None:
    """Why a path of a local process will not be there; None when it will."""
    if path.is_relative_to(places.scratch):
        volume, *rest = path.relative_to(places.scratch).parts
        known = not rest or "/".join(rest) in files.get(volume, {})
        return None if known else "No such file or directory"
    try:
        path.stat()
    except OSError as error:
        return error.strerror
    return None


def _place(path: Path, data: bytes | Path) -> None:
    """A file of this machine becomes a link, as kubelet makes them, so that its size is no cost."""
    path.unlink(missing_ok=True)
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        path.symlink_to(data)


def _files(config_map: Mapping[str, Any], places: Places) -> Iterator[tuple[str, bytes | Path]]:
    """The files of one ConfigMap volume, by name."""
    name = config_map["name"]
    items = config_map.get("items", [])
    data = _data(name, [item["key"] for item in items], places)
    if data is None:
        if config_map.get("optional"):
            return
        raise InputError(
            f"ConfigMap {name}: not in the manifest; type --configmap {name}=FILE (or a folder), "
            "or put the ConfigMap into the same file"
        )
    for item in items or [{"key": key, "path": key} for key in data]:
        if item["key"] not in data:
            has = ", ".join(sorted(data)) or "nothing"
            raise InputError(f'ConfigMap {name}: no key "{item["key"]}" in it; it has {has}')
        yield item["path"], data[item["key"]]


def _data(name: str, wanted: list[str], places: Places) -> Mapping[str, bytes | Path] | None:
    """What the command line names wins over the manifest."""
    given = places.config_map_files.get(name)
    if given is None:
        return places.config_maps.get(name)
    try:
        if given.is_dir():
            return {file.name: file.absolute() for file in given.iterdir() if file.is_file()}
        given.stat()
    except OSError as error:
        raise InputError(
            f"--configmap {name}={given}: {error.strerror}; give a file or a folder of files"
        ) from None
    # One file stands for the one key that is asked for, whatever the file is called.
    return {(wanted or [given.name])[0]: given.absolute()}
