"""A chart of a trace as a page: one file, zoomed by the wheel, panned by dragging."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from darray.runtime.consumers.trace_chart import Chart

__all__ = ["Page", "page"]


class Page(str):
    """The text of an HTML page, which notebooks show in a frame.

    Examples
    --------
    >>> Page("<p>1</p>")._repr_html_()[:7]
    '<iframe'
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        return (
            '<iframe style="width: 100%; height: 420px; border: 0" sandbox="allow-scripts" '
            f'srcdoc="{escape(self)}"></iframe>'
        )


def page(chart: Chart) -> Page:
    """Draw `chart`."""
    # Nothing in a script may look like its end.
    data = json.dumps(_data(chart), separators=(",", ":")).replace("<", "\\u003c")
    return Page(
        _HEAD.replace("HEADING", escape(chart.heading))
        + f'<script type="application/json" id="data">{data}</script>\n'
        + f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _data(chart: Chart) -> dict[str, Any]:
    bars = chart.bars
    places = list(dict.fromkeys(bar.run.spawned_at for bar in bars))
    place_number = {place: number for number, place in enumerate(places)}
    failed = {number: bar.run.failure for number, bar in enumerate(bars) if bar.run.failure}
    return {
        "span": chart.span,
        "rows": [[row.label, row.lanes] for row in chart.rows],
        "names": chart.names,
        "counts": chart.counts,
        "colours": chart.colours,
        "places": places,
        "row": [bar.row for bar in bars],
        "lane": [bar.lane for bar in bars],
        "began": [bar.began for bar in bars],
        "ended": [bar.ended for bar in bars],
        "name": [bar.name for bar in bars],
        "task": [bar.run.number for bar in bars],
        "place": [place_number[bar.run.spawned_at] for bar in bars],
        "failures": failed,
        "unfinished": [number for number, bar in enumerate(bars) if bar.run.ended is None],
        "marks": [
            [mark.row, mark.lane, mark.began, mark.ended, mark.is_move, mark.text]
            for mark in chart.marks
        ],
    }


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>HEADING</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --text: #222; --faint: #5c6370; --row: #f3f4f6;
  --grid: #d5d8dd; --failed: #d11a2a; --move: #1b2a41; --tip: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181d; --text: #e6e6e6; --faint: #a0a7b4; --row: #21242b; --grid: #3a3f4a;
    --failed: #ff5c6c; --move: #f2f4f8; --tip: #262a33; } }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--ground); color: var(--text);
  font: 13px system-ui, sans-serif; }
header { padding: 10px 16px 4px; display: flex; gap: 16px; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 15px; margin: 0; }
.hint { color: var(--faint); }
#legend { padding: 2px 12px 8px; display: flex; flex-wrap: wrap; gap: 2px 4px; max-height: 92px;
  overflow-y: auto; flex: none; }
#legend button { font: inherit; color: inherit; background: none; border: 1px solid transparent;
  border-radius: 4px; padding: 1px 6px; cursor: pointer; max-width: 46ch; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
#legend button[aria-pressed=true] { border-color: var(--faint); }
#legend span { padding: 2px 6px; }
#legend i { display: inline-block; width: 11px; height: 11px; margin-right: 5px;
  border-radius: 2px; box-sizing: border-box; vertical-align: -1px; }
#stage { flex: 1; min-height: 120px; position: relative; overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; cursor: grab;
  touch-action: none; }
#tip { position: fixed; display: none; pointer-events: none; background: var(--tip);
  border: 1px solid var(--grid); border-radius: 5px; padding: 6px 9px; max-width: 60ch;
  white-space: pre-wrap; overflow-wrap: anywhere; box-shadow: 0 2px 10px #0003; z-index: 1; }
