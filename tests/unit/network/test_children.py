from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from wheelyard.errors import FetchError
from wheelyard.network.children import git_environment, git_protocol, uv_environment
from wheelyard.network.indexes import IndexSettings, Origin, read_index_settings
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from pathlib import Path


def from_pip(**values: object) -> IndexSettings:
    origins = {name: Origin(tool="pip", place="pip.conf") for name in values}
    return IndexSettings(**values, origins=origins)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:secret@host/simple/", "https://***@host/simple/"),
        ("https://me:se@cret@host:80/a@b", "https://***@host:80/a@b"),
        ("https://token@host", "https://***@host"),
        ("https://host/a@b", "https://host/a@b"),
        (
            "cannot reach https://a:b@c/ and http://d:e@f/",
            "cannot reach https://***@c/ and http://***@f/",
        ),
        ("url: /file?X-Amz-Signature=abc&b=1 (x)", "url: /file?X-Amz-Signature=***&b=1 (x)"),
        ("git@host:group/project.git", "git@host:group/project.git"),
    ],
)
def test_credentials_are_masked(text: str, expected: str) -> None:
    assert mask_url(text) == expected


def test_pip_settings_are_said_in_uvs_words() -> None:
    settings = from_pip(
        index_url="https://mirror/simple",
        extra_index_urls=("https://a/simple", "file:///b"),
        find_links=("/wheels", "/more"),
        certificate="/ca.pem",
        client_certificate="/me.pem",
        trusted_hosts=("a", "b"),
        proxy="http://proxy:1",
    )
    assert uv_environment(settings, {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy:1",
        "HTTP_PROXY": "http://proxy:1",
        "SSL_CERT_FILE": "/ca.pem",
        "SSL_CLIENT_CERT": "/me.pem",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INDEX": "https://a/simple file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a b",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_uvs_own_settings_are_left_to_uv(tmp_path: Path) -> None:
    env = {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "a=https://a/simple",
        "UV_FIND_LINKS": "/x",
        "UV_PYTHON_DOWNLOADS": "automatic",
        "UV_CACHE_DIR": "/cache",
    }
    settings = read_index_settings(env, home=tmp_path, cwd=tmp_path, etc=tmp_path)
    assert uv_environment(settings, env) == {**env, "UV_NO_PROGRESS": "1"}


def test_users_index_strategy_and_proxy_stay() -> None:
    settings = from_pip(extra_index_urls=("https://a/simple",), proxy="http://pip:1")
    env = {"UV_INDEX_STRATEGY": "first-index", "https_proxy": "http://mine:1"}
    child = uv_environment(settings, env)
    assert child["UV_INDEX_STRATEGY"] == "first-index"
    assert "HTTPS_PROXY" not in child
    assert child["HTTP_PROXY"] == "http://pip:1"


def test_resolving_asks_the_primary_index_only() -> None:
    origin = Origin(tool="uv", place="uv.toml")
    settings = IndexSettings(
        index_url="https://mirror/simple",
        extra_index_urls=("https://local/simple",),
        find_links=("/wheels",),
        certificate="/ca.pem",
        offline=True,
        origins={"index_url": origin, "extra_index_urls": origin},
    )
    env = {
        "UV_INDEX": "https://local/simple",
        "UV_CONFIG_FILE": "/uv.toml",
        "UV_RESOLUTION": "lowest",
        "UV_CACHE_DIR": "/cache",
    }
    assert uv_environment(settings, env, resolving=True) == {
        "SSL_CERT_FILE": "/ca.pem",
        "UV_CACHE_DIR": "/cache",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def write_wheel(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
    return path


def add_to_index(index: Path, wheel: Path) -> None:
    name = wheel.name.partition("-")[0]
    (index / name).mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = f'<a href="{wheel.as_uri()}#sha256={digest}">{wheel.name}</a>'
    with (index / name / "index.html").open("a") as page:
        page.write(link)


def resolve(requirement: str, env: dict[str, str], tmp_path: Path) -> str:
    path = tmp_path / "in.txt"
    path.write_text(requirement)
    command = [find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python", sys.executable, str(path)]
    env = {**env, "UV_CACHE_DIR": str(tmp_path / "uv-cache")}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unresolved"


def test_real_uv_sees_pips_indexes_when_installing_and_not_when_resolving(
    tmp_path: Path, env: dict[str, str]
) -> None:
    wheels = tmp_path / "files"
    add_to_index(tmp_path / "primary", write_wheel(wheels, "wyprobe", "1.0"))
    add_to_index(tmp_path / "extra", write_wheel(wheels, "wyprobe", "2.0"))
    write_wheel(tmp_path / "links", "wyprobe", "3.0")
    env |= {
        "PIP_INDEX_URL": (tmp_path / "primary").as_uri(),
        "PIP_EXTRA_INDEX_URL": (tmp_path / "extra").as_uri(),
        "PIP_FIND_LINKS": str(tmp_path / "links"),
    }
    settings = read_index_settings(env, home=tmp_path, cwd=tmp_path, etc=tmp_path)
    installing = uv_environment(settings, env)
    assert resolve("wyprobe", installing, tmp_path) == "wyprobe==3.0"
    assert resolve("wyprobe==1.0", installing, tmp_path) == "wyprobe==1.0"
    assert resolve("wyprobe==2.0", installing, tmp_path) == "wyprobe==2.0"
    resolving = uv_environment(settings, env, resolving=True)
    assert resolve("wyprobe", resolving, tmp_path) == "wyprobe==1.0"


def test_real_uv_asks_no_index_when_pip_is_told_so(tmp_path: Path, env: dict[str, str]) -> None:
    wheels = tmp_path / "files"
    add_to_index(tmp_path / "index", write_wheel(wheels, "wyprobe", "2.0"))
    write_wheel(tmp_path / "links", "wyprobe", "1.0")
    env |= {
        "PIP_NO_INDEX": "1",
        "PIP_INDEX_URL": (tmp_path / "index").as_uri(),
        "UV_INDEX": (tmp_path / "index").as_uri(),
        "PIP_FIND_LINKS": str(tmp_path / "links"),
    }
    settings = read_index_settings(env, home=tmp_path, cwd=tmp_path, etc=tmp_path)
    assert resolve("wyprobe", uv_environment(settings, env), tmp_path) == "wyprobe==1.0"


def config_of(child: dict[str, str]) -> dict[str, str]:
    return {
        child[f"GIT_CONFIG_KEY_{number}"]: child[f"GIT_CONFIG_VALUE_{number}"]
        for number in range(int(child["GIT_CONFIG_COUNT"]))
    }


def test_git_child_has_no_hooks_filters_or_prompts_and_keeps_the_way_out() -> None:
    env = {
        "HOME": "/home/me",
        "https_proxy": "http://proxy:1",
        "GIT_SSL_CAINFO": "/ca.pem",
        "GIT_DIR": "/elsewhere",
        "GIT_INDEX_FILE": "/elsewhere/index",
        "GIT_TRACE": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.proxy",
        "GIT_CONFIG_VALUE_0": "http://other:1",
        "GIT_CONFIG_PARAMETERS": "'core.hooksPath'='/hooks'",
    }
    child = git_environment(env, url="https://host/x.git", config={"remote.origin.url": "u"})
    assert child["HOME"] == "/home/me"
    assert child["https_proxy"] == "http://proxy:1"
    assert child["GIT_SSL_CAINFO"] == "/ca.pem"
    assert child["GIT_TERMINAL_PROMPT"] == "0"
    assert child["GIT_LFS_SKIP_SMUDGE"] == "1"
    assert child["GIT_ALLOW_PROTOCOL"] == "https:ssh"
    gone = {"GIT_DIR", "GIT_INDEX_FILE", "GIT_TRACE", "GIT_CONFIG_PARAMETERS"}
    assert not gone & child.keys()
    config = config_of(child)
    assert config["http.proxy"] == "http://other:1"
    assert config["core.hooksPath"] == "/dev/null"
    assert config["transfer.fsckObjects"] == "true"
    assert config["remote.origin.url"] == "u"


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://host/x.git", "https"),
        ("git@host:group/x.git", "ssh"),
        ("/srv/x.git", "file"),
        ("../x", "file"),
        ("file:///srv/x.git", "file"),
    ],
)
def test_protocol_of_a_git_url(url: str, protocol: str) -> None:
    assert git_protocol(url) == protocol


@pytest.mark.parametrize("url", ["ext::sh -c touch", "fd::17", "ftp://host/x", "HTTPS::x"])
def test_other_transports_are_refused(url: str) -> None:
    with pytest.raises(FetchError, match="protocol that is refused"):
        git_protocol(url)
