"""Charts of traces: drawn by a browser, as SVG and as pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

import darray.runtime as da
from darray.runtime.consumers.trace_chart import chart, ticks
from darray.runtime.consumers.trace_history import History, Move, Run, Wait
from darray.runtime.consumers.trace_page import page
from darray.runtime.consumers.trace_png import write_png
from darray.runtime.consumers.trace_svg import svg

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CPUS = tuple(da.Processor(worker=0, kind="cpu", index=index) for index in range(3))
ODD = 'odd </script><b>&amp; "$x$" \x00 \ud800'


def many(count):
    """A history of `count` tasks, of which some failed, wait, move and are not over."""
    runs = tuple(
        Run(
            number + 1,
            ODD if number % 70 == 69 else f"f{number % 70}",
            0,
            "file.py:1" if number % 2 else None,
            processor=CPUS[number % 3],
            began=number * 100,
            ended=None if number == count - 1 > 0 else number * 100 + 290,
            failure=f"ValueError: {ODD}" if number % 10 == 5 else None,
        )
        for number in range(count)
    )
    moves = (
        Move(1, CPUS[0], 10, "store", "memory", 20, 40),
        Move(None, None, 10, ODD, "memory", 20, 40),
    )
    waits = (Wait(1, CPUS[0], 50, 90),)
    return History(runs, moves[: 2 * count], waits[:count], CPUS, 100 * count + 300, 0)


def opened(path, folder):
    """The page as it is once its script has run in a browser."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
    ]
    run = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", path.as_uri()],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=110,
        check=True,
    )
    return run.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_browser_draws_every_bar(count, tmp_path):
    path = tmp_path / "t.html"
    path.write_text(page(chart(many(count))), encoding="utf-8")
    dom = opened(path, tmp_path)
    assert re.findall(r'<body[^>]* data-bars="(\d+)"', dom) == [str(count)]
    assert dom.count("<button") == min(count, 40)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_browser_draws_a_real_trace(engine, tmp_path):
    with da.trace() as tr:
        da.wait(da.map(abs, range(30)))
    assert 'data-bars="30"' in opened(tr.gantt(tmp_path / "t.html"), tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_browser_zooms_moves_and_tells_of_what_is_pointed_at(tmp_path):
    probe = """
const note = (name, text) => { document.body.dataset[name] = text; };
const place = canvas.getBoundingClientRect(), more = { bubbles: true, cancelable: true };
const at = (x, y) => ({ clientX: place.left + x, clientY: place.top + y, ...more });
for (let n = 0; n < 20; n++)
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, ...at(LABELS + 1, 40) }));
draw();
note("zoomed", document.body.dataset.bars);
canvas.dispatchEvent(new PointerEvent("pointermove", at(x(150), AXIS + 10)));
note("told", tip.textContent);
grip = [0, 0, from, to, scroll];
canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: -300, clientY: 0 }));
note("moved", String(from > 0));
canvas.dispatchEvent(new MouseEvent("dblclick", at(200, 40)));
draw();
"""
    path = tmp_path / "t.html"
    text = page(chart(many(1000))).replace("</body>", f"<script>{probe}</script></body>")
    path.write_text(text, encoding="utf-8")
    dom = opened(path, tmp_path)
    body = re.search(r"<body[^>]*>", dom)[0]
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', body))
    assert int(found["zoomed"]) < 20
    assert found["told"].splitlines()[:2] == ["f0", "task 1 on cpu 0"]
    assert "takes 0.29 us" in found["told"]
    assert found["moved"] == "true"
    assert found["bars"] == "1000"


def test_page_needs_nothing_else_and_holds_any_name():
    text = page(chart(many(100)))
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?:", text)
    assert text.count("</script>") == 2
    assert text.encode()
    assert 'srcdoc="&lt;!doctype html' in text._repr_html_()


@pytest.mark.parametrize("count", [0, 1, 300])
def test_svg_has_every_bar(count):
    root = ElementTree.fromstring(svg(chart(many(count))))
    rects = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    bars = [one for one in rects if (one.get("class") or "").startswith("bar")]
    assert len(bars) == count
    assert sum("failed" in one.get("class", "") for one in bars) == count // 10
    width = float(root.get("width"))
    for one in rects:
        assert 0 <= float(one.get("x", 0)) <= float(one.get("x", 0)) + float(one.get("width"))
        assert float(one.get("x", 0)) + float(one.get("width")) <= width
        assert float(one.get("y", 0)) + float(one.get("height")) <= float(root.get("height"))
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == count + min(count, 1) * 2
    if count:
        assert "task 1, worker 0 cpu 0" in titles[0]


@pytest.mark.parametrize("count", [0, 1, 300])
def test_png_is_a_picture(count, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    write_png(chart(many(count)), tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_bars_of_a_lane_do_not_overlap():
    drawn = chart(many(200))
    lanes = {}
    for bar in drawn.bars:
        assert bar.lane < drawn.rows[bar.row].lanes
        assert bar.began >= lanes.get((bar.row, bar.lane), 0)
        lanes[bar.row, bar.lane] = bar.ended
    assert [row.lanes for row in drawn.rows] == [1, 1, 1, 1]
    assert drawn.rows[-1].label == "outside tasks"
    assert len(set(drawn.colours)) == len(drawn.names) == 70


def test_forms_go_by_suffix(engine, tmp_path):
    with da.trace() as tr:
        da.spawn(abs, -1).wait()
    assert tr.gantt(tmp_path / "t.HTML").read_text() == tr.gantt()
    assert tr.gantt(str(tmp_path / "t.svg")).read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("span", "texts"),
    [
        (1, ["0.0000 us", "0.0005 us", "0.0010 us"]),
        (2_000, ["0 us", "1 us", "2 us"]),
        (5_000_000_000, ["0 s", "5 s"]),
        (7_200_000_000_000, ["0 s", "5,000 s"]),
    ],
)
def test_ticks_are_round(span, texts):
    assert [tick.text for tick in ticks(span, 2 if span > 1 else 3)] == texts
