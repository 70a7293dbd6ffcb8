# Tables of what was measured: Markdown, JSON and a picture.
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmark's results."""

import json
import statistics
from html import escape

from figures import FIGURES, TARGETS

# Of the picture: figures and how many digits their numbers need.
PICTURE = (("login-imaps", 0), ("handshake", 0), ("download", 2), ("upload", 2), ("noop", 1),
           ("idle", 1))


class Results:
    """runs[figure][peer] is a list with one report of the load generator a repetition."""

    def __init__(self, facts, titles):
        self.facts = facts
        self.titles = titles  # peer -> title, in the order of the columns
        self.runs = {}

    def add(self, figure, peer, report):
        if "pss_warm" in report and "pss_after" in report:
            report["after_ratio"] = report["pss_after"] / report["pss_warm"]
        self.runs.setdefault(figure, {}).setdefault(peer, []).append(report)

    def values(self, figure, peer, key):
        runs = self.runs.get(figure, {}).get(peer, [])
        return [run.get(key) if not run["errors"] else None for run in runs]

    def median(self, figure, peer, key, scale=1.0):
        values = [value for value in self.values(figure, peer, key) if value is not None]
        return statistics.median(values) * scale if values else None

    def ratios(self, figure, other, key, peer="gatepost", other_figure=None):
        """One ratio for each repetition: both were measured side by side."""
        ours = self.values(figure, peer, key)
        theirs = self.values(other_figure or figure, other, key)
        return [a / b for a, b in zip(ours, theirs) if a is not None and b]

    def errors(self):
        return [(figure, peer, run["errors"], run["error"])
                for figure, peers in self.runs.items() for peer, runs in peers.items()
                for run in runs if run["errors"]]

    def json(self):
        return json.dumps({"machine": self.facts, "targets": check_targets(self),
                           "runs": self.runs}, indent=1)


def number(value):
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def spread(values):
    return f"{number(min(values))}–{number(max(values))}" if len(values) > 1 else ""


def check_targets(results):
    """Every target that this run says something about."""
    rows = []
    by_name = {figure.name: figure for figure in FIGURES}
    for target in TARGETS:
        figure = by_name[target.figure]
        key = target.key or figure.key
        if target.other:
            values = results.ratios(figure.name, "gatepost", key, other_figure=target.other)
            title = f"{figure.title} / {by_name[target.other].title}"
        elif target.than:
            values = results.ratios(figure.name, target.than, key)
            title = f"{figure.title} / {target.than}"
        else:
            scale = target.scale if target.key else figure.scale
            values = [value * scale for value in results.values(figure.name, "gatepost", key)
                      if value is not None]
            title = target.title
        if values:
            median = statistics.median(values)
            rows.append({"target": title, "measured": median, "low": min(values),
                         "high": max(values), "must": target.must, "stretch": target.stretch,
                         "met": median <= target.must})
    return rows


def markdown(results):
    lines = ["# Benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    peers = list(results.titles)
    lines += ["", "Medians (lowest–highest); less is better. In brackets: Gatepost's share of the "
              "peer's, the median of the repetitions.", "",
              "| figure | unit | " + " | ".join(results.titles[peer] for peer in peers) + " |",
              "|---|---|" + "---|" * len(peers)]
    for figure in FIGURES:
        if figure.name not in results.runs:
            continue
        rows = [(figure.title, figure.unit, figure.key, figure.scale)]
        rows += [("· " + title, "", key, scale) for key, title, scale in figure.also]
        for title, unit, key, scale in rows:
            cells = [cell(results, figure.name, peer, key, scale) for peer in peers]
            lines.append(f"| {title} | {unit} | " + " | ".join(cells) + " |")
    lines += ["", "| target | measured | must | stretch | |", "|---|---|---|---|---|"]
    for row in check_targets(results):
        low_high = f" ({number(row['low'])}–{number(row['high'])})" \
            if row["low"] != row["high"] else ""
        stretch = "" if row["stretch"] is None else number(row["stretch"])
        lines.append(f"| {row['target']} | {number(row['measured'])}{low_high} | ≤ "
                     f"{number(row['must'])} | {stretch} | {'met' if row['met'] else '**missed**'} |")
    problems = results.errors()
    if problems:
        lines += ["", "Runs with errors are left out:", ""]
        lines += [f"- {figure}, {peer}: {count} errors, first: {text}"
                  for figure, peer, count, text in problems]
    return "\n".join(lines) + "\n"


def cell(results, figure, peer, key, scale):
    values = [value * scale for value in results.values(figure, peer, key) if value is not None]
    if not values:
        return ""
    text = number(statistics.median(values))
    if len(values) > 1:
        text += f" ({spread(values)})"
    ratios = results.ratios(figure, peer, key) if not peer.startswith("gatepost") else []
    if ratios:
        text += f" [{statistics.median(ratios):.2f}]"
    return text


STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; }
  .note, .peer { fill: #57606a; }
  .ours { fill: #1f7a4d; }
  .other { fill: #9aa5b1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note, .peer { fill: #9da7b3; }
    .ours { fill: #3fb950; }
    .other { fill: #5b6672; }
  }
"""


def picture(results):
    """Bars, one group a figure, each scaled to its longest."""
    by_name = {figure.name: figure for figure in FIGURES}
    width, label, bars, line, gap = 760, 150, 500, 20, 34
    y, body = 24, []
    for name, digits in PICTURE:
        figure = by_name[name]
        values = {peer: results.median(name, peer, figure.key, figure.scale)
                  for peer in results.titles}
        values = {peer: value for peer, value in values.items() if value is not None}
        if "gatepost" not in values:
            continue
        body.append(f'<text class="title" x="0" y="{y}">{escape(figure.title)} '
                    f'<tspan class="note">({escape(figure.unit)})</tspan></text>')
        longest = max(values.values())
        for peer, value in values.items():
            y += line
            length = max(2, bars * value / longest)
            kind = "ours" if peer.startswith("gatepost") else "other"
            body.append(f'<text class="peer" x="0" y="{y}">{escape(results.titles[peer])}</text>'
                        f'<rect class="{kind}" x="{label}" y="{y - 12}" width="{length:.0f}" '
                        f'height="14" rx="2"/><text x="{label + length + 8:.0f}" y="{y}">'
                        f'{value:.{digits}f}</text>')
        y += gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" '
            f'height="{y}" role="img" aria-label="Cost of Gatepost and its peers; less is better">'
            f"<style>{STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n")
