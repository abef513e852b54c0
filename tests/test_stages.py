"""What `make test` makes of its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests import stages

Ends = Callable[..., list[Sequence[str]]]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Let the stages end with these codes; return what pytest is given, as it is called."""
    given: list[Sequence[str]] = []

    def prepare(*codes: int) -> list[Sequence[str]]:
        left = list(codes)

        def run(arguments: Sequence[str]) -> tuple[int, str]:
            given.append(arguments)
            code = left.pop(0)
            return code, f"ended with {code}"

        monkeypatch.setattr(stages, "run", run)
        return given

    return prepare


def test_every_folder_that_is_kept_from_the_quick_stage_runs_in_another() -> None:
    quick, *others = stages.stages().values()
    kept = {argument.removeprefix("--ignore=") for argument in quick if "--ignore=" in argument}
    assert kept == {each for stage in others for each in stage if each.startswith("tests/")}
    assert all((stages.ROOT / folder).is_dir() for folder in kept)


def test_a_failure_in_an_early_stage_is_told_at_the_end_and_by_the_exit_code(
    ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ends(1, 0, 0, 0)
    assert stages.main([]) == 1
    assert len(given) == 4
    assert "FAILED in quick" in capsys.readouterr().out.splitlines()[-1]


def test_a_stage_without_a_selected_test_is_no_failure_but_none_at_all_is(ends: Ends) -> None:
    ends(5, 0, 5, 5)
    assert stages.main(["-k", "cancel"]) == 0
    ends(5, 5, 5, 5)
    assert stages.main(["-k", "cancle"]) == 5


def test_an_interruption_ends_the_whole(ends: Ends) -> None:
    given = ends(2)
    assert stages.main([]) == 2
    assert len(given) == 1


def test_a_path_is_run_as_it_is(ends: Ends) -> None:
    given = ends(0)
    assert stages.main(["tests/test_stages.py::test_nothing", "-x"]) == 0
    assert given == [["tests/test_stages.py::test_nothing", "-x"]]
