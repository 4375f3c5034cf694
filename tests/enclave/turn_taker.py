"""A process of many that use, grow and change the same enclaves: `turn_taker.py DIRECTORY SEED TESTS ENCLAVES`.

Each of its tests asks for one enclave or two, and runs in them again now and then; every third run changes something.
Some hold one of theirs for a while, or both. Whoever is alone with an enclave finds that nobody uses it meanwhile: all
that use one write to the same file, and nothing is added. What goes wrong is printed.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from pytest_enclave.enclave.turns import Turns, Uses


def run(turns: Turns, home: Path, *, changes: bool) -> None:
    """A run in an enclave."""
    with turns.taken() as be_alone:
        if changes:
            be_alone()
            before = used(home)
            time.sleep(0.002)
            if used(home) != before:
                print(f"{home.name} was used while it was changed", flush=True)


def hold(turns: dict[Path, Turns], homes: list[Path], *, changes: bool) -> None:
    """Faults in enclaves, one after the other, and a run in the middle of them."""
    for home in homes:
        turns[home].hold()
    before = [used(home) for home in homes]
    run(turns[homes[0]], homes[0], changes=changes)
    time.sleep(0.002)
    if [used(home) for home in homes] != before:
        print(f"{homes} were used while they were held", flush=True)
    for home in homes:
        turns[home].let_go()


def use(home: Path) -> None:
    """What a test does with an enclave."""
    with (home / "uses").open("a") as uses:
        uses.write(".")


def used(home: Path) -> int:
    return (home / "uses").stat().st_size


def main(directory: Path, seed: int, tests: int, enclaves: int) -> None:
    """Run so many tests."""
    dice = random.Random(seed)
    mine = Uses()
    homes = [directory / str(number) for number in range(enclaves)]
    turns = {home: Turns(home, mine) for home in homes}
    for _ in range(tests):
        asked = dice.sample(homes, dice.choice([1, 1, 2]))
        for home in asked:
            run(turns[home], home, changes=dice.random() < 0.3)
        for _ in range(dice.randrange(4)):
            for home in asked:
                use(home)
            if dice.random() < 0.2:
                again = dice.choice(asked)
                run(turns[again], again, changes=dice.random() < 0.5)
            if dice.random() < 0.2:
                hold(turns, dice.sample(asked, dice.randint(1, len(asked))), changes=dice.random() < 0.5)
        mine.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
