"""Measure one way out: whether it answers, how quickly, how fast, and with the right bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from typing import TYPE_CHECKING, Literal

import requests
from urllib3.exceptions import HTTPError

from wheelyard.network.asking import GIT_AGENT, ask, explain, read_small, within
from wheelyard.network.failover import RouteError
from wheelyard.network.masking import mask_url
from wheelyard.network.routes import HUB, NVIDIA, PYTORCH, Route, is_of_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.settings import NetworkSettings

Honest = Literal["yes", "no", "not checked"]

_SAMPLE_BYTES = 8 << 20
_SAMPLE_SECONDS = 3.0
_SMALL = 1 << 20
_PAGE = 64 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What a way is tried with: something small that never changes, and something large."""

    small: str
    """A URL; or relative to an index, for groups whose ways are whole indexes."""
    sha256: str = ""
    """Of the small one; empty where nothing is known to compare with."""
    contains: bytes = b""
    """What the small one must hold, where it is not always the same."""
    large: str = ""
    """What the rate is measured with; empty for the small one."""


# The most looked at repository of GitHub, whose one commit has not changed in fifteen years.
_HELLO = "octocat/Hello-World"
_HELLO_COMMIT = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"
SAMPLES = {
    "GitHub files": Sample(
        small=f"https://raw.githubusercontent.com/{_HELLO}/{_HELLO_COMMIT}/README",
        sha256="03ba204e50d126e4674c005e04d82e84c21366780af1f43bd54a37816b6ab340",
        large="https://github.com/git/git/archive/refs/tags/v2.47.0.tar.gz",
    ),
    "GitHub clones": Sample(
        small=f"https://github.com/{_HELLO}/info/refs?service=git-upload-pack",
        contains=_HELLO_COMMIT.encode(),
    ),
    # what `locks/` and the recipe of causal-conv1d 1.7.0 hold too
    "Python index": Sample(
        small="causal-conv1d/",
        contains=b"3202758494eaa7b597ce1c282dfa188889506bfcb92cad3c407d26736bfcd32b",
    ),
    "PyTorch index": Sample(small=f"{PYTORCH}cu126/torch/", contains=b"torch-2.6.0"),
    "NVIDIA archives": Sample(small=f"{NVIDIA}redistrib_12.4.1.json", contains=b'"cuda_nvcc"'),
    "model hub": Sample(small=f"{HUB}openai-community/gpt2/resolve/main/config.json"),
}
"""By the group of ways that they are for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What came of one way."""

    group: str
    name: str
    """The way's server, or ``direct``."""
    written: str
    """As the settings have it, without credentials; empty for the straight way."""
    reason: str = ""
    """Why it was not reached, or what was wrong; empty if all is well."""
    latency: float | None = None
    """Seconds to the first byte."""
    rate: float | None = None
    """Bytes a second."""
    honest: Honest = "not checked"

    @property
    def usable(self) -> bool:
        return self.latency is not None and self.honest != "no" and not self.reason


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    group: str
    name: str
    written: str
    small: Route
    large: Route | None
    sample: Sample


