"""Every fault x everything that is fetched: the right bytes in the end, or a clear error."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
from typing import TYPE_CHECKING, Literal

import pytest
from faults import faults
from faults.fetching import GIT, KINDS, TARGETS, Fetcher, Kind
from faults.proxy import PATIENCE
from faults.upstream import sha256

from wheelyard.errors import FetchError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.certificates import Certificates
    from faults.faults import Fault
    from faults.proxy import FaultProxy

Only = Literal["all", "git", "files", "bodies"]
AT = 100_000
"""Where bodies are cut: within a file of 300 000 bytes, and within a pack."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, for what, and what a refusal must say."""

    name: str
    faults: tuple[Fault, ...]
    """The first answers the first request that it is for, the last all others."""
    says: str
    only: Only = "all"
    in_body: bool = False
    """Whether git meets it within the pack, and not in the answer before."""
    passes: bool = False
    """Whether the same server must be asked again when there is no other."""
    is_borne: bool = False
    """Whether the right bytes arrive even so."""

    def fits(self, kind: Kind) -> bool:
        if kind == "component" or (kind == "manifest" and self.name == "wrong-bytes"):
            return False  # fetched as a release is; and a flipped digit may be as good
        match self.only:
            case "git":
                return kind in GIT
            case "files":
                return kind not in GIT
            case "bodies":
                return kind in {"sdist", "release"}
            case _:
                return True


def row(name: str, *given: Fault, says: str, **options: object) -> Row:
    return Row(name=name, faults=given, says=says, **options)  # type: ignore[arg-type]


STALLS = r"nothing|stall|did not answer|too slow|timed out|low speed"
CUTS = r"cut off|IncompleteRead|early EOF|ended early|closed|unexpected|disconnect"
WRONG = r"other bytes|sha256|another file|instead|wanted|corrupt|inflate|pack|checksum|fsck|bad"
ROWS = (
    row("stall", faults.stall(), says=STALLS, passes=True),
    row("stall-early", faults.stall_within(10), says=STALLS, in_body=True, passes=True),
    row("stall-late", faults.stall_within(AT), says=STALLS, in_body=True, only="git"),
    row("stall-late", faults.stall_within(AT), says=STALLS, is_borne=True, only="bodies"),
    row("cut", faults.cut(AT), says=CUTS, in_body=True, passes=True, only="git"),
    row("cut", faults.cut(AT), says=CUTS, in_body=True, is_borne=True, only="bodies"),
    row("cut-early", faults.cut(10), says=CUTS, in_body=True, passes=True),
    row("drip", faults.drip(0.02), says=STALLS, in_body=True),
    row("hesitation", faults.drip(0.001, count=50), says="", in_body=True, is_borne=True),
    row("html", faults.html(), says=r"HTML|html|page|not valid|protocol|content-type"),
    row("wrong-bytes", faults.wrong_bytes(), says=WRONG, in_body=True),
    row("other-file", faults.other_content(b"other" * 60_000), says=WRONG, only="bodies"),
    row("truncated", faults.truncated(), says=f"{WRONG}|{CUTS}|truncated|0 files", in_body=True),
    row("endless", faults.endless(), says="more than|too long|too large", only="files"),
    row("403", faults.status(403), says="403"),
    row("404", faults.status(404), says="404|not found|no such"),
    row("429", faults.status(429, retry_after="0"), says="429", passes=True),
    row("429-tomorrow", faults.status(429, retry_after="86400"), says="429"),
    row("502", faults.status(502), says="502", passes=True),
    row("redirect-loop", faults.redirect_loop(), says="redirect"),
    row("header-only", faults.header_only(), says=CUTS, in_body=True, passes=True),
    row(
        *("wrong-start", faults.wrong_start(AT)),
        says=WRONG,
        only="bodies",
    ),
    row(
        *("range-ignored", faults.cut(AT), faults.range_ignored()),
        says="",
        only="bodies",
        is_borne=True,
    ),
    row(
        *("range-of-other-bytes", faults.cut(AT), faults.range_of_other_bytes()),
        says=WRONG,
        only="bodies",
    ),
    row(
        *("range-elsewhere", faults.cut(AT), faults.range_elsewhere()),
        says="part|range",
        only="bodies",
    ),
    row(
        *("changed-between", faults.cut(AT), faults.other_content(b"other" * 60_000)),
        says=f"{WRONG}|part|range",
        only="bodies",
    ),
    row(
        *("other-repository", faults.other_url("/maker/", "/other/")),
        says="not our ref|has no commit|no such|unadvertised",
        only="git",
    ),
    row(
        *("other-repository-between", faults.other_url("/maker/", "/other/")),
        says="not our ref|has no commit|no such|unadvertised",
        only="git",
        in_body=True,
    ),
    row(
        *("html-instead-of-pack", faults.html()),
        says=r"HTML|html|page|not valid|protocol|pack|RPC|content-type|disconnect|unexpected|bad",
        only="git",
        in_body=True,
    ),
    row("without-files", faults.without("blob:none"), says=WRONG, only="git"),
    row("without-trees", faults.without("tree:0"), says=WRONG, only="git"),
    row("no-single-commit", faults.only_advertised(), says="", only="git", is_borne=True),
    row("403-instead-of-pack", faults.status(403), says="403", only="git", in_body=True),
)
PAIRS = [(kind, row) for kind in KINDS for row in ROWS if row.fits(kind)]
CASES = [pytest.param(kind, row, id=f"{kind}-{row.name}") for kind, row in PAIRS]
PASSING = [pytest.param(kind, row, id=f"{kind}-{row.name}") for kind, row in PAIRS if row.passes]


