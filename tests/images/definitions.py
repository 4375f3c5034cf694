"""The test images, declared: what each holds and how it runs. Nothing here builds anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent / "files"
"""`files/NAME` is laid over the root of image NAME."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

INSTALL_TIME_ONLY = (
    "adduser",
    "debconf",
    "dpkg",
    "gcc-*-base",
    "init-system-helpers",
    "libaudit-common",
    "libpam-modules*",
    "libsemanage*",
    "libsepol*",
    "lsb-base",
    "passwd",
    "perl*",
    "libperl*",
    "lib*-perl",
    "sensible-utils",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usrmerge",
)
"""Packages that others depend on only for their installation scripts, which never run here."""


@dataclass(frozen=True)
class User:
    """An account of the image, with a group of the same name and number."""

    name: str
    number: int
    home: str


ACCOUNTS = (User("root", 0, "/root"), User("www-data", 33, "/var/www"), User("nobody", 65534, "/nonexistent"))
"""The accounts that every image has."""


@dataclass(frozen=True)
class Image:
    """One image: Debian packages, a few files of ours, and its configuration.

    Every image also has busybox, with a link for each of its commands that no package brings.
    """

    name: str
    configuration: Mapping[str, Any]
    """What `config` says in an image: Cmd, Entrypoint, Env, ExposedPorts, User, WorkingDir."""
    packages: tuple[str, ...] = ()
    skip: tuple[str, ...] = INSTALL_TIME_ONLY
    """Patterns of package names that are dependencies but are left out."""
    user: User | None = None
    owned: tuple[str, ...] = ()
    """Directories that belong to `user`."""
    links: Mapping[str, str] = field(default_factory=dict)
    programs: str | None = None
    """A pattern of paths; what matches is linked from /usr/local/bin."""

    @property
    def repository(self) -> str:
        """The image's name in an engine, without its tag."""
        return f"enclave-test/{self.name}"

    @property
    def tag(self) -> str:
        """The image's full name in an engine."""
        return f"{self.repository}:local"

    @property
    def accounts(self) -> tuple[User, ...]:
        """Everyone in the image's /etc/passwd."""
        return (*ACCOUNTS, self.user) if self.user else ACCOUNTS

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield our own files as (path in the image, file here), in a fixed order."""
        folder = FILES / self.name
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(folder)), file

    def digest(self) -> str:
        """Return a digest of all that decides what is built, except the packages' versions."""
        digest = hashlib.sha256(repr(self).encode())
        for source in ("archive.py", "rootfs.py", "bytecode.py"):
            digest.update(Path(__file__).with_name(source).read_bytes())
        for path, file in self.files():
            digest.update(path.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()


IMAGES = (
    Image(
        name="busybox",
        configuration={"Cmd": ["sh"]},
    ),
    Image(
        name="redis",
        packages=("redis-server", "redis-tools"),
        user=User("redis", 999, "/data"),
        owned=("data",),
        configuration={
            "User": "redis",
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Cmd": ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"],
        },
    ),
    Image(
        name="postgres",
        packages=("postgresql", "libc-bin"),
        # The JIT compiler is a quarter of the size, and the server runs without it.
        skip=(*INSTALL_TIME_ONLY, "libllvm*", "libz3-*", "locales", "libc-l10n", "openssl", "ssl-cert"),
        user=User("postgres", 999, "/var/lib/postgresql"),
        owned=("var/lib/postgresql", "var/lib/postgresql/data", "run/postgresql"),
        programs="usr/lib/postgresql/*/bin/*",
        configuration={
            "User": "postgres",
            "Env": ["PGDATA=/var/lib/postgresql/data"],
            "ExposedPorts": {"5432/tcp": {}},
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
        },
    ),
    Image(
        name="nginx",
        packages=("nginx-light",),
        links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
        configuration={"ExposedPorts": {"80/tcp": {}}, "Cmd": ["nginx", "-g", "daemon off;"]},
    ),
    Image(
        name="python",
        packages=("python3", "python3-redis", "python3-psycopg2", "curl"),
        links={"usr/bin/python": "python3"},
        configuration={"Env": ["PYTHONUNBUFFERED=1"], "Cmd": ["python3"]},
    ),
)