def measure_all(
    settings: IndexSettings,
    session: requests.Session,
    *,
    samples: dict[str, Sample] = SAMPLES,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[Measured]:
    """Measure each configured way of each group, and the straight one, one after another."""
    for way in _ways(settings, samples):
        say(f"measuring {way.group}: {way.name}")
        yield _measure(way, session, settings.network)


def _ways(settings: IndexSettings, samples: dict[str, Sample]) -> Iterator[_Way]:
    network = settings.network
    if network.direct != "never":  # who forbids the straight way is not to be disobeyed here
        network = dataclasses.replace(network, direct="last")
    configured = {
        "GitHub files": bool(network.github_proxies),
        "GitHub clones": bool(network.github_proxies),
        "PyTorch index": bool(network.pytorch_indexes),
        "NVIDIA archives": bool(network.redist_urls),
        "model hub": bool(network.hf_endpoints),
    }
    for group, sample in samples.items():
        if group == "Python index":
            yield from _index_ways(settings, sample)
        elif configured[group] or group.startswith("GitHub"):
            yield from _routes_of(group, sample, network)


def _routes_of(group: str, sample: Sample, network: NetworkSettings) -> Iterator[_Way]:
    large = {str(route.detour): route for route in network.routes(sample.large) if sample.large}
    for route in network.routes(sample.small):
        yield _Way(
            group=group,
            name=route.via,
            written=_written(route),
            small=route,
            large=large.get(str(route.detour)),
            sample=sample,
        )


def _written(route: Route) -> str:
    if route.detour is None:
        return ""
    is_rule = is_of_family(route.original, "github.com")
    return mask_url(str(route.detour) if is_rule else str(route.detour).partition("=")[2])


def _index_ways(settings: IndexSettings, sample: Sample) -> Iterator[_Way]:
    mirrors = settings.network.python_indexes
    for url in dict.fromkeys((*mirrors, settings.primary_index_url)):
        if not url.startswith(("http://", "https://")):
            continue
        page = f"{url.rstrip('/')}/{sample.small}"
        route = Route(url=page, original=page)
        yield _Way(
            group="Python index",
            name=route.server,
            written=mask_url(url) if url in mirrors else "",
            small=route,
            large=None,
            sample=sample,
        )


def _measure(way: _Way, session: requests.Session, network: NetworkSettings) -> Measured:
    base = Measured(group=way.group, name=way.name, written=way.written)
    patience = 2 * (network.connect_timeout + 2 * network.stall_timeout)
    started = time.monotonic()
    try:
        answer = within(
            patience,
            lambda: read_small(
                session, way.small, settings=network, limit=_PAGE, headers=_headers(way)
            ),
            discard=lambda response: response.close(),
        )
    except RouteError as error:
        honest: Honest = "no" if error.wrong else "not checked"
        return dataclasses.replace(base, reason=error.reason, honest=honest)
    latency = answer.elapsed.total_seconds() or time.monotonic() - started
    honest, reason = _judge(answer.content, way.sample)
    rate = None
    if honest != "no":
        rate, reason = _rate(way, session, network)
    return dataclasses.replace(base, latency=latency, honest=honest, reason=reason, rate=rate)


def _headers(way: _Way) -> dict[str, str]:
    if "service=git-upload-pack" in way.small.url:
        return GIT_AGENT
    return {"Accept": "application/vnd.pypi.simple.v1+html, text/html;q=0.9, */*;q=0.1"}


def _judge(content: bytes, sample: Sample) -> tuple[Honest, str]:
    if sample.sha256:
        if hashlib.sha256(content).hexdigest() == sample.sha256:
            return "yes", ""
    elif not sample.contains:
        return "not checked", ""
    elif sample.contains in content:
        return "yes", ""
    kind = "an HTML page" if content.lstrip()[:1] == b"<" and sample.sha256 else "something else"
    return "no", f"sent {kind} in place of what is known to be there"


def _rate(
    way: _Way, session: requests.Session, network: NetworkSettings
) -> tuple[float | None, str]:
    """Measure with the large sample for a few seconds; it is thrown away."""
    if way.large is None:
        return None, ""
    started = time.monotonic()
    size = 0
    try:
        with ask(session, way.large, settings=network) as response:
            while time.monotonic() - started < _SAMPLE_SECONDS and size < _SAMPLE_BYTES:
                chunk = response.raw.read1(1 << 16, decode_content=False)
                if not chunk:
                    break
                size += len(chunk)
    except RouteError as error:
        return None, f"no archives: {error.reason}"
    except (HTTPError, requests.RequestException) as error:
        return None, f"no archives: {explain(error, settings=network).reason}"
    return size / max(time.monotonic() - started, 1e-6), ""


def suggested_order(measured: Sequence[Measured]) -> dict[str, tuple[str, ...]]:
    """Return what to write under each key of ``[network]``, the best way first.

    A way that was not reached or not honest in one of its groups is left out.
    """
    keys = {
        "GitHub files": "github-proxies",
        "GitHub clones": "github-proxies",
        "Python index": "python-indexes",
        "PyTorch index": "pytorch-indexes",
        "NVIDIA archives": "redist-urls",
        "model hub": "hf-endpoints",
    }
    found: dict[str, tuple[str, ...]] = {}
    for key in dict.fromkeys(keys.values()):
        ours = [one for one in measured if keys[one.group] == key and one.written]
        bad = {one.written for one in ours if not one.usable}
        best = {one.written: _quality(one) for one in reversed(ours) if one.written not in bad}
        if ours:
            found[key] = tuple(sorted(best, key=lambda written: best[written]))
    return found


def suggested_direct(measured: Sequence[Measured]) -> str:
    """Return where the straight way to GitHub belongs: first if it is as good as any."""
    files = [one for one in measured if one.group == "GitHub files"]
    straight = [one for one in files if not one.written]
    if not straight or not straight[0].usable:
        return "last"
    best = min((_quality(one) for one in files if one.usable), default=(0.0, 0.0))
    return "first" if _quality(straight[0]) <= best else "last"


def _quality(one: Measured) -> tuple[float, float]:
    """Less is better: the rate in steps of a factor of two, then the latency."""
    rate = one.rate or 0.0
    return (-float(round(rate).bit_length()), one.latency or 0.0)
