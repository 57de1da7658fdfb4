"""The base install stays small and bounded: few distributions, few megabytes, no open-ended dependency."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution, entry_points

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.source import ROOT

DISTRIBUTIONS_MAX = 25
BYTES_MAX = 330_000_000

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]
DEV_DEPENDENCIES = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement counts on this machine, for a distribution asked for with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def closure(requirements: list[Requirement]) -> dict[str, Distribution]:
    """Every installed distribution these requirements bring, with what those bring in turn."""
    found: dict[str, Distribution] = {}
    waiting = [requirement for requirement in requirements if applies(requirement, set())]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        found[name] = distribution(name)
        needs = [Requirement(text) for text in found[name].requires or []]
        waiting += [need for need in needs if applies(need, requirement.extras)]
    return found


def size(installed: Distribution) -> int:
    """The bytes on disk of what a distribution put there."""
    files = [installed.locate_file(file) for file in installed.files or []]
    return sum(file.stat().st_size for file in files if file.is_file())  # type: ignore[attr-defined]


def test_the_base_install_is_few_distributions() -> None:
    names = {"tidemill", *closure(DEPENDENCIES)}
    assert len(names) <= DISTRIBUTIONS_MAX, sorted(names)


def test_the_base_install_is_not_large() -> None:
    sizes = {name: size(installed) for name, installed in closure(DEPENDENCIES).items()}
    assert sum(sizes.values()) <= BYTES_MAX, sorted(sizes.items(), key=lambda item: -item[1])


def test_the_closure_is_really_followed() -> None:
    """`starlette` brings `anyio`, which brings `idna`; a closure that misses them measures nothing."""
    assert {"anyio", "idna", "pyarrow"} <= closure(DEPENDENCIES).keys()
    assert size(distribution("pyarrow")) > 10_000_000


@pytest.mark.parametrize("requirement", DEPENDENCIES + DEV_DEPENDENCIES, ids=lambda requirement: requirement.name)
def test_a_dependency_has_a_lower_and_an_upper_bound(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert {">=", "<"} <= operators


def test_every_distribution_of_the_install_is_pinned() -> None:
    """`make setup` gives everybody the same versions, so a pin is missing for nothing we install."""
    pins = _pins()
    assert closure(DEPENDENCIES + DEV_DEPENDENCIES).keys() - pins.keys() == set()


def test_every_pin_is_within_its_bounds() -> None:
    pins = _pins()
    outside = {
        str(requirement)
        for requirement in DEPENDENCIES + DEV_DEPENDENCIES
        if pins[canonicalize_name(requirement.name)] not in requirement.specifier
    }
    assert outside == set()


def test_a_pin_is_a_version_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pin = re.compile(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9_.+-]*")
    assert [line for line in lines if line and not line.startswith("#") and not pin.fullmatch(line)] == []


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="tidemill")
    assert command.value == "tidemill.cli:main"


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}