</style>
</head>
<body>
<header>
<h1>HEADING</h1><span class="hint">Wheel: zoom. Drag: move. Double click: all.</span>
</header>
<div id="legend"></div>
<div id="stage"><canvas></canvas></div>
<div id="tip"></div>
<noscript>This page draws with JavaScript, which is turned off.</noscript>
"""

_SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
const tip = document.getElementById("tip"), legend = document.getElementById("legend");
const LABELS = 110, RIGHT = 24, AXIS = 24, LANE = 22, GAP = 6, SHOWN = 40;
const unfinished = new Set(data.unfinished);
const tops = [0];
for (const [, lanes] of data.rows) tops.push(tops[tops.length - 1] + lanes * LANE + GAP);
// The bars of each lane, by their beginning.
const lanes = new Map();
const key = (row, lane) => row * 65536 + lane;
for (let i = 0; i < data.began.length; i++) {
  const place = key(data.row[i], data.lane[i]);
  if (!lanes.has(place)) lanes.set(place, []);
  lanes.get(place).push(i);
}
let from = 0, to = data.span, scroll = 0, chosen = -1, wanted = false;

const width = () => Math.max(canvas.clientWidth - LABELS - RIGHT, 50);
const x = time => LABELS + (time - from) / (to - from) * width();
const time = px => from + (px - LABELS) / width() * (to - from);
const text = number => String(+number.toPrecision(3));
function duration(ns) {
  if (ns === 0) return "0 s";
  if (ns >= 999.5e6) return (ns >= 999.5e9 ? Math.round(ns / 1e9) : text(ns / 1e9)) + " s";
  return ns >= 999.5e3 ? text(ns / 1e6) + " ms" : text(ns / 1e3) + " us";
}
// A moment, told so exactly that neighbours in the view differ.
function moment(ns) {
  const [size, unit] = scale(Math.max(to - from, ns / 100));
  const places = Math.max(0, Math.ceil(Math.log10(size / ((to - from) / 1000))));
  return (ns / size).toFixed(Math.min(places, 6)) + " " + unit;
}
const scale = span => span >= 2e9 ? [1e9, "s"] : span >= 2e6 ? [1e6, "ms"] : [1e3, "us"];

function drawAxis(style, height) {
  const [size, unit] = scale(to - from);
  const rough = (to - from) / size / Math.max(2, width() / 110);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(one => one * power).find(one => one >= rough * 0.999);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  pen.textAlign = "center";
  for (let n = Math.ceil(from / size / step - 1e-9); n * step * size <= to * (1 + 1e-12); n++) {
    const left = Math.round(x(n * step * size)) + 0.5;
    pen.fillStyle = style.grid;
    pen.fillRect(left - 0.5, AXIS - 4, 1, height - AXIS + 4);
    pen.fillStyle = style.faint;
    pen.fillText((n * step).toFixed(places) + " " + unit, left, AXIS / 2);
  }
}

function drawRows(style, shift) {
  data.rows.forEach(([label, count], row) => {
    pen.fillStyle = style.row;
    pen.fillRect(LABELS, shift + tops[row], width(), count * LANE);
  });
}

function drawLabels(style, shift) {
  pen.textAlign = "right";
  pen.fillStyle = style.text;
  data.rows.forEach(([label, count], row) => {
    pen.fillText(label, LABELS - 10, shift + tops[row] + count * LANE / 2, LABELS - 14);
  });
}

function drawBars(style, shift) {
  let drawn = 0;
  const last = new Map();
  for (let i = 0; i < data.began.length; i++) {
    if (data.ended[i] < from || data.began[i] > to) continue;
    drawn++;
    const left = Math.max(x(data.began[i]), LABELS - 2);
    const right = Math.min(x(data.ended[i]), LABELS + width() + 2);
    const failed = data.failures[i] !== undefined, place = key(data.row[i], data.lane[i]);
    // Of bars within one pixel the first is seen.
    if (right - left < 1 && !failed && last.get(place) === Math.floor(left)) continue;
    last.set(place, Math.floor(left));
    const y = shift + tops[data.row[i]] + data.lane[i] * LANE + 2, long = Math.max(right - left, 1);
    pen.globalAlpha = (chosen < 0 || chosen === data.name[i] ? 1 : 0.15)
      * (unfinished.has(i) ? 0.55 : 1);
    pen.fillStyle = data.colours[data.name[i]];
    // A gap between neighbours, where there is room for one.
    pen.fillRect(left, y, long > 4 ? long - 0.5 : long, LANE - 4);
    if (failed) {
      pen.strokeStyle = pen.fillStyle = style.failed;
      pen.lineWidth = 2;
      if (long > 5) pen.strokeRect(left + 1, y + 1, long - 2, LANE - 6);
      else pen.fillRect(left, y, Math.max(long, 2), LANE - 4);
    }
    if (long > 34) {
      pen.save();
      pen.beginPath();
      pen.rect(left, y, long - 3, LANE - 4);
      pen.clip();
      pen.fillStyle = "#111";
      pen.textAlign = "left";
      pen.fillText(data.names[data.name[i]], Math.max(left, LABELS) + 5, y + (LANE - 4) / 2 + 0.5);
      pen.restore();
    }
  }
  pen.globalAlpha = 1;
  return drawn;
}

function drawMarks(style, shift) {
  for (const [row, lane, began, ended, isMove] of data.marks) {
    if (ended < from || began > to) continue;
    const left = Math.max(x(began), LABELS - 2);
    const long = Math.max(Math.min(x(ended), LABELS + width() + 2) - left, 1);
    const y = shift + tops[row] + lane * LANE;
    pen.fillStyle = isMove ? style.move : style.ground;
    pen.globalAlpha = isMove ? 1 : 0.6;
    pen.fillRect(left, isMove ? y + LANE - 5 : y + 6, long, isMove ? 3 : LANE - 12);
  }
  pen.globalAlpha = 1;
}

function draw() {
  wanted = false;
  const ratio = window.devicePixelRatio || 1, high = canvas.clientHeight;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = high * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const sheet = getComputedStyle(document.documentElement), style = {};
  for (const one of ["ground", "text", "faint", "row", "grid", "failed", "move"])
    style[one] = sheet.getPropertyValue("--" + one).trim();
  const whole = tops[tops.length - 1];
  scroll = Math.min(Math.max(scroll, 0), Math.max(0, whole + AXIS - high));
  const shift = AXIS - scroll, bottom = Math.min(high, whole + AXIS);
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, LABELS + width() + 1, high);
  pen.clip();
  drawRows(style, shift);
  pen.restore();
  drawAxis(style, bottom);
  pen.save();
  pen.beginPath();
  pen.rect(LABELS, AXIS, width() + 1, high);
  pen.clip();
  document.body.dataset.bars = drawBars(style, shift);
  drawMarks(style, shift);
  pen.restore();
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, LABELS, high);
  pen.clip();
  drawLabels(style, shift);
  pen.restore();
  if (!data.began.length) {
    pen.textAlign = "left";
    pen.fillStyle = style.faint;
    pen.fillText("No task ran.", LABELS + 10, AXIS + whole + 16);
  }
}

function redraw() {
  if (!wanted) requestAnimationFrame(draw);
  wanted = true;
}

function show(begin, end) {
  const long = Math.min(Math.max(end - begin, 100), data.span);
  from = Math.min(Math.max((begin + end - long) / 2, 0), data.span - long);
  to = from + long;
  redraw();
}

// The row and lane at a height of the canvas.
function laneAt(py) {
  const y = py - AXIS + scroll;
  const row = tops.findIndex((top, n) => y >= top && y < tops[n + 1]);
  return row < 0 || py < AXIS ? null : [row, Math.floor((y - tops[row]) / LANE)];
}

function barAt(px, place) {
  const some = lanes.get(key(...place)) || [], slack = 2 / width() * (to - from), at = time(px);
  let low = 0, high = some.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.began[some[middle]] <= at + slack) low = middle + 1; else high = middle;
  }
  for (let n = low - 1; n >= Math.max(0, low - 3); n--)
    if (data.ended[some[n]] >= at - slack) return some[n];
  return -1;
}

function told(px, py) {
  const place = laneAt(py), at = time(px);
  if (!place || px < LABELS) return "";
  const i = barAt(px, place), lines = [];
  if (i >= 0) {
    const long = duration(data.ended[i] - data.began[i]);
    lines.push(data.names[data.name[i]], "task " + data.task[i] + " on " + data.rows[place[0]][0],
      "begins at " + moment(data.began[i]),
      unfinished.has(i) ? "not over after " + long : "takes " + long);
    // Of a task that was spawned before the trace, where is not known.
    const spawned = data.places[data.place[i]];
    if (spawned !== null) lines.push("spawned at " + spawned);
    if (data.failures[i] !== undefined) lines.push("failed: " + data.failures[i]);
  }
  for (const [row, lane, began, ended, , text] of data.marks)
    if (row === place[0] && lane === place[1] && began <= at && at <= ended)
      lines.push(text + " (" + duration(ended - began) + ")");
  return lines.join("\n");
}

function hover(event) {
  const text = told(event.offsetX, event.offsetY);
  tip.style.display = text ? "block" : "none";
  if (!text) return;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight
    ? Math.max(4, event.clientY - box.height - 10) : event.clientY + 18) + "px";
}

let grip = null;
canvas.addEventListener("pointerdown", event => {
  grip = [event.clientX, event.clientY, from, to, scroll];
  canvas.setPointerCapture(event.pointerId);
  canvas.style.cursor = "grabbing";
  tip.style.display = "none";
});
canvas.addEventListener("pointermove", event => {
  if (!grip) return hover(event);
  const moved = (event.clientX - grip[0]) / width() * (grip[3] - grip[2]);
  scroll = grip[4] - (event.clientY - grip[1]);
  show(grip[2] - moved, grip[3] - moved);
});
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => {
  grip = null;
  canvas.style.cursor = "grab";
});
canvas.addEventListener("pointerleave", () => { tip.style.display = "none"; });
canvas.addEventListener("dblclick", () => show(0, data.span));
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  if (event.shiftKey) {
    scroll += event.deltaY || event.deltaX;
    return redraw();
  }
  const lines = event.deltaMode === 1 ? 20 : 1, at = time(Math.max(event.offsetX, LABELS));
  let factor = Math.exp(Math.min(Math.max(event.deltaY * lines, -300), 300) * 0.002);
  factor = Math.max(factor, 100 / (to - from));
  const begin = at - (at - from) * factor;
  show(begin, begin + (to - from) * factor);
  hover(event);
}, { passive: false });

function entry(kind, text, look) {
  const one = document.createElement(kind), chip = document.createElement("i");
  Object.assign(chip.style, look);
  one.append(chip, text);
  one.title = text;
  legend.append(one);
  return one;
}
data.names.slice(0, SHOWN).forEach((name, number) => {
  const one = entry("button", name + " (" + data.counts[number].toLocaleString("en") + ")",
    { background: data.colours[number] });
  one.setAttribute("aria-pressed", "false");
  one.addEventListener("click", () => {
    chosen = chosen === number ? -1 : number;
    document.querySelectorAll("#legend button").forEach((button, n) =>
      button.setAttribute("aria-pressed", String(n === chosen)));
    redraw();
  });
});
if (data.names.length > SHOWN)
  entry("span", "and " + (data.names.length - SHOWN) + " more", { display: "none" });
if (Object.keys(data.failures).length)
  entry("span", "failed", { border: "2px solid var(--failed)" });
if (data.unfinished.length)
  entry("span", "not over", { background: "var(--faint)", opacity: 0.5 });
if (data.marks.some(mark => mark[4])) entry("span", "moving values", { background: "var(--move)" });
if (data.marks.some(mark => !mark[4])) entry("span", "waiting for tasks (pale)",
  { border: "1px solid var(--faint)" });
new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
draw();
"""