@pytest.fixture
def proxies(serve: Callable[..., FaultProxy]) -> Iterator[Callable[[], FaultProxy]]:
    """Return a function that starts prefix proxies, none of which a client may wait for."""
    started: list[FaultProxy] = []

    def start() -> FaultProxy:
        started.append(serve())
        return started[-1]

    yield start
    outlasted = [asked for proxy in started for asked in proxy.asked if asked.outlasted]
    assert not outlasted, "somebody waited for a server that sends nothing"


def inject(proxy: FaultProxy, row: Row, kind: Kind, *, times: int | None = None) -> None:
    method = "POST" if row.in_body and kind in GIT else "*"
    *first, last = row.faults
    for fault in first:
        proxy.inject(fault, TARGETS[kind], method=method, times=1)
    proxy.inject(last, TARGETS[kind], method=method, times=times)


def address(proxy: FaultProxy) -> str:
    return proxy.url.partition("://")[2]


@pytest.mark.parametrize(("kind", "row"), CASES)
def test_next_route_is_taken(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind, row: Row
) -> None:
    faulty, healthy = proxies(), proxies()
    inject(faulty, row, kind)
    assert fetcher.fetch(kind, [faulty.url, healthy.url]) == fetcher.expected(kind)
    assert fetcher.wrong_things_kept() == []
    assert len(faulty.asked) < 40, "a server that does not work is left soon"


@pytest.mark.parametrize(("kind", "row"), CASES)
def test_without_another_route_it_is_refused_and_nothing_is_kept(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind, row: Row
) -> None:
    faulty = proxies()
    inject(faulty, row, kind)
    if row.is_borne:
        assert fetcher.fetch(kind, [faulty.url]) == fetcher.expected(kind)
    else:
        with pytest.raises((FetchError, IntegrityError)) as caught:
            fetcher.fetch(kind, [faulty.url])
        said = [line for line in str(caught.value).splitlines() if address(faulty) in line]
        assert said, str(caught.value)
        assert re.search(row.says, said[-1], re.IGNORECASE), str(caught.value)
    assert fetcher.wrong_things_kept() == []
    faulty.heal()
    assert fetcher.fetch(kind, [faulty.url]) == fetcher.expected(kind)


@pytest.mark.parametrize(("kind", "row"), PASSING)
def test_what_passes_is_tried_again(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind, row: Row
) -> None:
    faulty = proxies()
    inject(faulty, row, kind, times=1)
    assert fetcher.fetch(kind, [faulty.url]) == fetcher.expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_redirect_to_another_server_is_refused(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind
) -> None:
    faulty, elsewhere = proxies(), proxies()
    faulty.inject(faults.redirect(elsewhere.url), TARGETS[kind])
    if kind in {"index", "sdist"}:
        # an index may keep its files where it likes: their digest is pinned
        assert fetcher.fetch(kind, [faulty.url]) == fetcher.expected(kind)
        return
    with pytest.raises((FetchError, IntegrityError)) as caught:
        fetcher.fetch(kind, [faulty.url])
    assert "redirect" in str(caught.value)
    assert elsewhere.asked == []
    assert fetcher.wrong_things_kept() == []
    assert fetcher.fetch(kind, [faulty.url, proxies().url]) == fetcher.expected(kind)


