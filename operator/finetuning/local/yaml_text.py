"""YAML as Kubernetes reads it, with the line on which each field stands."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from typing_extensions import override

from finetuning.local.problems import InputError

Loc = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value and the node that knows the lines."""

    body: Any
    node: yaml.Node

    def line(self, loc: Loc) -> int:
        """The line of the deepest part of `loc` that the text has, counted from 1."""
        node, line = self.node, self.node.start_mark.line
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line + 1


def _child(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line, item
    return None


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, reads `2e-4` as a number and dates as text."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        names = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in names:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'key "{key.value}" is given twice', key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith(("timestamp", "float"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def documents(text: str, name: str) -> Sequence[Document]:
    """Every document that holds something; raises InputError when the text is not YAML."""
    try:
        loader = _Loader(text)
        nodes: list[yaml.Node | None] = []
        while loader.check_node():
            nodes.append(loader.get_node())
            _refuse_loops(nodes[-1], set(), set())
        found = [Document(loader.construct_document(node), node) for node in nodes if node]
    except yaml.YAMLError as error:
        raise InputError(_not_yaml(error, name)) from None
    except RecursionError:
        raise InputError(f"{name}: not valid YAML: nested too deeply") from None
    return [document for document in found if document.body is not None]


def _refuse_loops(node: yaml.Node | None, above: set[int], known: set[int]) -> None:
    """Raises YAMLError where an anchor stands for something that holds it, as kubectl does."""
    if node is None or id(node) in known:
        return
    if id(node) in above:
        mark = node.start_mark
        raise yaml.constructor.ConstructorError(None, None, "an anchor that contains itself", mark)
    above.add(id(node))
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    for part in parts:
        for each in part if isinstance(part, tuple) else (part,):
            _refuse_loops(each, above, known)
    above.remove(id(node))
    known.add(id(node))


def _not_yaml(error: yaml.YAMLError, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}:{mark.line + 1}" if mark is not None else name
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{place}: not valid YAML: {problem}"
