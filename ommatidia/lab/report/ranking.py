"""What the tables and images agree on: the order of designs, what is missing from each, and the warnings."""

from __future__ import annotations

from ommatidia.lab.report.model import DesignRow, Report


def ranked(designs: tuple[DesignRow, ...]) -> tuple[DesignRow, ...]:
    """Final designs first, then explored ones, then failed ones; each by falling average, ties by name and key."""

    def place(design: DesignRow) -> tuple[int, float, str, str]:
        tier = 2 if design.failed is not None else (0 if design.final else 1)
        return tier, -(design.average.mean if design.average else -1.0), design.name, design.key

    return tuple(sorted(designs, key=place))


def gaps(design: DesignRow, report: Report) -> tuple[str, ...]:
    """What a complete row would have and this one has not; empty for a complete row and for one that failed."""
    if design.failed is not None:
        return ()
    missing = []
    if design.average is None:
        missing.append("average")
    elif design.average.bounds is None:
        missing.append("interval")
    unscored = [b.name for b in report.benchmarks if b.name not in design.scores]
    if unscored:
        missing.append(f"scores ({', '.join(unscored)})")
    if any(interval.bounds is None for interval in design.scores.values()):
        missing.append("benchmark intervals")
    # A design without encoders has no image to take away: its blind score is its score.
    if not design.is_blind_model and design.blind_average(report.benchmarks) is None:
        missing.append("no-image baseline")
    if design.train_flops is None or design.flops_per_sample is None or design.parameters is None:
        missing.append("cost")
    if not design.seeds:
        missing.append("seeds")
    return tuple(missing)


def notices(report: Report) -> tuple[str, ...]:
    """The report's notes and warnings, then what follows from its rows: mixed commits, failed, incomplete designs."""
    found = [*report.notes, *report.warnings]
    commits = report.manifest.commits
    if len(commits) > 1:
        found.append(
            f"This table mixes {len(commits)} commits ({', '.join(commits)}): "
            "differences between rows may come from the code."
        )
    if len(report.manifest.processors) > 1:
        found.append(
            f"This table mixes {len(report.manifest.processors)} processors ({'; '.join(report.manifest.processors)}): "
            "differences between rows may come from their arithmetic."
        )
    libraries = [package.partition(" ")[0] for package in report.manifest.packages]
    if mixed := sorted({name for name in libraries if libraries.count(name) > 1}):
        versions = [package for package in report.manifest.packages if package.partition(" ")[0] in mixed]
        found.append(
            f"This table mixes versions of libraries ({', '.join(versions)}): "
            "differences between rows may come from them."
        )
    if failed := [d.name for d in report.designs if d.failed is not None]:
        found.append(f"Failed and therefore unranked: {', '.join(failed)}.")
    if incomplete := [d.name for d in report.designs if gaps(d, report)]:
        found.append(f"This report is incomplete: {len(incomplete)} of {len(report.designs)} rows lack something.")
    if not report.benchmarks:
        found.append("This report is incomplete: it has no benchmark.")
    return tuple(dict.fromkeys(found))
