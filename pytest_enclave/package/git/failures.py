"""What git says when it fails, told as what it means."""

from __future__ import annotations

import re

from pytest_enclave.errors import PackageError

_KINDS = {
    "network": (
        "Could not resolve host|Could not resolve proxy|Temporary failure in name resolution|Name or service not known"
        "|Failed to connect|Couldn't connect|Connection refused|Connection timed out|Connection reset"
        "|Operation timed out|Network is unreachable|No route to host|Operation too slow|SSL connection timeout"
        "|early EOF|unexpected disconnect"
    ),
    "refused": (
        "could not read Username|could not read Password|Authentication failed|Permission denied"
        "|terminal prompts disabled|Host key verification failed|The requested URL returned error: 40[13]"
    ),
    "absent": (
        "Repository not found|repository '.*' not found|does not appear to be a git repository"
        "|The requested URL returned error: 404|no such repository"
    ),
    "no commit": ("not our ref|no such remote ref|couldn't find remote ref|bad object|not a valid object|not a tree"),
    "unadvertised": "does not allow request for unadvertised object",
}
_NOISE = re.compile(r"(?:fatal|error|remote|warning): ?")
_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class GitFailure(Exception):
    """Git did not do what it was asked to. `kind` is one of `_KINDS`, `missing`, `slow`, `large` or `other`."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind
        self.said = said

    @classmethod
    def of(cls, errors: str) -> GitFailure:
        """The failure that these lines of git tell of; credentials in addresses are left out."""
        lines = [_NOISE.sub("", line, count=1).strip() for line in errors.splitlines()]
        said = _SECRET.sub("…", "; ".join(line for line in lines if line)[-500:])
        # A missing repository over ssh is followed by advice that sounds like missing rights.
        for kind in ("absent", "unadvertised", "no commit", "network", "refused"):
            if re.search(_KINDS[kind], errors, re.IGNORECASE):
                return cls(kind, said)
        return cls("other", said or "it gave no reason")

    def error(self, repository: str) -> PackageError:
        """The error for users, about this repository."""
        author, name = repository.split("/")[1:3]
        ssh = f'`git config --global url."git@github.com:".insteadOf https://{repository.split("/")[0]}/`'
        messages = {
            "missing": (
                f"`{repository}` cannot be fetched: there is no program `git` here",
                "install git, or clone the package yourself and name its directory under `replace` in `kurtosis.yml`",
            ),
            "network": (
                f"`{repository}` cannot be reached: {self.said}",
                "what was fetched before is used without a network, if its version is a full commit hash or was asked "
                "for before",
            ),
            "refused": (
                f"there is no repository `{repository}`, or it is private and git has no credentials for it",
                f"try `git ls-remote https://{repository}`: git must be able to do this without asking; for ssh "
                f"instead, {ssh}",
            ),
            "absent": (
                f"there is no repository `{repository}`: {self.said}",
                f"look for `{name}` among the repositories of `{author}`; if it is private, git needs credentials",
            ),
            "slow": (f"`{repository}` was given up: {self.said}", "try `git fetch` by hand to see where it hangs"),
            "large": (f"`{repository}` was given up: {self.said}", "packages are small; keep data elsewhere"),
        }
        message, remedy = messages.get(self.kind, (f"`{repository}` cannot be fetched: git says: {self.said}", ""))
        return PackageError(message, remedy=remedy)
