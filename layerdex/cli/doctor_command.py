"""``layerdex doctor``."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import click

from layerdex import __version__
from layerdex.cli.options import json_option, verbosity_options
from layerdex.cli.output import make_table, print_json, print_table


@click.command("doctor", short_help="Say what this machine has.")
@json_option
@verbosity_options
def command(as_json: bool) -> None:
    """Say what this machine has; exit 1 if FAISS is missing or in conflict."""
    found = {
        "layerdex": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cpu": _describe_cpu(),
        "gpu": _describe_gpu(),
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "openvino": _version("openvino"),
        "faiss": _describe_faiss(),
        "sqlite": sqlite3.sqlite_version,
        "minilm": _describe_minilm(),
    }
    problems = _find_problems()
    if as_json:
        print_json({**found, "problems": problems})
    else:
        table = make_table("", "")
        table.show_header = False
        for name, value in found.items():
            table.add_row(name, value)
        print_table(table)
        for problem in problems:
            click.echo(f"Problem: {problem}")
        if not problems:
            click.echo("No problems found.")
    if problems:
        click.get_current_context().exit(1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _describe_cpu() -> str:
    from layerdex.indexer.engines.devices import cpu_has_bfloat16

    precision = "bfloat16" if cpu_has_bfloat16() else "float32 (no avx512_bf16, no AMX)"
    return f"{os.cpu_count()} cores, encodes in {precision}"


def _describe_gpu() -> str:
    import torch

    n_devices = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(i) for i in range(n_devices)]
    return ", ".join(names) or "none that torch can use"


def _faiss_builds() -> dict[str, str]:
    builds = {name: _version(name) for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")}
    return {name: found for name, found in builds.items() if found != "not installed"}


def _describe_faiss() -> str:
    return ", ".join(f"{k} {v}" for k, v in _faiss_builds().items()) or "not installed"


def _describe_minilm() -> str:
    from layerdex.errors import LayerdexError
    from layerdex.indexer.models.model_folder import find_model

    try:
        return f"the real one, at {find_model('minilm').path}"
    except LayerdexError as error:
        return str(error)


def _find_problems() -> list[str]:
    problems = []
    builds = _faiss_builds()
    if len(builds) > 1:
        problems.append(
            f"{' and '.join(builds)} overwrite each other's files: uninstall all, install one"
        )
    elif find_spec("faiss") is None:
        problems.append("FAISS is missing: pip install 'layerdex[cpu]' or 'layerdex[gpu]'")
    return problems
