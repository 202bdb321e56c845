"""Build the site of docs/ in all its languages, and check what came out.

Needs the dependency group ``docs`` and no network; warnings of the generator are errors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parent))

from links import check_links
from staging import LANGUAGES, Page, read_kinds, stage

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def main() -> int:
    """Build, check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build" / "site")
    arguments = parser.parse_args()
    site = arguments.output.absolute()
    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="wheelyard-site-") as folder:
        pages = stage(REPOSITORY, Path(folder), read_kinds(HERE / "pages.toml"))
        for language in LANGUAGES:
            build(language, pages, tree=Path(folder, language), site=site)
    problems = check_links(site)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{site / 'index.html'}: {len(pages)} pages, {len(problems)} problems")
    return bool(problems)


def build(language: str, pages: tuple[Page, ...], *, tree: Path, site: Path) -> None:
    """Build the pages of one language."""
    others = [page.name for page in pages if page.language != language]
    output = site if language == "en" else site / language
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning"]
    command += ["--keep-going", "--quiet", "--fresh-env", "--conf-dir", str(HERE)]
    command += ["--doctree-dir", str(tree.with_suffix(".doctrees")), str(tree), str(output)]
    told = json.dumps({"language": language, "others": others})
    subprocess.run(command, check=True, env={**os.environ, "WHEELYARD_SITE": told})


if __name__ == "__main__":
    sys.exit(main())
