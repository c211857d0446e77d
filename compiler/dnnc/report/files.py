"""The files of an artefact that tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dnnc.report.data import Report
from dnnc.report.machine import report_values
from dnnc.report.markdown import report_markdown
from dnnc.report.readme import artefact_readme
from dnnc.report.readme_tvm import library_readme


def report_files(report: Report, manifest: Mapping[str, Any], paths: Iterable[str]) -> dict[str, bytes]:
    """report.json, report.md and README.md. paths: of the artefact's other files."""
    sources = sorted(path for path in paths if path.startswith("c/"))
    readme = library_readme(report, manifest) if "tvm" in manifest else artefact_readme(report, manifest, sources)
    return {
        "report.json": (json.dumps(report_values(report), indent=1) + "\n").encode(),
        "report.md": report_markdown(report).encode(),
        "README.md": readme.encode(),
    }
