"""The effective package index settings, read from the user's own pip and uv configuration."""

from __future__ import annotations

import configparser
import dataclasses
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

import msgspec

from wheelyard.errors import InputFileError
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ETC = Path("/etc")
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_PIP_OPTIONS = {
    "index-url": "index_url",
    "extra-index-url": "extra_index_urls",
    "find-links": "find_links",
    "no-index": "no_index",
    "cert": "certificate",
    "client-cert": "client_certificate",
    "proxy": "proxy",
    "trusted-host": "trusted_hosts",
}
_LISTS = frozenset({"extra_index_urls", "find_links", "trusted_hosts"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a value was found, for example ``/etc/pip.conf [global]``, or ``UV_INDEX``."""

    tool: Literal["pip", "uv", "wheelyard"]
    place: str

    def __str__(self) -> str:
        return self.place


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexSettings:
    """What pip and uv would use on this machine; uv's own value wins where both are set.

    URLs may hold credentials: they are left out of the representation, and are to be shown
    through ``mask_url`` only.
    """

    index_url: str | None = dataclasses.field(default=None, repr=False)
    """``None``: nothing is configured, the tools' own default; see ``primary_index_url``."""
    extra_index_urls: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    find_links: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Folders and pages with links to files; local ones are absolute paths."""
    no_index: bool = False
    """Only ``find_links`` may be asked."""
    certificate: str | None = None
    """A file or folder with the certificate authorities to trust."""
    client_certificate: str | None = None
    system_certificates: bool = False
    """Trust what the system trusts, instead of the list that the tools bring along."""
    proxy: str | None = dataclasses.field(default=None, repr=False)
    trusted_hosts: tuple[str, ...] = ()
    """Hosts, or hosts with port, whose certificate is not checked."""
    offline: bool = False
    origins: Mapping[str, Origin] = dataclasses.field(default_factory=dict)
    """Where each value that is set came from, by the name of its field."""
    network: NetworkSettings = NetworkSettings()  # noqa: RUF009 - frozen
    """The proxies and mirrors through which these indexes and everything else are reached."""

    @property
    def primary_index_url(self) -> str:
        if self.index_url is not None:
            return self.index_url
        # Imported here: pypi-simple takes 0.4 s, and most commands never need the answer.
        from pypi_simple import PYPI_SIMPLE_ENDPOINT  # noqa: PLC0415

        return PYPI_SIMPLE_ENDPOINT

    @property
    def index_urls(self) -> tuple[str, ...]:
        """The indexes to ask, the primary one first."""
        if self.no_index:
            return ()
        return (*self.mirrored_index_urls, *self.extra_index_urls)

    @property
    def mirrored_index_urls(self) -> tuple[str, ...]:
        """The mirrors of the primary index and itself, in the order in which they are asked."""
        mirrors = self.network.python_indexes
        if not mirrors:
            return (self.primary_index_url,)
        if self.network.direct == "never":
            return mirrors
        own = (self.primary_index_url,)
        found = (*own, *mirrors) if self.network.direct == "first" else (*mirrors, *own)
        return tuple(dict.fromkeys(found))

    def is_from_pip(self, name: str) -> bool:
        """Whether a field's value comes from pip's configuration, which uv does not read."""
        return name in self.origins and self.origins[name].tool == "pip"


def with_network(settings: IndexSettings, network: NetworkSettings) -> IndexSettings:
    """Return ``settings`` reached as ``network`` says, whose own values win where they are set."""
    values: dict[str, object] = {}
    if network.certificate:
        values["certificate"] = network.certificate
    if network.offline:
        values["offline"] = True
    origins = {name: Origin(tool="wheelyard", place=network.origins[name]) for name in values}
    return dataclasses.replace(
        settings,
        network=network,
        origins={**settings.origins, **origins},
        **values,  # type: ignore[arg-type]
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    texts: tuple[str, ...]
    origin: Origin


def read_index_settings(
    env: Mapping[str, str], *, home: Path, cwd: Path, etc: Path = _ETC
) -> IndexSettings:
    """Read pip's and uv's files and variables, each in its own documented order."""
    found = _read_pip(env, home=home, cwd=cwd, etc=etc) | _read_uv(env, home=home, cwd=cwd, etc=etc)

    def texts(name: str) -> tuple[str, ...]:
        return found[name].texts if name in found else ()

    def text(name: str) -> str | None:
        return next(iter(texts(name)), None)

    def is_set(name: str) -> bool:
        return (text(name) or "").lower() in _TRUE

    return IndexSettings(
        index_url=text("index_url"),
        extra_index_urls=texts("extra_index_urls"),
        find_links=texts("find_links"),
        no_index=is_set("no_index"),
        certificate=text("certificate"),
        client_certificate=text("client_certificate"),
        system_certificates=is_set("system_certificates"),
        proxy=text("proxy"),
        trusted_hosts=texts("trusted_hosts"),
        offline=is_set("offline"),
        origins={name: value.origin for name, value in sorted(found.items())},
    )


def _read_pip(env: Mapping[str, str], *, home: Path, cwd: Path, etc: Path) -> dict[str, _Found]:
    found = {}
    for variable in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        if env.get(variable):
            found["certificate"] = _Found((env[variable],), Origin(tool="pip", place=variable))
    files = [(path, _parse_pip_file(path)) for path in _pip_files(env, home=home, etc=etc)]
    # A command's own section wins over [global], whichever files they stand in.
    for section in ("global", "install"):
        for path, parser in files:
            if parser.has_section(section):
                for name, value in parser.items(section):
                    found |= _pip_value(name, value, f"{path} [{section}]", home=home, cwd=cwd)
    for name, value in env.items():
        if name.startswith("PIP_"):
            found |= _pip_value(name.removeprefix("PIP_"), value, name, home=home, cwd=cwd)
    return found


def _pip_value(name: str, value: str, place: str, *, home: Path, cwd: Path) -> dict[str, _Found]:
    field = _PIP_OPTIONS.get(name.lower().replace("_", "-"))
    if field is None or not value.strip():
        return {}
    texts = tuple(value.split()) if field in _LISTS else (value.strip(),)
    located = tuple(_locate(text, field, base=cwd, home=home) for text in texts)
    return {field: _Found(located, Origin(tool="pip", place=place))}


def _pip_files(env: Mapping[str, str], *, home: Path, etc: Path) -> Iterator[Path]:
    """Yield the files that pip reads, the strongest last."""
    chosen = env.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    for folder in _xdg_config_dirs(env, etc=etc):
        yield folder / "pip" / "pip.conf"
    yield etc / "pip.conf"
    if not (chosen and Path(chosen).exists()):
        yield home / ".pip" / "pip.conf"
        yield _xdg_config_home(env, home=home) / "pip" / "pip.conf"
    if env.get("VIRTUAL_ENV"):
        yield Path(env["VIRTUAL_ENV"]) / "pip.conf"
    if chosen:
        yield Path(chosen)


def _parse_pip_file(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        msg = f"pip's configuration {path} cannot be read: {error}. Correct or remove it."
        raise InputFileError(msg) from error
    return parser


class _UvIndex(msgspec.Struct):
    url: str
    name: str | None = None
    default: bool = False
    explicit: bool = False
    format: str = "simple"


class _UvTable(msgspec.Struct, rename="kebab"):
    """The keys of ``uv.toml`` that matter here; uv itself judges the others."""

    index: list[_UvIndex] = []
    index_url: str | None = None
    extra_index_url: list[str] = []
    find_links: list[str] = []
    no_index: bool = False
    allow_insecure_host: list[str] = []
    system_certs: bool = False
    native_tls: bool = False
    offline: bool = False
    https_proxy: str | None = None


def _read_uv(env: Mapping[str, str], *, home: Path, cwd: Path, etc: Path) -> dict[str, _Found]:
    """Merge as uv does: the first single value wins, lists are joined, the strongest first."""
    found: dict[str, _Found] = {}
    for name, base, value in _uv_values(env, home=home, cwd=cwd, etc=etc):
        texts = tuple(_locate(text, name, base=base, home=home) for text in value.texts if text)
        if texts and name not in found:
            found[name] = _Found(texts, value.origin)
        elif texts and name in _LISTS:
            place = f"{found[name].origin}, {value.origin}"
            found[name] = _Found((*found[name].texts, *texts), Origin(tool="uv", place=place))
    return found


def _uv_values(
    env: Mapping[str, str], *, home: Path, cwd: Path, etc: Path
) -> Iterator[tuple[str, Path, _Found]]:
    """Yield field name, folder that relative paths start from, and value."""
    for name, variable, separator in (
        ("index_url", "UV_DEFAULT_INDEX", None),
        ("index_url", "UV_INDEX_URL", None),
        ("extra_index_urls", "UV_INDEX", None),
        ("extra_index_urls", "UV_EXTRA_INDEX_URL", None),
        ("find_links", "UV_FIND_LINKS", ","),
        ("certificate", "SSL_CERT_FILE", "\0"),
        ("client_certificate", "SSL_CLIENT_CERT", "\0"),
        ("system_certificates", "UV_SYSTEM_CERTS", None),
        ("system_certificates", "UV_NATIVE_TLS", None),
        ("trusted_hosts", "UV_INSECURE_HOST", None),
        ("offline", "UV_OFFLINE", None),
    ):
        texts = [text.strip() for text in env.get(variable, "").split(separator)]
        if name in {"index_url", "extra_index_urls"}:
            texts = [_named_index_url(text, env) for text in texts]
        yield name, cwd, _Found(tuple(texts), Origin(tool="uv", place=variable))
    for path, table in _uv_files(env, home=home, cwd=cwd, etc=etc):
        for name, values in _uv_table_values(table, env):
            yield name, path.parent, _Found(tuple(values), Origin(tool="uv", place=str(path)))


def _uv_table_values(
    table: _UvTable, env: Mapping[str, str]
) -> Iterator[tuple[str, Iterable[str]]]:
    usable = [index for index in table.index if not index.explicit]
    default = [index for index in usable if index.default]
    extra = [index for index in usable if not index.default and index.format != "flat"]
    flat = [index for index in usable if not index.default and index.format == "flat"]
    yield "index_url", [_with_credentials(index.url, index.name, env) for index in default]
    yield "index_url", [table.index_url or ""]
    yield "extra_index_urls", [_with_credentials(index.url, index.name, env) for index in extra]
    yield "extra_index_urls", table.extra_index_url
    yield "find_links", [*(index.url for index in flat), *table.find_links]
    yield "no_index", ["true" if table.no_index else ""]
    yield "trusted_hosts", table.allow_insecure_host
    yield "system_certificates", ["true" if table.system_certs or table.native_tls else ""]
    yield "offline", ["true" if table.offline else ""]
    yield "proxy", [table.https_proxy or ""]


def _uv_files(
    env: Mapping[str, str], *, home: Path, cwd: Path, etc: Path
) -> Iterator[tuple[Path, _UvTable]]:
    """Yield uv's files, the strongest first: project, user, the first one of the system."""
    if env.get("UV_CONFIG_FILE"):
        path = Path(env["UV_CONFIG_FILE"])
        yield path, _decode_uv_table(path, _read_toml(path))
        return
    if env.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return
    project = next(_uv_project_tables(cwd), None)
    if project is not None:
        yield project[0], _decode_uv_table(*project)
    system = [folder / "uv" / "uv.toml" for folder in (*_xdg_config_dirs(env, etc=etc), etc)]
    if env.get("UV_NO_SYSTEM_CONFIG", "").lower() in _TRUE:
        system.clear()
    user = _xdg_config_home(env, home=home) / "uv" / "uv.toml"
    for candidates in ([user], system):
        path_or_none = next((path for path in candidates if path.is_file()), None)
        if path_or_none is not None:
            yield path_or_none, _decode_uv_table(path_or_none, _read_toml(path_or_none))


def _uv_project_tables(cwd: Path) -> Iterator[tuple[Path, object]]:
    for folder in (cwd, *cwd.parents):
        if (folder / "uv.toml").is_file():
            yield folder / "uv.toml", _read_toml(folder / "uv.toml")
        if (folder / "pyproject.toml").is_file():
            table = _read_toml(folder / "pyproject.toml").get("tool")
            if isinstance(table, dict) and "uv" in table:
                yield folder / "pyproject.toml", table["uv"]


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"uv's configuration {path} cannot be read: {error}. Correct or remove it."
        raise InputFileError(msg) from error


def _decode_uv_table(path: Path, table: object) -> _UvTable:
    try:
        if isinstance(table, dict) and isinstance(table.get("pip"), dict):
            table = {**table, **table["pip"]}  # [pip] is stronger for `uv pip`, which we call
        return msgspec.convert(table, _UvTable)
    except msgspec.ValidationError as error:
        msg = f"uv's configuration {path} cannot be used: {error}. Correct it."
        raise InputFileError(msg) from error


def _named_index_url(text: str, env: Mapping[str, str]) -> str:
    """Take the name off ``name=url``, and put in the credentials that go with the name."""
    named = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", text)
    return _with_credentials(named[2], named[1], env) if named else text


def _with_credentials(url: str, name: str | None, env: Mapping[str, str]) -> str:
    prefix = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", (name or "").upper())
    username, password = env.get(f"{prefix}_USERNAME"), env.get(f"{prefix}_PASSWORD")
    parts = urlsplit(url)
    if not (username or password) or "@" in parts.netloc:
        return url
    userinfo = f"{quote(username or '', safe='')}:{quote(password or '', safe='')}"
    return parts._replace(netloc=f"{userinfo}@{parts.netloc}").geturl()


def _locate(text: str, name: str, *, base: Path, home: Path) -> str:
    """Make a local path absolute, so that it means the same in every child."""
    if name not in {"index_url", "extra_index_urls", "find_links"} or re.match(
        r"\w[\w+.-]+:", text
    ):
        return text
    relative = home / text.removeprefix("~/") if text.startswith("~/") else Path(text)
    path = Path(os.path.normpath(base / relative))
    return str(path) if name == "find_links" else path.as_uri()


def _xdg_config_home(env: Mapping[str, str], *, home: Path) -> Path:
    return Path(env["XDG_CONFIG_HOME"]) if env.get("XDG_CONFIG_HOME") else home / ".config"


def _xdg_config_dirs(env: Mapping[str, str], *, etc: Path) -> tuple[Path, ...]:
    given = [folder for folder in env.get("XDG_CONFIG_DIRS", "").split(os.pathsep) if folder]
    return tuple(Path(folder) for folder in given) or (etc / "xdg",)
