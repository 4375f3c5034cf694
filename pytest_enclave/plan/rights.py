"""What a package may ask for of the machine that runs its services: nothing that leads out of a container.

Kurtosis grants all of this, some of it only where users allow it. Here nobody is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.plan import checks
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value

RIGHTS = (
    Parameter("privileged", checks.BOOL, default=False),
    Parameter("host_pid_namespace", checks.BOOL, default=False),
    Parameter("bind_mounts", checks.STRING_DICT, default={}),
)
"""Parameters that exist to be refused: see `refused_rights`."""

CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE"),
        *("MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP"),
        *("SETUID", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE"),
    )
)
"""Capabilities that act inside of a container's own namespaces only."""

DEVICES = frozenset(f"/dev/{name}" for name in ("fuse", "kvm", "net/tun", "null", "random", "urandom", "zero"))
"""Devices that anybody may open who is let near them."""

_REFUSED = {
    "privileged": "cannot be True: a package gets no rights on the machine that runs its services; "
    "leave it out, and name what the service needs in `capabilities`",
    "host_pid_namespace": "cannot be True: a package does not get to see the processes of the machine that runs its "
    "services; leave it out",
    "bind_mounts": "cannot be given: a package gets no directories of the machine that runs its services; "
    "store the files with `upload_files`, and mount them with `files`",
}


def refused_rights(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """Why the package cannot have the rights that it asks for: argument name → reason."""
    refused = {name: reason for name, reason in _REFUSED.items() if fields.get(name)}
    for name in fields.get("capabilities") or ():
        if name.upper().removeprefix("CAP_") not in CAPABILITIES:
            refused["capabilities"] = (
                f'"{name}" is a right on the machine that runs the services, which a package does not get; '
                f"it can have {', '.join(sorted(CAPABILITIES))}"
            )
    for device in fields.get("devices") or ():
        if device.partition(":")[0] not in DEVICES:
            refused["devices"] = (
                f'"{device}" belongs to the machine that runs the services; '
                f"a package can have {', '.join(sorted(DEVICES))}"
            )
    return refused
