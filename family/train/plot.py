#!/usr/bin/env python3
"""Draws the curve of a training: plot.py curve.svg log.jsonl [log.jsonl ...]

Several logs are sessions of one training, each warm-started from the one
before; they are drawn end to end, with a line where a session begins.
"""
import json
import sys

WIDTH, HEIGHT = 720, 400
LEFT, TOP, RIGHT, BOTTOM = 56, 24, 96, 44
FLOOR = 0.7  # a session that begins below it, with weights of another structure, is drawn from its second look on
COLOURS = {"largest": "#1b5e9b", "middle": "#c2571a", "smallest": "#2f7d32"}


def read(paths):
    """Points (hours, {member: top-1}) of all sessions, and where each begins."""
    points, begins, before = [], [], 0.0
    for path in paths:
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        begins.append(before)
        points += [(before + l["seconds"] / 3600, l["top1"]) for l in lines if min(l.get("top1", {"": 0}).values()) > FLOOR]
        before += lines[-1]["seconds"] / 3600
    return points, begins


class Axes:
    def __init__(self, points):
        values = [v for _, top1 in points for v in top1.values()]
        self.hours = max(points[-1][0], 1e-9)
        self.low, self.high = int(min(values) * 50) / 50, int(max(values) * 50 + 1) / 50

    def x(self, hours):
        return LEFT + hours / self.hours * (WIDTH - LEFT - RIGHT)

    def y(self, top1):
        return TOP + (self.high - top1) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def text(x, y, words, anchor="middle", colour="#333"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def grid(axes, begins):
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    yield text(LEFT, TOP - 8, "top-1 % on held-out images", "start")
    yield text((LEFT + right) / 2, HEIGHT - 8, "hours of training, wall time")
    for tick in range(round(axes.low * 100), round(axes.high * 100) + 1, 2):
        y = axes.y(tick / 100)
        yield line(LEFT, y, right, y, 'stroke="#ddd"')
        yield text(LEFT - 8, y + 4, tick, "end")
    for i in range(5):
        hours = axes.hours * i / 4
        yield text(axes.x(hours), bottom + 18, f"{hours:.2f}")
    for hours in begins[1:]:
        yield line(axes.x(hours), TOP, axes.x(hours), bottom, 'stroke="#999" stroke-dasharray="4 4"')


def curves(axes, points):
    for member, colour in COLOURS.items():
        place = [(axes.x(h), axes.y(top1[member])) for h, top1 in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        x, y = place[-1]
        yield text(x + 6, y + 4, f"{member} {100 * points[-1][1][member]:.1f}", "start", colour)


def main():
    points, begins = read(sys.argv[2:])
    if not points:
        raise SystemExit("no log has an evaluation yet: nothing to draw")
    axes = Axes(points)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n')
        f.write(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n')
        f.writelines(s + "\n" for s in (*grid(axes, begins), *curves(axes, points)))
        f.write("</svg>\n")


if __name__ == "__main__":
    main()
