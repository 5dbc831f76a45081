"""What the installation of ``make`` says while pip is at work."""

from __future__ import annotations

import sys

import pytest

from scripts import install

_PIP = """
import sys
print("Collecting torch==2")
print("Installing collected packages: a, b, torch")
print("ERROR: no space" if sys.argv[1] == "bad" else "Successfully installed", file=sys.stderr)
sys.exit(3 if sys.argv[1] == "bad" else 0)
"""


@pytest.fixture(autouse=True)
def _pretended_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_PIP", (sys.executable, "-c", _PIP))


def test_an_installation_ends_with_its_time(capfd: pytest.CaptureFixture[str]) -> None:
    assert install.install(["good"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("  installed after ")
    assert err == ""


def test_what_pip_said_is_shown_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert install.install(["bad"]) == 3
    out, err = capfd.readouterr()
    assert out.startswith("  failed after ")
    assert "Collecting torch==2\n" in err
    assert "ERROR: no space\n" in err


def test_progress_says_what_pip_is_at() -> None:
    progress = install.Progress()
    assert progress.state == "looking up packages"
    progress.read("Collecting faiss-cpu==1.12 (from layerdex)\n")
    progress.read("Collecting torch==2\n")
    assert progress.state == "package 2 found, torch==2"
    progress.read("Installing collected packages: a, b, torch\n")
    assert progress.state == "0 of 3 packages unpacked"
    progress.end("installed")
