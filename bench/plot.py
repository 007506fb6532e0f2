#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what tokens.exs prints, as one SVG: tokens a second by rows, and by length.

usage: plot.py FILE >tokens.svg
"""
import html
import json
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, BELOW = 330, 220, 50, 40, 45
COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3"]


def steps(most):
    """Round numbers from 0 to past the most, about five of them."""
    step = 10 ** math.floor(math.log10(most / 4))
    step *= next(f for f in (1, 2, 5, 10) if most / (f * step) <= 5)
    return [step * i for i in range(math.ceil(most / step) + 1)]


def text(x, y, words, **more):
    extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{html.escape(str(words))}</text>'


def panel(at, title, axis, lines):
    """One diagram: lines are (name, [(x, y)]), x in steps of their own order."""
    places = sorted({x for _, points in lines for x, _ in points})
    marks = steps(max(y for _, points in lines for _, y in points))
    across = lambda x: at + LEFT + (places.index(x) + 0.5) * WIDTH / len(places)
    up = lambda y: TOP + HEIGHT - HEIGHT * y / marks[-1]
    parts = [text(at + LEFT, 22, title, font_weight="bold")]
    for y in marks:
        parts.append(f'<path d="M{at + LEFT} {up(y):.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(text(at + LEFT - 6, up(y) + 4, f"{y:g}", text_anchor="end"))
    for x in places:
        parts.append(text(across(x), TOP + HEIGHT + 17, x, text_anchor="middle"))
    parts.append(text(at + LEFT + WIDTH / 2, TOP + HEIGHT + 36, axis, text_anchor="middle"))
    for (name, points), colour in zip(lines, COLOURS):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>'
                  for x, y in points]
        x, y = points[-1]
        parts.append(text(across(x), up(y) - 8, name, text_anchor="middle", fill=colour))
    return parts


def series(rows, axis, fixed, value):
    names = list(dict.fromkeys(row["weights"] for row in rows))
    return [(name, sorted((row[axis], row["rate"]) for row in rows
                          if row["weights"] == name and row[fixed] == value)) for name in names]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.startswith("{")]
    least = min(row["length"] for row in rows)
    second = LEFT + WIDTH + 20
    parts = panel(0, f"tokens/s of all rows, {least} positions", "rows drawn side by side",
                  series(rows, "rows", "length", least))
    parts += panel(second, "tokens/s of one row", "positions that are filled",
                   series(rows, "length", "rows", 1))
    width, height = second + LEFT + WIDTH + 20, TOP + HEIGHT + BELOW
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
          f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">')
    print('<rect width="100%" height="100%" fill="white"/>')
    print("\n".join(parts))
    print("</svg>")


if __name__ == "__main__":
    main()
