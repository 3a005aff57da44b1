# SPDX-License-Identifier: Apache-2.0
"""What was measured: rows with percentiles, single values, or the reason why there is none."""


def percentile(samples, wanted):
    """Nearest rank: with few samples the 99th is the slowest one."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * wanted // 100) - 1)]


class Table:
    """The rows of one group; `key` names the goal that a row belongs to."""

    def __init__(self):
        self.rows = []

    def add(self, key, what, subject, samples, unit="ms", goal="", keep=True):
        """`keep`: the samples go into the JSON file too, for plots and later questions."""
        if not samples:
            self.add_missing(key, what, subject, "no sample")
            return
        row = {"key": key, "what": what, "subject": subject, "unit": unit, "n": len(samples), "goal": goal}
        row.update({f"p{wanted}": percentile(samples, wanted) for wanted in (50, 90, 99)})
        if keep:
            row["samples"] = [round(sample, 3) for sample in samples]
        self.rows.append(row)

    def add_value(self, key, what, subject, value, unit="", goal=""):
        self.rows.append({"key": key, "what": what, "subject": subject, "unit": unit, "value": value, "goal": goal})

    def add_missing(self, key, what, subject, reason):
        self.rows.append({"key": key, "what": what, "subject": subject, "missing": reason, "goal": ""})

    def samples(self, key, subject):
        return next((row["samples"] for row in self.rows
                     if (row["key"], row["subject"]) == (key, subject) and "samples" in row), None)

    def add_ratio(self, key, own, other, goal=""):
        """own / other of one key, by their medians."""
        mine, theirs = self.samples(key, own), self.samples(key, other)
        what, subject = "ratio of medians", f"{own} / {other}"
        if mine and theirs:
            ratio = percentile(mine, 50) / percentile(theirs, 50)
            self.add_value(key, what, subject, round(ratio, 3 if ratio < 0.1 else 2), goal=goal)
        else:
            self.add_missing(key, what, subject, "one of them has no figure")


def markdown(rows):
    lines = ["| goal | what | subject | p50 | p90 | p99 | n | wanted |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        if "missing" in row:
            cells = [f"n/a: {row['missing']}", "", "", ""]
        elif "value" in row:
            cells = [format_value(row["value"], row["unit"]), "", "", ""]
        else:
            cells = [format_value(row[name], row["unit"]) for name in ("p50", "p90", "p99")] + [str(row["n"])]
        lines.append("| " + " | ".join([row["key"], row["what"], row["subject"], *cells, row["goal"]]) + " |")
    return "\n".join(lines) + "\n"


def format_value(value, unit):
    if isinstance(value, str):
        return value
    if value >= 100 or value == int(value):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.1f}" if value >= 2 else f"{value:.3g}"
    return f"{text} {unit}".strip()
