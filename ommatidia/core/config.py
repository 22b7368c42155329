"""Config: frozen, validated, hashable values; families dispatched by ``kind``; override by dotted path; YAML/JSON.

A family is a base class declared with ``family=True``. A member is a subclass with a literal ``kind``; declaring it
registers it. A field annotated with the base accepts a member, a mapping with ``kind``, or the kind's bare name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_validator

from ommatidia.core.errors import ConfigError, short, unknown
from ommatidia.core.once import once
from ommatidia.core.outside_parts import code_digest, load_installed_parts
from ommatidia.core.plain_data import read_plain, write_plain

_without_places: ContextVar[bool] = ContextVar("without_places", default=False)


LARGEST_NUMBER = 2**32  # where a field says no bound of its own, a number beyond this is a slip of the pen


def _strict(schema: Any, *, inside: bool = False) -> None:
    """Makes the numbers and booleans of a class's fields take their own kind only, within bounds.

    True is no number, 1 is no boolean, "3" and 3.0 are no integer; an integer may stand for a float.
    """
    if isinstance(schema, list | tuple):
        for one in schema:
            _strict(one, inside=inside)
    if not isinstance(schema, dict) or (inside and schema.get("type") == "model"):
        return
    if schema.get("type") in ("int", "float", "bool"):
        schema["strict"] = True
    if schema.get("type") in ("int", "float"):
        if not schema.keys() & {"le", "lt"}:
            schema["le"] = LARGEST_NUMBER
        if not schema.keys() & {"ge", "gt"}:
            schema["ge"] = -LARGEST_NUMBER
    for name, part in schema.items():
        if name not in ("default", "metadata", "serialization"):
            _strict(part, inside=inside or schema.get("type") == "model")


class Config(BaseModel):
    """A frozen value. Unknown keys are refused; ``digest()`` is its address.

    Values are taken as they are: a number is no boolean, a boolean no number, a text neither.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, revalidate_instances="never", allow_inf_nan=False
    )
    # Fields that cannot change a result (how often to log, where to write) and so stay out of the digest.
    unhashed: ClassVar[frozenset[str]] = frozenset()
    # Fields that say where something lies whose content counts beside this value; see ``hashed_without_places``.
    located: ClassVar[frozenset[str]] = frozenset()
    _members: ClassVar[dict[str, type[Config]]]
    _family: ClassVar[type[Config] | None] = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema = handler(source)
        _strict(schema)
        return schema

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _config_error(type(self), error) from None

    def __eq__(self, other: object) -> bool:
        """Equal values are written alike; the order of a mapping counts, as channels are joined in it."""
        return type(self) is type(other) and isinstance(other, Config) and self._written() == other._written()

    def __hash__(self) -> int:
        return hash(self._written())

    @once
    def _written(self) -> str:
        return self.to_json()

    def __copy__(self) -> Self:
        return super().__copy__()._anew()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return super().__deepcopy__(memo)._anew()

    def _anew(self) -> Self:
        """Without what ``once`` kept: that belongs to the original, and a copy may be about to differ."""
        for name in vars(self).keys() - type(self).model_fields.keys():
            del vars(self)[name]
        return self

    # Tells pydantic that this is no custom constructor: nested values then keep their place in the error's path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __pydantic_init_subclass__(cls, *, family: bool = False, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if family:
            cls._family, cls._members = cls, {}
        elif cls._family is not None and "kind" in cls.__annotations__:
            kind = cls.model_fields["kind"].default
            if kind in cls._members:
                raise ConfigError(
                    f"{cls._family.__name__}: the kind {kind!r} is already taken by {cls._members[kind].__name__}"
                )
            cls._members[kind] = cls

    def __init_subclass__(cls, *, family: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @classmethod
    def kinds(cls) -> dict[str, type[Self]]:
        """The registered members of this family by kind."""
        return dict(cls._members)  # type: ignore[arg-type]

    @classmethod
    def kind_name(cls) -> str:
        """The kind of a member of a family, by which it is named in files."""
        return str(cls.model_fields["kind"].default)

    @classmethod
    def named(cls, name: str) -> Mapping[str, Any] | Self:
        """What a bare name stands for where this class is wanted: its kind, or whatever a class with a catalog says."""
        return {"kind": name}

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, value: Any, handler: Any) -> Any:
        family = cls._family
        if isinstance(value, cls):
            return value
        named = (family or cls).named
        if isinstance(value, str) and (family is not None or named.__func__ is not Config.named.__func__):  # type: ignore[attr-defined]
            value = named(value)
            if isinstance(value, cls):
                return value
        if cls is family:
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"expected a {cls.__name__}: a mapping with 'kind' or a name, got {type(value).__name__}"
                )
            if "kind" not in value:
                raise ValueError(f"'kind' is missing; one of {', '.join(sorted(cls._members))}")
            kind = value["kind"]
            if not isinstance(kind, str):
                raise ValueError(f"'kind' is {short(kind)}, expected one of {', '.join(sorted(cls._members))}")
            if kind not in cls._members:
                load_installed_parts()
            member = cls._members.get(kind)
            if member is None:
                raise ValueError(unknown(f"{cls.__name__} kind", kind, cls._members))
            return member.model_validate(value)
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(unknown("field", str(key), cls.model_fields))
        return handler(value)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Validate plain data (what YAML or JSON holds). Raises ConfigError with the dotted path of what is wrong."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _config_error(cls, error) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a YAML or JSON file. Raises ConfigError."""
        data = read_yaml(path)
        try:
            return cls.parse(data)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``parse`` turns back into an equal value."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def to_json(self) -> str:
        """``to_dict`` as indented JSON, which ``read`` takes."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_yaml(self, *, changed_only: bool = False) -> str:
        """As a YAML file that ``read`` takes; ``changed_only`` leaves out every field that has its default."""
        return write_plain(_changed(self, self.to_dict()) if changed_only else self.to_dict())

    def hashed(self) -> Any:
        """The plain data that identifies this value: everything but the ``unhashed`` fields, at every depth.

        A part that is declared outside the package is known by the code of its file too: an edited one is another.
        """
        left_out = self.unhashed | self.places() if _without_places.get() else self.unhashed
        data = {name: _hashed(getattr(self, name)) for name in type(self).model_fields if name not in left_out}
        code = code_digest(type(self).__module__)
        return data if code is None else {**data, "code": code}

    def places(self) -> frozenset[str]:
        """The ``located`` fields of this value; fewer where one of them names something that has no content here."""
        return self.located

    def hashed_without_places(self) -> Any:
        """``hashed`` without the places of what is known by its content, at every depth: equal wherever files lie."""
        token = _without_places.set(True)
        try:
            return self.hashed()
        finally:
            _without_places.reset(token)

    @once
    def digest(self) -> str:
        """SHA-256 over the hashed fields, as 64 hexadecimal digits. Mapping order counts: it is channel order."""
        return digest(self.hashed())


C = TypeVar("C", bound=Config)


def _changed(value: Any, plain: Any) -> Any:
    """What plain data hold of a value beyond the defaults of its class; a kind is always kept."""
    if isinstance(value, Config):
        fields = type(value).model_fields
        kept = (
            n
            for n in plain
            if n == "kind"
            or fields[n].is_required()
            or getattr(value, n) != fields[n].get_default(call_default_factory=True)
        )
        return {name: _changed(getattr(value, name), plain[name]) for name in kept}
    if isinstance(value, Mapping):
        return {name: _changed(one, plain[str(name)]) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(one, written) for one, written in zip(value, plain, strict=True)]
    return plain


def _hashed(value: Any) -> Any:
    if isinstance(value, Config):
        return value.hashed()
    if isinstance(value, Mapping):
        return [[str(k), _hashed(v)] for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [_hashed(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def digest(data: Any) -> str:
    """SHA-256 of plain data in one canonical JSON form."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def override(config: C, path: str, value: Any) -> C:
    """A copy of ``config`` with the field at the dotted ``path`` replaced; list positions are numbers.

    The command line's ``--set stages.1.steps=200`` and an axis of a search space are both this function.
    Raises ConfigError when the path does not exist (with the nearest name) or the new value does not fit.
    """
    return overridden(config, [(path, value)])


