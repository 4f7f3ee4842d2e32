"""The report and its pictures, from a run's JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from .conftest import Bench

SVG = "{http://www.w3.org/2000/svg}"


def document(**more: Any) -> dict[str, Any]:
    """Return what a run could have left: ours takes 2 µs, a peer 4 (but lacks something), the engine 1."""

    def result(case: str, name: str, median: float, threads: int = 1) -> dict[str, Any]:
        numbers = {"median": median, "low": median * 0.9, "high": median * 1.1, "samples": 5}
        return {"case": case, "contestant": name, "threads": threads, "unit": "us", **numbers}

    names = (("ours", False), ("peer", False), ("engine", True))
    return {
        "format": 1,
        "made": "2026-01-01T00:00:00+00:00",
        "ferrohsm": "0.1.0",
        "command": "ferrohsm bench run",
        "kernels": "an engine",
        "machine": {
            "processor": "A<B",
            "cores": 2,
            "system": "Test",
            "kernel": "6.1",
            "python": "3.11",
            "load": 0.1,
        },
        "settings": {"rounds": 5, "batch": 0.05, "threads": [1], "patience": 1},
        "contestants": [
            {"name": name, "raw": raw, "description": "", "library": "x.so"} for name, raw in names
        ],
        "results": [
            result("sha", "ours", 2.0),
            result("sha", "ours", 1.1, threads=2),
            result("sha", "peer", 4.0),
            result("sha", "engine", 1.0),
            *(result(f"find-label-{size}", "ours", 10.0) for size in ("100", "10K")),
            {"case": "sha", "contestant": "peer", "threads": 2, "unit": "us", "trouble": "lacks CKM_SHA256"},
        ],
        **more,
    }


def report(bench: Bench, tmp_path: Path, page: Path, content: Any = None) -> str:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(content or document()))
    bench("report", file, "--output", page)
    return page.read_text()


def test_ratios_and_notes(bench: Bench, tmp_path: Path) -> None:
    text = report(bench, tmp_path, tmp_path / "page.md")
    assert "| sha | 1 | 2.00 ±10% | 4.00 ±10% | 1.00 ±10% | 0.50 | 2.00 |  |" in text
    assert "| sha | 2 | 1.10 ±10% | [1] |  |  |  | 1.82 |" in text
    assert "kernels of ours: an engine" in text
    assert "[1] peer: lacks CKM_SHA256" in text
    assert "`ferrohsm bench run`" in text
    assert "A&lt;B" in text or "A<B" in text


def test_pictures_are_well_formed_and_linked(bench: Bench, tmp_path: Path) -> None:
    text = report(bench, tmp_path, tmp_path / "page.md")
    files = sorted((tmp_path / "page").iterdir())
    assert [file.name for file in files] == ["find-label.svg", "ratio-peer.svg", "ratio-raw.svg"]
    for file in files:
        assert f"(page/{file.name})" in text
        assert ElementTree.parse(file).getroot().tag == f"{SVG}svg"
    peer = ElementTree.parse(tmp_path / "page" / "ratio-peer.svg").getroot()
    assert "0.50" in [element.text for element in peer.iter(f"{SVG}text")]
    points = ElementTree.parse(tmp_path / "page" / "find-label.svg").getroot().findall(f"{SVG}circle")
    assert len(points) == 2
    assert points[0].get("cy") == points[1].get("cy")  # the cost did not grow
    assert float(points[0].get("cx", "0")) < float(points[1].get("cx", "0"))


def test_the_rest_of_the_page_stays(bench: Bench, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n\nbefore\n")
    report(bench, tmp_path, page)
    page.write_text(page.read_text() + "\nafter\n")
    again = report(bench, tmp_path, page, document(ferrohsm="9.9.9"))
    assert again.startswith("# Mine\n\nbefore\n")
    assert again.endswith("\nafter\n")
    assert "9.9.9" in again
    assert "0.1.0" not in again
    assert again.count("## The suite's results") == 1


def test_a_real_run(bench: Bench, tmp_path: Path, module_path: Path) -> None:
    file = bench.file(
        "--only", "--module", f"mine={module_path}", "--case", "random-32", "--case", "find-label-100"
    )
    bench("report", file, "--output", tmp_path / "page.md")
    assert "random-32" in (tmp_path / "page.md").read_text()


def test_a_file_that_is_no_result(bench: Bench, tmp_path: Path) -> None:
    for text in ("", "[]", '{"format": 99}'):
        (tmp_path / "other.json").write_text(text)
        done = bench("report", tmp_path / "other.json", "--output", tmp_path / "page.md", code=1)
        assert b"no result" in done.stderr
    assert not (tmp_path / "page.md").exists()


def test_list(bench: Bench) -> None:
    names = {case["name"] for case in json.loads(bench("list", "--json").stdout)["cases"]}
    assert {"session-info", "aes-gcm-1M-parts", "find-label-1M", "tls-handshake", "ml-dsa-65-sign"} <= names
