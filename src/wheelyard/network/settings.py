"""How sources are reached: the command line, the environment, the user's file, in this order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from wheelyard.errors import InputFileError, UsageError
from wheelyard.model.decode import decode_table
from wheelyard.model.words import nearest
from wheelyard.network.routes import (
    HUB,
    NVIDIA,
    PYTORCH,
    Detour,
    InsteadOf,
    Route,
    describe_routes,
    make_routes,
    parse_detour,
)
from wheelyard.network.settings_file import ConfigFile, Direct, NetworkTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CONFIG_NAME = "config.toml"
_MIRRORED = {"pytorch_indexes": PYTORCH, "redist_urls": NVIDIA, "hf_endpoints": HUB}
# What the tools that own a setting call it themselves.
_FOREIGN_VARIABLES = {"hf_endpoints": "HF_ENDPOINT"}
_FIELDS = {field.name: field for field in msgspec.structs.fields(NetworkTable)}
_KEYS = {field.encode_name: name for name, field in _FIELDS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSettings:
    """Proxies, mirrors and patience. URLs may hold credentials and are left out of ``repr``."""

    github_proxies: tuple[Detour, ...] = dataclasses.field(default=(), repr=False)
    python_indexes: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Asked in this order instead of the index that pip or uv name."""
    pytorch_indexes: tuple[InsteadOf, ...] = dataclasses.field(default=(), repr=False)
    redist_urls: tuple[InsteadOf, ...] = dataclasses.field(default=(), repr=False)
    hf_endpoints: tuple[InsteadOf, ...] = dataclasses.field(default=(), repr=False)
    direct: Direct = "last"
    """Where the straight way stands among the proxies and mirrors."""
    proxy: str = dataclasses.field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()
    certificate: str = ""
    offline: bool = False
    connect_timeout: float = 5.0
    stall_timeout: float = 10.0
    """Seconds that a server may send nothing."""
    slowest: int = 16384
    """Bytes a second below which another way is tried, if there is one."""
    attempts: int = 4
    """How often one way is tried without a byte of progress."""
    hedge_after: float = 2.0
    """Seconds that a large file's first byte is waited for before a second way is asked too."""
    parallel: int = 4
    """How many things are fetched at once."""
    health_path: Path | None = None
    """The file that remembers which servers failed lately; ``None`` remembers nothing."""
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where each value that is set came from, by the name of its field."""

    @property
    def detours(self) -> tuple[Detour, ...]:
        return (
            *self.github_proxies,
            *self.pytorch_indexes,
            *self.redist_urls,
            *self.hf_endpoints,
        )

    def routes(self, url: str) -> tuple[Route, ...]:
        """Return the ways to ``url`` in the order that the settings give."""
        return make_routes(url, self.detours, direct=self.direct)

    def connection_variables(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of an ordinary proxy, where ``env`` names none itself."""
        found: dict[str, str] = {}
        known = ("http_proxy", "https_proxy", "all_proxy")
        if self.proxy and not any(env.get(name) or env.get(name.upper()) for name in known):
            found |= {"http_proxy": self.proxy, "https_proxy": self.proxy}
        if self.no_proxy and not (env.get("no_proxy") or env.get("NO_PROXY")):
            found["no_proxy"] = ",".join(self.no_proxy)
        return found

    def shown(self, name: str) -> str:
        """Return a value as text for people: what they would write, in one line."""
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if name in _MIRRORED:
            return " ".join(item.by for item in value)
        if name == "github_proxies":
            return " ".join(describe_routes(value))
        return " ".join(value)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    value: object
    origin: str


def read_network_settings(
    env: Mapping[str, str],
    *,
    config: Path,
    options: Sequence[str] = (),
    health_path: Path | None = None,
) -> NetworkSettings:
    """Read ``KEY=VALUE`` options, ``WHEELYARD_*`` variables and the file ``config``.

    A value that is set nearer replaces one that is set farther away, lists too.
    """
    found = _read_file(config) | _read_variables(env) | _read_options(options)
    values = {name: _parse(name, one) for name, one in found.items()}
    return NetworkSettings(
        **values,  # type: ignore[arg-type]
        health_path=health_path,
        origins={name: one.origin for name, one in sorted(found.items())},
    )


def variable_of(name: str) -> str:
    """Return the variable of a field, for example ``WHEELYARD_GITHUB_PROXIES``."""
    return f"WHEELYARD_{name.upper()}"


def read_config(config: Path) -> ConfigFile:
    """Read the user's configuration; one that is not there says nothing."""
    try:
        text = config.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ConfigFile()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The configuration {config} cannot be read: {error}. Correct or remove it."
        raise InputFileError(msg) from error
    return decode_table(text, ConfigFile, origin=str(config))


def _read_file(config: Path) -> dict[str, _Found]:
    table = read_config(config).network
    return {
        name: _Found(value=value, origin=f"{config} [network]")
        for name, field in _FIELDS.items()
        if (value := getattr(table, name)) != field.default
    }


def _read_variables(env: Mapping[str, str]) -> dict[str, _Found]:
    found = {}
    for name in _FIELDS:
        for variable in (_FOREIGN_VARIABLES.get(name, ""), variable_of(name)):
            if env.get(variable, "").strip():
                value = _decode(name, [env[variable]], origin=variable)
                found[name] = _Found(value=value, origin=variable)
    return found


def _read_options(options: Sequence[str]) -> dict[str, _Found]:
    texts: dict[str, list[str]] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key not in _KEYS:
            hint = nearest(key, _KEYS) or f" Known: {', '.join(_KEYS)}."
            msg = f"--network {mask_option(option)!r} is no KEY=VALUE of the network.{hint}"
            raise UsageError(msg)
        texts.setdefault(_KEYS[key], []).append(text)
    return {
        name: _Found(value=_decode(name, found, origin="--network"), origin="--network")
        for name, found in texts.items()
    }


def mask_option(option: str) -> str:
    """Return what stands before the value, which may hold credentials."""
    return option.partition("=")[0] + ("=..." if "=" in option else "")


def _decode(name: str, texts: list[str], *, origin: str) -> object:
    """Read words as the table's own type has them; lists are separated by blanks."""
    field = _FIELDS[name]
    is_list = isinstance(field.default, tuple)
    value: object = tuple(" ".join(texts).split()) if is_list else texts[-1].strip()
    if isinstance(field.default, bool) and isinstance(value, str):
        value = value.lower()
    try:
        return msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        key = field.encode_name
        msg = f"{error}, given {value!r} - for `{key}` in {origin}. Correct it."
        raise InputFileError(msg) from None


def _parse(name: str, found: _Found) -> object:
    if name == "github_proxies":
        return tuple(parse_detour(text, origin=found.origin) for text in _texts(found))
    if name in _MIRRORED:
        return tuple(
            _parse_mirror(text, of=_MIRRORED[name], origin=found.origin) for text in _texts(found)
        )
    return found.value


def _parse_mirror(text: str, *, of: str, origin: str) -> InsteadOf:
    if not text.startswith(("http://", "https://")):
        msg = f"{text!r} is no URL of a mirror - in {origin}. Write for example {of!r}."
        raise InputFileError(msg)
    return InsteadOf(of=of, by=text)


def _texts(found: _Found) -> tuple[str, ...]:
    assert isinstance(found.value, tuple)
    return found.value
