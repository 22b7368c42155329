"""The report: plain values (``model``) and what is drawn from them: an HTML page, Markdown, CSV and JSON."""

from ommatidia.lab.report.model import (
    BenchmarkInfo,
    Candidate,
    Contribution,
    Curve,
    DesignRow,
    ExampleCard,
    GreedyLook,
    GreedyRound,
    Interval,
    Manifest,
    Reply,
    Report,
    Verdict,
)
from ommatidia.lab.report.write import write_report

__all__ = [
    "BenchmarkInfo",
    "Candidate",
    "Contribution",
    "Curve",
    "DesignRow",
    "ExampleCard",
    "GreedyLook",
    "GreedyRound",
    "Interval",
    "Manifest",
    "Reply",
    "Report",
    "Verdict",
    "write_report",
]
