"""System calls that a service may not make, with their numbers on each architecture: as in Docker's containers.

Reviewed up to the calls of Linux 6.17; the numbers beyond are refused as unknown until somebody looked at them.
"""

from __future__ import annotations

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Where the numbers of a machine are in the rows below, and what the kernel calls its architecture (AUDIT_ARCH)."""

NEWEST = 469
"""The last number reviewed, `file_setattr`; it and its neighbours are the same everywhere."""

REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Mounts and namespaces.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    # The machine as a whole.
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    # Kernel modules and hardware.
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    # What looks into other processes or the kernel.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "open_by_handle_at": (304, 265),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "userfaultfd": (323, 282),
    # What belongs to no namespace.
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "lsm_set_self_attr": (460, 460),
    # Large, and often with holes.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Gone or of no use.
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "vserver": (236, None),
}
"""Refused with EPERM."""

IDENTITY: dict[str, tuple[int | None, int | None]] = {
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
}
"""What changes users and owners: without effect where there is one user only."""

CLONE = (56, 220)
UNSHARE = (272, 97)
CLONE3 = (435, 435)
PERSONALITY = (135, 92)
SOCKET = (41, 198)
SECCOMP = (317, 277)
