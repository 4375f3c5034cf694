"""Which services can stay on one bridge: those between which packets travel as if there were nothing in between."""

from __future__ import annotations

from collections.abc import Iterable


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The group of each name, 0 the largest; `pairs` may not be in one. Names that are in no pair can be in any.

    Names that have the same to do with all others, such as those of a subnetwork, are in one group.
    """
    apart: dict[str, set[str]] = {}
    for one, other in pairs:
        if one != other:
            apart.setdefault(one, set()).add(other)
            apart.setdefault(other, set()).add(one)
    groups: list[set[str]] = []
    for name, others in apart.items():
        for group in groups:
            if not group & others:
                group.add(name)
                break
        else:
            groups.append({name})
    groups.sort(key=len, reverse=True)
    return {name: number for number, group in enumerate(groups) for name in group}