def overridden(config: C, changes: Iterable[tuple[str, Any]]) -> C:
    """``override`` by one change after another; what fits only together (``epochs`` gone, ``steps`` given) may come so.

    Raises ConfigError when a path does not exist, or what they make does not fit.
    """
    data, misfit = config.to_dict(), None
    for path, value in changes:
        _assign(data, config, path.split("."), value, path)
        try:
            config, misfit = type(config).parse(data), None
        except ConfigError as error:
            misfit = error
        else:
            data = config.to_dict()
    if misfit is not None:
        raise misfit
    return config


def _assign(data: Any, typed: Any, steps: list[str], value: Any, path: str) -> None:
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(data, list):
            if not re.fullmatch("-?[0-9]{1,9}", step) or not -len(data) <= int(step) < len(data):
                raise ConfigError(f"{path}: {step!r} is no position in a list of {len(data)}")
            key: Any = int(step)
        elif isinstance(data, dict):
            open_ended = isinstance(typed, Mapping)  # a mapping such as `encoders` takes new names; a Config does not
            if step not in data and not (open_ended and last):
                raise ConfigError(f"{path}: {unknown('field', step, data)}")
            key = step
        else:
            raise ConfigError(f"{path}: {'.'.join(steps[:depth])} is a plain value and has no field {step!r}")
        if last:
            if key == "kind" and isinstance(typed, Config) and typed._family is not None:
                _keep_common(data, typed.kinds().get(str(value)))
            data[key] = value.to_dict() if isinstance(value, Config) else value
            return
        typed = _below(typed, key)
        data = data[key]


