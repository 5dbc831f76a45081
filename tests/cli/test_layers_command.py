"""``layerdex layers``."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from layerdex import Index
from tests.cli.corpus import write_jsonl
from tests.cli.runner import Cli

SIZES = {"n": 20, "n_texts": 19, "n_paired": 19, "k": 4, "seed": 0}
FIGURES = ["layer", "effective_rank", "anisotropy", "hubness", "intrinsic_dimension"]


def test_json_has_the_figures_of_every_layer(cli: Cli, shared: Path) -> None:
    found = cli.json("layers", shared, "-k", 4)
    assert {name: found[name] for name in SIZES} == SIZES
    assert [one["layer"] for one in found["layers"]] == [0, 1, 2, 3]
    expected = Index.open(shared).at().describe_layers(k=4)
    for one, shape in zip(found["layers"], expected.layers, strict=True):
        assert list(one) == [*FIGURES, "n_repeated", "percentiles"]
        assert {name: one[name] for name in FIGURES} == {
            name: getattr(shape, name) for name in FIGURES
        }
        assert one["percentiles"] == shape.percentiles
    assert found["agreement"] == expected.agreement.tolist()
    assert [row[i] for i, row in enumerate(found["agreement"])] == [1, 1, 1, 1]


def test_tables_show_figures_and_agreement(cli: Cli, shared: Path) -> None:
    words = ("layers", shared, "-k", 4, "--layers", "1,3")
    found, text = cli.json(*words), cli.data(*words)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert " ".join(lines[0]) == "19 texts of 20 documents, k = 4"
    assert lines[1][:5] == ["layer", "rank", "anisotropy", "hubness", "dimension"]
    for line, one in zip(lines[3:5], found["layers"], strict=True):
        assert line == [
            str(one["layer"]),
            f"{one['effective_rank']:.1f}",
            f"{one['anisotropy']:.3f}",
            f"{one['hubness']:.2f}",
            f"{one['intrinsic_dimension']:.1f}",
            *(f"{one['percentiles'][name]:.3f}" for name in ("p50", "p99", "p99.9")),
        ]
    assert " ".join(lines[5]) == "Share of the 4 neighbours that two layers have in common"
    share = f"{found['agreement'][0][1]:.2f}"
    assert lines[-2:] == [["1", "1.00", share], ["3", share, "1.00"]]
    assert max(map(len, text.splitlines())) <= 80


def test_many_layers_take_several_tables(
    cli: Cli, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("layerdex.cli.render.geometry._PAIR_COLUMN", 12)
    lines = cli.data("layers", shared, "-k", 4).splitlines()
    headers = [line.split() for line in lines if line.split()[:1] == ["layer"]]
    assert headers == [
        ["layer", "rank", "anisotropy", "hubness"],
        ["layer", "dimension", "p50", "p99"],
        ["layer", "p99.9"],
        ["layer", "0", "1"],
        ["layer", "2", "3"],
    ]


def test_one_layer_agrees_with_none(cli: Cli, shared: Path) -> None:
    assert "in common" not in cli.data("layers", shared, "-k", 4, "--layers", 2)


def test_conditions_sample_and_seed_reach_the_draw(cli: Cli, shared: Path) -> None:
    words = ("layers", shared, "-k", 2, "--where", "label!=rain")
    assert cli.json(*words)["n"] == 14
    one, other = (cli.json(*words, "--sample", 8, "--seed", seed) for seed in (1, 2))
    assert one["n_texts"] <= 8
    assert one["layers"] != other["layers"]


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_heat_map_is_a_picture_of_the_matrix(
    cli: Cli, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *words: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    result = cli.ok("layers", shared, "-k", 4, "--json", "--plot", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert result.stderr == f"Heat map written to {tmp_path / name}\n"
    [image] = drawn[0].axes[0].images
    data = image.get_array()
    assert data is not None
    assert data.tolist() == cli.json("layers", shared, "-k", 4)["agreement"]


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    cli: Cli, shared: Path, tmp_path: Path
) -> None:
    message = cli.error("layers", shared, "--plot", tmp_path / "a.txt")
    assert "end the name in .png, .svg or .pdf" in message
    assert "is inside the index" in cli.error("layers", shared, "--plot", shared / "a.png")


def test_too_few_texts_are_one_line(cli: Cli, shared: Path) -> None:
    message = cli.error("layers", shared, "-k", 18)
    assert message == "this takes 20 different texts or more, and there are 19"


def test_an_empty_index_is_one_line(cli: Cli, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "one.jsonl", [{"id": "a", "text": "one word"}])
    cli.ok("index", tmp_path / "new", source)
    cli.ok("delete", tmp_path / "new", "a")
    assert cli.error("layers", tmp_path / "new").endswith("and there are 0")
    assert cli.error("dedup", tmp_path / "new", "--suggest").endswith("and there are 0")
