"""Plain data from YAML or JSON text: YAML 1.2, in which a value is what it looks like.

``0300`` is 300 and ``5:00`` a text; yes, no, on and off are words, and only true and false are not; ``1e-3`` is a
number. A key that stands twice, ``.nan`` and ``.inf``, and data too deep or too large to be meant are refused.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

DEEPEST = 64
"""Lists and mappings inside one another."""
LARGEST = 1_000_000
"""Values in one text, repetitions of an anchor counted."""
_DIGITS = 4_000

_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_MERGE = re.compile("<<")
_RESOLVERS = (("bool", _BOOLEAN), ("null", _NULL), ("int", _INTEGER), ("float", _FLOAT), ("merge", _MERGE))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {  # type: ignore[misc]
        None: [(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{form.pattern})\Z")) for tag, form in _RESOLVERS]
    }

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return self.construct_document(node)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """JSON writes what lies beyond the first plane as two halves."""
        text = super().construct_scalar(node)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(text, str) else text
        except UnicodeDecodeError:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: half a surrogate pair") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise yaml.YAMLError(f"line {line}: the key {key!r} stands in line {lines[key]} already")
            lines[key] = line
        return super().construct_mapping(node, deep=deep)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if len(text) > _DIGITS or not _INTEGER.fullmatch(text):
        raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {text[:20]!r} is no number that is meant")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(node.value)
    if not _FLOAT.fullmatch(text) or text.lstrip("-+.").lower() in ("inf", "nan") or abs(float(text)) == float("inf"):
        raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {text[:20]!r} is no finite number")
    return float(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node holds. Raises YAMLError when these are too many or too deep, or hold themselves."""
    line = node.start_mark.line + 1
    if depth > DEEPEST:
        raise yaml.YAMLError(f"line {line}: more than {DEEPEST} lists and mappings inside one another")
    if id(node) in known:
        if known[id(node)] < 0:
            raise yaml.YAMLError(f"line {line}: a value that holds itself")
        return known[id(node)]
    known[id(node)] = -1
    inside = 1
    for item in node.value if isinstance(node, yaml.CollectionNode) else ():
        inside += sum(_measure(one, known, depth + 1) for one in (item if isinstance(item, tuple) else (item,)))
    if inside > LARGEST:
        raise yaml.YAMLError(f"line {line}: more than {LARGEST:,} values")
    known[id(node)] = inside
    return inside


class _Dumper(yaml.SafeDumper):
    """Quotes whatever another reader of YAML, 1.1 or 1.2, could take for a number or a word."""


for _tag, _form in (("int", _INTEGER), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form.pattern})\Z"), list("-+.0123456789")
    )


def read_plain(text: str) -> Any:
    """The plain data of a text. Raises ValueError with what is wrong, on one line."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} lists and mappings inside one another") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def write_plain(data: Any) -> str:
    """YAML that ``read_plain``, and any other reader of YAML, turns back into equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
