"""A copy of the model as an artifact in an OCI registry."""

from collections.abc import Mapping

from finetuning.artifacts.models import CopiedModel
from finetuning.publish import artifact
from finetuning.publish.bundle import Bundle, Item, Say
from finetuning.publish.errors import TakenError, UnavailableError
from finetuning.publish.facts import Facts
from finetuning.publish.registry import Reference, Repository


def publish(
    bundle: Bundle,
    facts: Facts,
    uri: str,
    environ: Mapping[str, str],
    say: Say,
    *,
    plain_http: bool,
) -> CopiedModel:
    """Send the files that the registry does not have yet, then set the tag.

    Raises:
        PublishError: the registry cannot be reached, refuses, or the tag is somebody else's.
    """
    made = artifact.compose(bundle, facts)
    with Repository(Reference.parse(uri), environ, plain_http=plain_http) as repository:
        older = repository.manifest()
        if older is not None and not artifact.is_ours(older):
            raise TakenError(
                f"{uri}: this tag names something that no publication wrote; give another tag, or "
                "delete it there"
            )
        sent = sum(_bring(repository, name, item, say) for name, item in bundle.items.items())
        repository.bring_bytes(made.config)
        if older != made.manifest:
            _set(repository, uri, made.manifest)
    return CopiedModel(
        kind="oci",
        location=uri,
        digest=artifact.digest(made.manifest),
        files=len(bundle.items),
        size_bytes=bundle.size,
        sent_files=sent,
    )


def _bring(repository: Repository, name: str, item: Item, say: Say) -> bool:
    size = item.entry.size
    return repository.bring(
        item.path, item.entry.sha256, size, lambda: say(f"{name}: {size:,} bytes")
    )


def _set(repository: Repository, uri: str, manifest: bytes) -> None:
    repository.put_manifest(manifest)
    if repository.manifest() != manifest:
        raise UnavailableError(
            f"{uri}: the tag does not name what was sent; try again, and check the registry if "
            "that does not help"
        )
