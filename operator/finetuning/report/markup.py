"""HTML as a tree: text can become nothing but text, whatever a run wrote into its files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

Node = ET.Element


def el(tag: str, *children: "Node | str | None", **attributes: Any) -> Node:
    """An element; `class_` is the class, other `_` are `-`; empty attributes are left out."""
    known = {
        name.rstrip("_").replace("_", "-"): clean(str(value))
        for name, value in attributes.items()
        if value not in {None, ""}
    }
    node = ET.Element(tag, known)
    for child in children:
        _append(node, child)
    return node


def table(columns: Mapping[str, str], rows: Iterable[Sequence[Node | str]]) -> Node:
    """Columns by name, with the class of their cells; narrow screens show the names in the rows."""
    head = el("tr", *[el("th", name, scope="col", class_=style) for name, style in columns.items()])
    lines = [
        el(
            "tr",
            *[
                el("td", cell, class_=style, data_name=name)
                for (name, style), cell in zip(columns.items(), row, strict=True)
            ],
        )
        for row in rows
    ]
    return el("div", el("table", el("thead", head), el("tbody", *lines)), class_="card")


def _append(node: Node, child: "Node | str | None") -> None:
    if child is None:
        return
    if isinstance(child, ET.Element):
        node.append(child)
    elif len(node):
        node[-1].tail = (node[-1].tail or "") + clean(child)
    else:
        node.text = (node.text or "") + clean(child)


def clean(text: str) -> str:
    """Without the characters that HTML cannot hold or that turn the direction of text."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def html(root: Node) -> str:
    return "<!DOCTYPE html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"
