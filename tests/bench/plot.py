# SPDX-License-Identifier: Apache-2.0
"""Line plots with a logarithmic x axis, as SVG."""
import html
import math

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 440, 70, 50, 300, 60
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")


def text(x, y, words, anchor="middle", size=13):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(words)}</text>'


def line(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ccc"/>'


def x_ticks(low, high):
    """1, 2, 5 of each power of ten."""
    found = [factor * 10.0**power for power in range(-2, 7) for factor in (1, 2, 5)]
    return [one for one in found if low <= one <= high]


def y_step(top):
    rough = top / 5
    scale = 10 ** math.floor(math.log10(rough))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough)


def draw(title, x_title, y_title, series, has_dots=False):
    """`series`: (name, [(x, y)]) with x > 0."""
    points = [point for _, one in series for point in one]
    low, high = min(x for x, _ in points) * 0.9, max(x for x, _ in points) * 1.1
    step = y_step(max(y for _, y in points))
    top = math.ceil(max(y for _, y in points) / step) * step
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x, y):
        return (LEFT + (right - LEFT) * math.log(x / low) / math.log(high / low), bottom - (bottom - TOP) * y / top)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(LEFT, 26, title, "start", 16)]
    for x in x_ticks(low, high):
        parts += [line(at(x, 0)[0], TOP, at(x, 0)[0], bottom), text(at(x, 0)[0], bottom + 18, f"{x:g}")]
    for number in range(round(top / step) + 1):
        y = at(low, number * step)[1]
        parts += [line(LEFT, y, right, y), text(LEFT - 8, y + 4, f"{number * step:g}", "end")]
    parts += [text((LEFT + right) / 2, HEIGHT - 16, x_title), text(LEFT, TOP - 8, y_title, "start", 12)]
    for number, (name, one) in enumerate(series):
        colour, y = COLOURS[number % len(COLOURS)], TOP + 22 * number + 10
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in one))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if has_dots:
            parts += [f'<circle cx="{at(*point)[0]:.1f}" cy="{at(*point)[1]:.1f}" r="4" fill="{colour}"/>' for point in one]
        parts.append(f'<rect x="{right + 16}" y="{y - 8}" width="14" height="10" fill="{colour}"/>')
        parts.append(text(right + 36, y + 1, name.replace("*", ""), "start", 12))
    return "\n".join(parts) + "\n</svg>\n"


def latency(rows):
    """How many per cent of the runs were over after so many milliseconds; None without samples."""
    series = []
    for row in rows:
        if row["key"] == "S1" and row["what"].startswith("python: to output") and "samples" in row:
            ordered = sorted(row["samples"])
            series.append((row["subject"], [(ordered[0], 0)] + [(x, 100 * (n + 1) / len(ordered))
                                                                for n, x in enumerate(ordered)]))
    return draw("Python print(1): from the request to its output", "milliseconds", "per cent of the runs", series) \
        if series else None


def memory(rows):
    series = {}
    for row in rows:
        if row["key"] == "M1" and row["what"].startswith("host memory per idle VM, ") and "value" in row:
            points = series.setdefault(row["what"].rpartition(", ")[2], [])
            points.append((int(row["subject"].rpartition(" ")[2]), row["value"]))
    return draw("Host memory per idle 256 MB Python VM (change of MemAvailable / N)", "N, idle VMs", "MB per VM",
                list(series.items()), has_dots=True) if series else None
