"""An example or two for each command, shown at the end of its help."""

from __future__ import annotations

from typing import Final

_JOB: Final = "causal-conv1d-1.7.0-cp312-torch2.11.0-cu130-x86_64"

EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "accept": (
        ("accept --plan plan.json outputs/*", "what other machines built, checked again here"),
    ),
    "adopt": (
        ("adopt https://example.org/upstream.whl", "take upstream's wheel, if it holds"),
        ("adopt some.whl --torch 2.6.0", "a file, for the torch that it was built for"),
    ),
    "build": (
        ("build causal-conv1d", "the best cell for this machine"),
        (
            "build causal-conv1d --python 3.12 --torch 2.11.0 --gpu-archs 9.0",
            "one cell, for one kind of GPU: a quarter of the time",
        ),
        (f"build --job {_JOB}", "the job of that name, as plan prints it"),
    ),
    "bundle": (
        ("bundle flash-attn --torch 2.8.0 -o offline.tar", "all that an offline machine needs"),
    ),
    "check": (
        ("check some.whl", "beside which torch builds does it load, and why not the others?"),
        ("check some.whl --here", "and here: this Python, torch, glibc, driver and GPU"),
        ("check wheels/ --torch 2.6.0 --gpu 9.0", "every wheel of a folder, for one torch and GPU"),
    ),
    "clean": (
        ("clean", "what the caches hold, and how much"),
        ("clean work compile", "delete these two parts"),
        ("clean --all --dry-run", "what would be deleted"),
    ),
    "completion": (
        ("completion bash > ~/.local/share/bash-completion/completions/wheelyard", "for good"),
        ("completion zsh > ~/.zfunc/_wheelyard", "a folder of fpath"),
        ("completion fish > ~/.config/fish/completions/wheelyard.fish", "for good"),
    ),
    "doctor": (
        ("doctor", "what this machine has for building, what it lacks, what helps"),
        ("doctor network", "which proxies and mirrors are quick, and which lie"),
    ),
    "explain": ((f"explain {_JOB}", "done, stale or missing; what changed; how it was made"),),
    "fetch": (
        ("fetch causal-conv1d", "everything one build takes, for later without network"),
        ("fetch --select '*-cp312-*' --sources", "the sources of many jobs"),
    ),
    "fill": (
        ("fill", "all that the matrix wants for this machine"),
        ("fill '*-cp312-*' --deadline 5h", "some of it, and be over in time"),
        ("fill --engine slurm --detach", "on a cluster; --status shows it"),
    ),
    "find": (
        ("find flash-attn mamba-ssm", "combinations that have both"),
        ("find flash-attn --python 3.12 --here", "that run on this machine"),
    ),
    "get": (("get flash-attn --into env", "the best combination for this machine, installed"),),
    "import": (("import received/*.whl", "each beside its record, or with --record"),),
    "index": (("index", "after files were copied into the yard by hand"),),
    "install": (("install offline.tar --into env", "a bundle, without network"),),
    "lint": (("lint", "before a commit: recipes, patches, smoke tests, locks"),),
    "list": (
        ("list", "recipes and their versions"),
        ("list --yard", "finished wheels"),
    ),
    "log": ((f"log {_JOB}", "of its last build, also one that failed"),),
    "matrix": (
        ("matrix", "all jobs that are wanted"),
        ("matrix causal-conv1d --impossible", "and why the others are not"),
    ),
    "new": (
        ("new torchsort --gpu-archs 9.0", "out of the index's source distribution"),
        (
            "new --git https://github.com/teddykoker/torchsort --ref v0.1.10",
            "out of a repository",
        ),
        ("new torchsort --farm my-wheels", "into a folder of your own, without a clone"),
    ),
    "page": (("page", "prints where it lies; open it in a browser"),),
    "plan": (
        ("plan", "missing, stale or done, against the yard"),
        ("plan 'causal-conv1d-1.7.0-*'", "some jobs"),
        ("plan --missing --upstream", "minus what upstream publishes"),
    ),
    "probe": (("probe causal-conv1d --torch 2.15.0", "does it compile for that torch at all?"),),
    "prune": (("prune --superseded --dry-run", "wheels that a higher revision replaced"),),
    "publish": (
        ("publish /srv/wheels", "into a folder that a web server shows"),
        ("publish s3://my-wheels --dry-run", "what would be uploaded"),
    ),
    "remove": ((f"remove {_JOB}", "with its record and reports"),),
    "schema": (("schema > schemas.json", "for editors that check TOML"),),
    "show": ((f"show {_JOB}", "its record, reports, and the lines that install it"),),
    "smoke": (
        (f"smoke {_JOB} --on-gpu", "try it again, here"),
        (f"smoke {_JOB} --report report.json", "what another machine said"),
    ),
    "uninstall": (("uninstall env", "what install put there last"),),
    "update": (
        ("update", "locks that are missing or stale"),
        ("update torch 2.9.0+cu128", "the lock of a torch that the matrix does not have"),
        ("update releases", "what is new outside, as a change of files to review"),
    ),
    "verify": (
        ("verify", "the whole yard, offline"),
        ("verify /srv/wheels", "a published folder"),
    ),
    "yank": ((f"yank {_JOB} --reason 'wrong results'", "nobody gets it who does not pin it"),),
}
"""By command: its words behind ``wheelyard``, and what it is for."""


_WIDTH: Final = 78


def epilog(command: str) -> str:
    """Return what stands below the options of a command's help."""
    examples = EXAMPLES.get(command, ())
    lines = "\n".join(f"  # {purpose}\n{_broken(words)}\n" for words, purpose in examples)
    return f"examples:\n{lines}" if lines else ""


def _broken(words: str) -> str:
    """Break a command line that is long where a shell goes on, before its last option."""
    line = f"  wheelyard {words}"
    if len(line) <= _WIDTH:
        return line
    before, space, after = line.rpartition(" --" if " --" in line else " > ")
    return f"{before} \\\n     {space}{after}"
