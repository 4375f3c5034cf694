"""A stand-in for github.com: bare repositories in a directory, which git is told to look for there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


class Hub:
    """Repositories below `root`; `environ` is that of a user to whom they are github.com, with a cache of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        config = root / "gitconfig"
        root.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f'[url "file://{root}/"]\n\tinsteadOf = https://github.com/\n[init]\n\tdefaultBranch = main\n'
        )
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_NOSYSTEM": "1",
            "XDG_CACHE_HOME": str(root / "cache"),
            "HOME": str(root),
        }

    @property
    def cache(self) -> Path:
        """What is kept of them."""
        return self.root / "cache" / "pytest-enclave" / "git"

    def commit(
        self, repository: str, files: Mapping[str, str | Path], branch: str = "main", tags: tuple[str, ...] = ()
    ) -> str:
        """Put files into a repository, `author/name`, in place of all others; the commit. A Path is a link's target.

        With an empty branch nothing but the tags leads to it.
        """
        bare = self.root / f"{repository}.git"
        work = self.root / "work"
        if not bare.exists():
            self.git("init", "--quiet", "--bare", str(bare))
        shutil.rmtree(work, ignore_errors=True)
        self.git("clone", "--quiet", str(bare), str(work))
        self.git("checkout", "--quiet", "--orphan", "new", within=work)
        self.git("rm", "-rfq", "--ignore-unmatch", ".", within=work)
        for name, content in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                (work / name).symlink_to(content)
            else:
                (work / name).write_text(content)
        self.git("add", "--all", "--force", within=work)
        self.git("commit", "--quiet", "--allow-empty", "-m", "m", within=work)
        for tag in tags:
            self.git("tag", "-a", "-m", tag, tag, within=work)
        refs = [f"+new:refs/heads/{branch}"] if branch else []
        self.git("push", "--quiet", "origin", *refs, *(f"+refs/tags/{tag}" for tag in tags), within=work)
        return self.git("rev-parse", "HEAD", within=work).strip()

    def remove(self, repository: str) -> None:
        """Let a repository be gone."""
        shutil.rmtree(self.root / f"{repository}.git")

    def git(self, *arguments: str, within: Path | None = None, given: str = "") -> str:
        """Run git here, with `given` as its input."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=within or self.root,
            env={**self.environ, **IDENTITY},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
