"""A service of a frozen enclave as its fork has it: on another network, so with other addresses, and on other ports."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.protocol import Address, ServiceSpec
from pytest_enclave.plan.addresses import NewAddresses

LONGEST_TEXT = 1 << 20
"""Bytes. Larger files are not looked through for addresses."""

ANY_PORT = 0
"""The number of a public port that the engine chooses."""


class Readdressing(msgspec.Struct, frozen=True):
    """Puts a fork's addresses in the place of those that its origin had."""

    addresses: NewAddresses

    def spec(self, spec: ServiceSpec) -> ServiceSpec:
        """What the service is started from: its own old address and all others are replaced in it.

        Public ports are published at numbers that are free: their own are the origin's.
        """
        text = self.addresses.text
        public = {name: replace(port, number=ANY_PORT) for name, port in spec.public_ports.items()}
        return replace(
            spec,
            address=Address(spec.address.hostname, text(spec.address.ip_address)),
            entrypoint=tuple(map(text, spec.entrypoint)),
            cmd=tuple(map(text, spec.cmd)),
            env_vars={name: text(value) for name, value in spec.env_vars.items()},
            ports={**spec.public_ports, **spec.ports},
            public_ports=public,
        )

    def copy(self, source: Path, target: Path) -> None:
        """Copy a directory; addresses are replaced in its text files. Raises OSError."""
        shutil.copytree(source, target, symlinks=True, copy_function=self._copy_file)

    def _copy_file(self, source: str, target: str) -> None:
        shutil.copy2(source, target)
        if Path(target).stat().st_size > LONGEST_TEXT:
            return
        content = Path(target).read_bytes()
        if b"\0" in content:
            return
        text = content.decode(errors="surrogateescape")
        moved = self.addresses.text(text)
        if moved != text:
            Path(target).write_bytes(moved.encode(errors="surrogateescape"))
