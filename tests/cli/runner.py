"""Running commands and judging how they end."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from layerdex.cli.main import main


class Cli:
    """Runs commands in this process; exceptions that are no exits come through."""

    def __call__(self, *words: object, stdin: str | bytes | None = None) -> Result:
        """Run a command, however it ends."""
        return CliRunner().invoke(
            main,
            [str(word) for word in words],
            input=stdin,
            catch_exceptions=False,
            prog_name="layerdex",
        )

    def ok(self, *words: object, stdin: str | bytes | None = None) -> Result:
        """Run a command that succeeds."""
        result = self(*words, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return result

    def data(self, *words: object, stdin: str | bytes | None = None) -> str:
        """Run a command that succeeds without a word beside its data; return these."""
        result = self.ok(*words, stdin=stdin)
        assert result.stderr == ""
        return result.stdout

    def json(self, *words: object, stdin: str | bytes | None = None) -> Any:
        """Run a command whose whole standard output is one JSON document."""
        return json.loads(self.ok(*words, "--json", stdin=stdin).stdout)

    def jsonl(self, *words: object, stdin: str | bytes | None = None) -> list[Any]:
        """Run a command that prints JSON lines."""
        return [json.loads(line) for line in self.ok(*words, stdin=stdin).stdout.splitlines()]

    def error(self, *words: object, stdin: str | bytes | None = None) -> str:
        """Run a command that fails with one line on stderr and nothing else; return it."""
        result = self(*words, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith("\n")
        return result.stderr.removeprefix("Error: ").removesuffix("\n")

    def usage(self, *words: object) -> str:
        """Run a command that is used wrongly; return the last line, which says how."""
        result = self(*words)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.startswith("Usage: layerdex ")
        return result.stderr.splitlines()[-1].removeprefix("Error: ")
