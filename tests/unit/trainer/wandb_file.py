"""Reads what W&B's own library writes in offline mode: records of protobuf in LevelDB's log."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, FILE_HEADER, HEADER = 32768, 7, 7
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records in order; a chunk's kind says whether it is a whole one, or its last part."""
    # Collecting the tests should not cost the seconds that the library takes.
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415 - its types are made when loaded

    data, at, parts = path.read_bytes(), FILE_HEADER, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack("<4xHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            yield record
            parts = b""


def history(path: Path) -> Iterator[dict[str, Any]]:
    for record in records(path):
        if record.HasField("history"):
            items = ((i.nested_key or [i.key], i.value_json) for i in record.history.item)
            yield {"/".join(key): json.loads(value) for key, value in items}


def run(path: Path) -> Any:
    return next(each.run for each in records(path) if each.HasField("run"))


def exit_code(path: Path) -> int:
    return next(int(each.exit.exit_code) for each in records(path) if each.HasField("exit"))