def _below(typed: Any, key: Any) -> Any:
    """The value at a key, or None where a change that does not fit yet has just made it."""
    if isinstance(typed, Mapping):
        return typed.get(key)
    if isinstance(typed, tuple | list):
        return typed[key] if -len(typed) <= key < len(typed) else None
    return getattr(typed, key, None)


def _keep_common(data: dict[str, Any], member: type[Config] | None) -> None:
    """Another member of a family takes over the fields that it has too; the others go with the member that had them."""
    for name in [name for name in data if member is not None and name not in member.model_fields]:
        del data[name]


def read_yaml(path: str | Path) -> Any:
    """The plain data of a YAML or JSON file. Raises ConfigError that names the file."""
    try:
        return read_plain(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML or JSON: {' '.join(str(error).split())}") from None


def read_assignment(text: str) -> tuple[str, Any]:
    """Split ``path=value`` and read the value as YAML, so that 3, 1e-3, true, [1, 2] and {a: b} mean themselves."""
    path, equals, raw = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"{text!r}: expected PATH=VALUE, for example stages.1.steps=200")
    try:
        return path.strip(), read_plain(raw)
    except ValueError as error:
        raise ConfigError(f"{text[:80]!r}: the value is not valid YAML: {error}") from None


def read_assignments(texts: Iterable[str]) -> list[tuple[str, Any]]:
    """Each ``path=value``. Raises ConfigError when one cannot be read, or two give the same path a value."""
    given: dict[str, str] = {}
    found = []
    for text in texts:
        path, value = read_assignment(text)
        if path in given:
            raise ConfigError(f"{path} is given twice: {given[path]!r} and {text!r}")
        given[path] = text
        found.append((path, value))
    return found


def _config_error(cls: type[Config], error: ValidationError) -> ConfigError:
    lines = []
    items = error.errors(include_url=False)
    for item in items:
        # A tuple of which an element failed is also called too short: that element is missing from it.
        if item["type"] == "too_short" and any(_inside(other["loc"], item["loc"]) for other in items):
            continue
        path = ".".join(str(part) for part in item["loc"]) or cls.__name__
        message = item["msg"].removeprefix("Value error, ")
        given = item["input"]
        if item["type"] not in ("value_error", "missing", "extra_forbidden") and not isinstance(
            given, dict | BaseModel
        ):
            message += f", got {short(given)}"
        lines.append(f"{path}: {message}")
    return ConfigError("; ".join(lines))


def _inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer
