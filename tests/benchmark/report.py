# Tables of what was measured: Markdown, JSON and a picture.
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmark's results."""

import json
import statistics
from html import escape

from figures import FIGURES, TARGETS

BY_NAME = {figure.name: figure for figure in FIGURES}

PICTURE = ("login-imaps", "handshake", "download", "upload", "noop", "latency", "idle",
           "prehandshake")
NOT_IN_PICTURE = ("gatepost-passwords", "gatepost-other")


class Results:
    """reports[figure][peer]: what the load generator said, with "run", the number of the whole run.

    `kind` is what targets depend on: {"certificate": "ecdsa" | "rsa", "library": "old" | "new"}.
    """

    def __init__(self, facts, titles, kind):
        self.facts = facts
        self.titles = titles  # peer -> title, in the order of the columns
        self.kind = kind
        self.reports = {}

    @classmethod
    def load(cls, files):
        """Takes benchmark.json files together; each of their runs counts by itself."""
        results, runs = None, 0
        for file in files:
            with open(file, encoding="utf-8") as source:
                found = json.load(source)
            if results is None:
                results = cls(found["machine"], found["titles"], found["kind"])
            if found["kind"] != results.kind:
                raise ValueError(f"{file}: another certificate or library than in {files[0]}")
            results.titles |= found["titles"]
            highest = 0
            for figure, peers in found["reports"].items():
                for peer, reports in peers.items():
                    for report in reports:
                        highest = max(highest, report["run"])
                        results.add(figure, peer, runs + report["run"], report)
            runs += highest
        return results

    def add(self, figure, peer, run, report):
        report["run"] = run
        if "pss_warm" in report and "pss_after" in report:
            report["after_ratio"] = report["pss_after"] / report["pss_warm"]
        self.reports.setdefault(figure, {}).setdefault(peer, []).append(report)

    def runs(self):
        return sorted({report["run"] for peers in self.reports.values()
                       for reports in peers.values() for report in reports})

    def values(self, figure, peer, key, run=None):
        return [report.get(key) if not report["errors"] else None
                for report in self.reports.get(figure, {}).get(peer, [])
                if run is None or report["run"] == run]

    def median(self, figure, peer, key, scale=1.0):
        values = [value for value in self.values(figure, peer, key) if value is not None]
        return statistics.median(values) * scale if values else None

    def ratios(self, figure, other, key, run=None, other_figure=None):
        """One ratio for each repetition: both were measured side by side."""
        ours = self.values(figure, "gatepost", key, run)
        theirs = self.values(other_figure or figure, other, key, run)
        return [a / b for a, b in zip(ours, theirs) if a is not None and b]

    def errors(self):
        return [(figure, peer, report["errors"], report["error"])
                for figure, peers in self.reports.items() for peer, reports in peers.items()
                for report in reports if report["errors"]]

    def unequal(self):
        """Figures in which not everybody did the same work."""
        found = []
        for figure, peers in self.reports.items():
            for key in ("operations", "bytes", "sessions"):
                amounts = {report.get(key) for reports in peers.values() for report in reports
                           if not report["errors"]}
                if len(amounts) > 1:
                    found.append(f"{figure}: {key} {sorted(amounts, key=str)}")
        return found

    def json(self):
        return json.dumps({"machine": self.facts, "titles": self.titles, "kind": self.kind,
                           "targets": check_targets(self), "reports": self.reports}, indent=1)


def number(value):
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def spread(values):
    return f"{number(min(values))}–{number(max(values))}" if len(values) > 1 else ""


def check_targets(results):
    """Every target that these results say something about; met when it is in every run."""
    rows = []
    for target in TARGETS:
        if not target.applies(results.kind):
            continue
        values = {run: measured(results, target, run) for run in results.runs()}
        medians = {run: statistics.median(found) for run, found in values.items() if found}
        if not medians:
            continue
        every = [value for found in values.values() for value in found]
        worst = max(medians.values())
        rows.append({"target": target_title(target), "measured": statistics.median(every),
                     "low": min(every), "high": max(every), "runs": list(medians.values()),
                     "must": target.must, "stretch": target.stretch,
                     "met": worst <= target.must,
                     "stretch_met": target.stretch is not None and worst <= target.stretch})
    return rows


def measured(results, target, run):
    figure = BY_NAME[target.figure]
    key = target.key or figure.key
    if target.other:
        return results.ratios(figure.name, "gatepost", key, run, other_figure=target.other)
    if target.than:
        return results.ratios(figure.name, target.than, key, run)
    scale = target.scale if target.key else figure.scale
    return [value * scale for value in results.values(figure.name, "gatepost", key, run)
            if value is not None]


def target_title(target):
    figure = BY_NAME[target.figure]
    if target.other:
        return f"{figure.title} / {BY_NAME[target.other].title}"
    return f"{figure.title} / {target.than}" if target.than else target.title


def markdown(results):
    lines = ["# Benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in results.facts.items()]
    peers = list(results.titles)
    lines += ["", "Medians (lowest–highest); less is better. In brackets: Gatepost's share of the "
              "peer's, the median of the repetitions.", "",
              "| figure | unit | " + " | ".join(results.titles[peer] for peer in peers) + " |",
              "|---|---|" + "---|" * len(peers)]
    for figure in FIGURES:
        if figure.name not in results.reports:
            continue
        rows = [(figure.title, figure.unit, figure.key, figure.scale)]
        rows += [("· " + title, "", key, scale) for key, title, scale in figure.also]
        for title, unit, key, scale in rows:
            cells = [cell(results, figure.name, peer, key, scale) for peer in peers]
            lines.append(f"| {title} | {unit} | " + " | ".join(cells) + " |")
    lines += verdicts(results)
    problems = [f"{figure}, {peer}: {count} errors, first: {text}"
                for figure, peer, count, text in results.errors()]
    if problems:
        lines += ["", "Runs with errors are left out:", "", *(f"- {text}" for text in problems)]
    if results.unequal():
        lines += ["", "**Not the same work:**", "", *(f"- {text}" for text in results.unequal())]
    return "\n".join(lines) + "\n"


def verdicts(results):
    rows = check_targets(results)
    if not rows:
        return []
    count = max(len(row["runs"]) for row in rows)
    columns = [f"run {number}" for number in range(1, count + 1)]
    lines = ["", "| target | must | stretch | " + " | ".join(columns) + " | |",
             "|---|---|---|" + "---|" * (count + 1)]
    for row in rows:
        stretch = "" if row["stretch"] is None else number(row["stretch"])
        verdict = "**missed**" if not row["met"] else \
            "met, stretch too" if row["stretch_met"] else "met"
        cells = [number(value) for value in row["runs"]] + [""] * (count - len(row["runs"]))
        lines.append(f"| {row['target']} | ≤ {number(row['must'])} | {stretch} | "
                     f"{' | '.join(cells)} | {verdict} |")
    missed = [row["target"] for row in rows if not row["met"]]
    runs = "in the one run" if count == 1 else f"in each of {count} runs"
    return lines + ["", f"{len(rows) - len(missed)} of {len(rows)} targets are met {runs}"
                    + (f"; missed: {', '.join(missed)}." if missed else ".")]


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
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
  .title { font-weight: 600; }
  .note { fill: #57606a; font-weight: 400; }
  .peer { fill: #57606a; text-anchor: end; }
  .gatepost { fill: #24292f; font-weight: 600; text-anchor: end; }
  .ours { fill: #1f7a4d; }
  .other { fill: #9aa5b1; }
  .cut { stroke: #ffffff; stroke-width: 3; }
  @media (prefers-color-scheme: dark) {
    text, .gatepost { fill: #e6edf3; }
    .note, .peer { fill: #9da7b3; }
    .ours { fill: #3fb950; }
    .other { fill: #5b6672; }
    .cut { stroke: #0d1117; }
  }
"""
COLUMN, LABEL, BAR, ROW, GAP = 410, 112, 190, 18, 26  # of the picture, in pixels


def picture(results):
    """Bars in two columns, one group a figure; a bar far beyond the others is cut."""
    groups = [group(results, BY_NAME[name]) for name in PICTURE]
    groups = [lines for lines in groups if lines]
    top = 30
    heights, body = [top, top], []
    for number_of, (height, lines) in enumerate(groups):
        column = number_of % 2
        body.append(f'<g transform="translate({column * COLUMN}, {heights[column]})">'
                    + "\n".join(lines) + "</g>")
        heights[column] += height + GAP
    width, height = 2 * COLUMN - 20, max(heights)
    head = (f'<text class="title" x="0" y="12">What a mail session costs the proxy '
            '<tspan class="note">less is better; times what Gatepost takes</tspan></text>')
    foot = "".join(f'<text class="note" x="0" y="{height + 16 * line}">'
                   f'{escape(results.facts.get(fact, ""))}</text>'
                   for line, fact in enumerate(("settings", "machine")))
    height += 16
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 6}" '
            f'width="{width}" height="{height + 6}" role="img" '
            'aria-label="Cost of Gatepost and its peers; less is better">'
            f"<style>{STYLE}</style>\n{head}\n" + "\n".join(body) + f"\n{foot}\n</svg>\n")


def group(results, figure):
    """Height and lines of one figure's bars; None if Gatepost has none."""
    values = {peer: results.median(figure.name, peer, figure.key, figure.scale)
              for peer in results.titles if peer not in NOT_IN_PICTURE}
    values = {peer: value for peer, value in values.items() if value is not None}
    if "gatepost" not in values or len(values) < 2:
        return None
    most = 2.5 * statistics.median(value for peer, value in values.items() if peer != "gatepost")
    longest = min(max(values.values()), most)
    lines = [f'<text class="title" x="0" y="12">{escape(figure.title)} '
             f'<tspan class="note">{escape(figure.unit)}</tspan></text>']
    y = 12
    for peer, value in values.items():
        y += ROW
        ours = peer == "gatepost"
        length = max(2, BAR * min(value / longest, 1))
        times = "" if ours else f'<tspan class="note" dx="6">{number(value / values["gatepost"])}×</tspan>'
        lines.append(f'<text class="{"gatepost" if ours else "peer"}" x="{LABEL - 8}" y="{y}">'
                     f'{escape(results.titles[peer])}</text>'
                     f'<rect class="{"ours" if ours else "other"}" x="{LABEL}" y="{y - 11}" '
                     f'width="{length:.0f}" height="13" rx="2"/>')
        if value > longest:
            x = LABEL + length - 20
            lines.append(f'<path class="cut" d="M{x:.0f} {y + 4} l6 -17"/>')
        lines.append(f'<text x="{LABEL + length + 6:.0f}" y="{y}">{number(value)}{times}</text>')
    return y, lines