@pytest.mark.parametrize(("method", "skip"), [("GET", 1), ("POST", 0)], ids=["again", "pack"])
def test_redirect_of_gits_own_questions_is_refused(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], method: str, skip: int
) -> None:
    """The first question is ours, and a proxy may tell it from those that git asks."""
    faulty, elsewhere = proxies(), proxies()
    faulty.inject(
        faults.redirect(elsewhere.url), TARGETS["clone"], method=method, skip=skip, times=9
    )
    with pytest.raises((FetchError, IntegrityError), match=address(faulty)):
        fetcher.fetch("clone", [faulty.url])
    assert elsewhere.asked == []
    assert fetcher.fetch("clone", [faulty.url, proxies().url]) == fetcher.expected("clone")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.fits("clone") and not row.in_body], ids=lambda row: row.name
)
def test_git_that_is_told_how_to_connect_is_watched_as_well(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], tmp_path: Path, row: Row
) -> None:
    """Only git knows its own settings then, so that nothing asks before it does."""
    (tmp_path / "home" / ".gitconfig").write_text("[http]\n\tsslVerify = true\n")
    faulty, healthy = proxies(), proxies()
    inject(faulty, row, "clone")
    assert fetcher.fetch("clone", [faulty.url, healthy.url]) == fetcher.expected("clone")
    assert fetcher.wrong_things_kept() == []
    other = fetcher.elsewhere("alone")
    if not row.is_borne:
        with pytest.raises((FetchError, IntegrityError), match=address(faulty)):
            other.fetch("clone", [faulty.url])
    assert other.wrong_things_kept() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("certificate", ["expired", "unknown", "of_another_host"])
def test_bad_certificate_is_refused(
    fetcher: Fetcher,
    serve: Callable[..., FaultProxy],
    certificates: Certificates,
    kind: Kind,
    certificate: str,
) -> None:
    faulty = serve(certificate=getattr(certificates, certificate)())
    with pytest.raises((FetchError, IntegrityError)) as caught:
        fetcher.fetch(kind, [faulty.url])
    assert "certificate" in str(caught.value)
    assert faulty.asked == []
    healthy = serve(certificate=certificates.good())
    assert fetcher.fetch(kind, [faulty.url, healthy.url]) == fetcher.expected(kind)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["clone", "index", "release", "manifest"])
def test_port_where_nobody_speaks_is_left(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        end = threading.Timer(PATIENCE, silent.close)
        end.start()
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        assert fetcher.fetch(kind, [url, proxies().url]) == fetcher.expected(kind)
        with pytest.raises(FetchError, match=url):
            fetcher.elsewhere("alone").fetch(kind, [url])
        assert end.is_alive(), "somebody waited for a server that never speaks"
        end.cancel()
        end.join()


@pytest.mark.parametrize("kind", KINDS)
def test_closed_port_is_left(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], kind: Kind
) -> None:
    gone = proxies()
    gone.close()
    with pytest.raises(FetchError, match=f"{address(gone)}[^$]*(?i:refused|connect)"):
        fetcher.fetch(kind, [gone.url])
    assert fetcher.fetch(kind, [gone.url, proxies().url]) == fetcher.expected(kind)


def test_manifest_of_a_mirror_is_held_against_another_way(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy]
) -> None:
    """Nothing pins a manifest: a mirror that names other digests must not make the lock alone."""
    lying, honest = proxies(), proxies()
    manifest = fetcher.upstream.manifest
    forged = manifest.replace(sha256(fetcher.upstream.component).encode(), b"0" * 64)
    lying.inject(faults.other_content(forged), TARGETS["manifest"])
    with contextlib.suppress(FetchError, IntegrityError):
        found = fetcher.fetch("manifest", [lying.url, honest.url])
        assert found == fetcher.expected("manifest")


def test_manifest_that_no_other_way_confirms_is_taken_with_a_warning(
    fetcher: Fetcher, proxies: Callable[[], FaultProxy], caplog: pytest.LogCaptureFixture
) -> None:
    alone = proxies()
    assert fetcher.fetch("manifest", [alone.url]) == fetcher.expected("manifest")
    assert "no other way confirms it" in caplog.text
    caplog.clear()
    both = [alone.url, proxies().url]
    assert fetcher.fetch("manifest", both) == fetcher.expected("manifest")
    assert "confirms" not in caplog.text
