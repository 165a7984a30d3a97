"""Reads the files that people write: YAML, and JSON. The only reader of YAML.

What a reader would pass over without a word is refused: a key written twice (YAML and JSON keep
the last), and a key that is not text (YAML 1.1 reads `no` as false, `1e3` as text, `7` as a
number).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ccpo.config.choice import near

MERGE = "tag:yaml.org,2002:merge"
Checked = TypeVar("Checked")


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping of a YAML file.

    Raises:
        ValueError: the file is missing, is not YAML or no mapping, contains itself, or has a key
        written twice or one that is not text; with file and line.
    """
    if not path.is_file():
        known = [p.stem for p in path.parent.glob("*.yaml")]
        raise ValueError(f"{path} does not exist. {near(path.stem, known)}")
    loader = yaml.SafeLoader(_text_of(path))
    try:
        node = loader.get_single_node()
        if node is not None:
            _check_keys(path, loader, node, [], set())
        value = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a mapping, it holds {type(value).__name__}")
    return value


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}). Remedy: save it so.") from None


def _check_keys(
    path: Path, loader: yaml.SafeLoader, node: yaml.Node, way: list[yaml.Node], seen: set[int]
) -> None:
    """Checks every mapping below a node once, before merge keys are resolved: what a mapping
    overrides of what it merges (`<<`) is no second writing."""
    if any(node is above for above in way):
        raise ValueError(f"{path}, line {_line(node)}: a block contains itself by its anchor")
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    children = node.value
    if isinstance(node, yaml.MappingNode):
        _check_mapping(path, loader, node)
        children = [value for _, value in node.value]
    for child in children:
        _check_keys(path, loader, child, [*way, node], seen)


def _check_mapping(path: Path, loader: yaml.SafeLoader, node: yaml.MappingNode) -> None:
    first: dict[str, int] = {}
    for key_node, _ in node.value:
        is_merge = key_node.tag == MERGE
        key = "<<" if is_merge else loader.construct_object(key_node, deep=True)
        line = _line(key_node)
        if not isinstance(key, str):
            written = getattr(key_node, "value", key)
            raise ValueError(
                f"{path}, line {line}: the key {written} is read as {key!r}, not as text. "
                "Remedy: put it in quotes"
            )
        if key in first:
            raise ValueError(
                f"{path}, line {line}: the key '{key}' is written twice, in line {first[key]} "
                "too, and only one can count. Remedy: keep one of them"
            )
        first[key] = line


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def read_json(path: Path) -> object:
    """The value of a JSON file.

    Raises:
        ValueError: it is not JSON, or has a key written twice; with file and line.
    """
    text = _text_of(path)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(
                    f"{path}: the key '{key}' is written twice in one mapping (it stands in "
                    f"lines {_lines_with(key, text)}), and only one can count. Remedy: keep one "
                    "of them"
                )
        return dict(pairs)

    try:
        value: object = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    return value


def _lines_with(key: str, text: str) -> str:
    """Numbers of the lines in which a key stands."""
    places = re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)
    return ", ".join(str(text.count("\n", 0, place.start()) + 1) for place in places)


def validated(where: str, build: Callable[[], Checked]) -> Checked:
    """What a validation builds.

    Raises:
        ValueError: every complaint in one message, each with its place.
    """
    try:
        return build()
    except ValidationError as error:
        complaints = "; ".join(_complaint(item) for item in error.errors())
        raise ValueError(f"{where}: {complaints}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _complaint(item: Mapping[str, object]) -> str:
    location = item["loc"]
    assert isinstance(location, tuple)
    place = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        return (
            f"unknown key '{place}'. Remedy: correct or remove it; config/README.md lists every key"
        )
    reason = str(item["msg"]).removeprefix("Value error, ")
    if not isinstance(item["input"], dict | BaseModel):
        reason += f" (given: {item['input']!r})"
    return f"{place}: {reason}" if place else reason
