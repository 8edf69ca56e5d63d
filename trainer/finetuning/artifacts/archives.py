"""Archives among somebody's rows: `datasets` and others unpack whatever is one, by any name.

A link in one leads anywhere, and a path through a link writes anywhere: `datasets` looks at
names as they are written, the kernel at what they lead to.
"""

import tarfile

from finetuning.artifacts.failures import DatasetError


def unpack_no_links() -> None:
    """From now on an archive that brings more than files and folders is not unpacked here."""
    tarfile.TarFile.extraction_filter = staticmethod(_own_file)


def _own_file(member: tarfile.TarInfo, _folder: str) -> tarfile.TarInfo:
    if not (member.isreg() or member.isdir()):
        raise DatasetError(
            f"an archive in it has {member.name[:200]!r}, which is a link or a device, not a file"
        )
    return member
