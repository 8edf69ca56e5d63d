"""publication.json: what a copy holds, written last, and before that what it is going to hold."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, ValidationError

from finetuning.artifacts.manifest import FileEntry, Manifest
from finetuning.publish.bundle import Bundle

MAX_BYTES = 8 << 20


class Publication(Manifest):
    """The files of a copy by their path in it, itself left out."""

    complete: bool = False
    """False while files are sent: then it only says whose the names are."""
    manifest_sha256: str = Field(default="", alias="manifestSha256", max_length=64)

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        files = {name: item.entry for name, item in bundle.items.items()}
        return cls(files=files, complete=True, manifest_sha256=bundle.manifest_sha256)

    def begun(self, older: "Publication | None") -> Self:
        """The seal before the first change: the names of the older copy stay ours as well."""
        files = {**(older.files if older else {}), **self.files}
        return self.model_copy(update={"files": files, "complete": False})

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(by_alias=True, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """What `to_bytes` wrote; None for anything else."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            return None


def is_there(
    name: str, entry: FileEntry, older: Publication | None, sizes: Mapping[str, int]
) -> bool:
    """Whether a complete copy says that it has this very file, and the file is as long as that."""
    sealed = older is not None and older.complete and older.files.get(name) == entry
    return sealed and sizes.get(name) == entry.size


def left_over(
    wanted: Publication, older: Publication | None, sizes: Mapping[str, int]
) -> list[str]:
    """Files of an older copy that the new one does not have."""
    return sorted(
        name
        for name in (older.files if older else {})
        if name not in wanted.files and name in sizes
    )


def foreign(wanted: Publication, older: Publication | None, sizes: Mapping[str, int]) -> list[str]:
    """Files in the way that no copy of ours has written."""
    ours = older.files if older else {}
    return sorted(name for name in wanted.files if name in sizes and name not in ours)
