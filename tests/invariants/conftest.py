"""One launch per backend and session, and the table of differences at the end of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from invariants.configurations import REFUSED, ROWS, Backend, Row
from invariants.judging import Differences
from invariants.launching import Ranks, launch

# A property of the test's report, which the workers of pytest-xdist pass on.
LINE = "invariant"


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ranks]:
    """Return what every rank wrote about a job; its backend is launched once, for the jobs of all selected tests."""
    done: dict[tuple[str, str], dict[str, Ranks] | BaseException] = {}
    wanted = [
        item.callspec.params["job"]
        for item in request.session.items
        if "job" in getattr(getattr(item, "callspec", None), "params", {})
        and not any(mark.args[:1] == (True,) for mark in item.iter_markers("skipif"))
    ]

    def result(job: str) -> Ranks:
        command = launch_of(job)
        if command not in done:
            jobs = [each for each in dict.fromkeys(wanted) if launch_of(each) == command]
            try:
                done[command] = launch(backend_of(job), jobs, tmp_path_factory.mktemp("ranks"))
            except Exception as error:
                done[command] = error
        results = done[command]
        if isinstance(results, BaseException):
            raise results
        return results[job]

    return result


def backend_of(job: str) -> Backend:
    return (ROWS | REFUSED)[job.rpartition(":")[2]].backend


def launch_of(job: str) -> tuple[str, str]:
    """Return what all jobs of one launch have in common."""
    return backend_of(job).launch, backend_of(job).device


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, Row, Differences], None]:
    """Keep the line of a row for the end of the run."""

    def keep(name: str, row: Row, seen: Differences) -> None:
        ranks = "equal" if seen.ranks == 0.0 else "DIFFER"
        line = (
            f"{name:<52} loss {seen.loss:7.0e}  step {seen.step_size:7.0e}  bound {seen.lower_bound:7.0e}"
            f"  weights {seen.weights:7.0e}"
            f"  euler {seen.euler:7.0e}  ranks {ranks}  (within {row.tolerance.value:.0e})"
        )
        request.node.user_properties.append((LINE, line))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        each for group in terminalreporter.stats.values() for each in group if getattr(each, "when", "") == "call"
    ]
    lines = [line for each in reports for name, line in each.user_properties if name == LINE]
    broken = [line for line in lines if ":" in line]
    for title, chosen in (
        ("invariants: largest differences from the plain loop", [line for line in lines if line not in broken]),
        ("invariants, broken on purpose", broken),
    ):
        if chosen:
            terminalreporter.section(title)
            terminalreporter.write_line("\n".join(chosen))
