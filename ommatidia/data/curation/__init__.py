"""Curation: operations over records, and their report. Importing this package registers every kind of operation."""

from ommatidia.data.curation.cap import Cap
from ommatidia.data.curation.decontaminate import Decontaminate
from ommatidia.data.curation.duplicates import Duplicates
from ommatidia.data.curation.format_prompts import FormatPrompts
from ommatidia.data.curation.length import Length
from ommatidia.data.curation.near_duplicates import NearDuplicates
from ommatidia.data.curation.operation import Operation
from ommatidia.data.curation.quality import Quality
from ommatidia.data.curation.ratio import Ratio
from ommatidia.data.curation.resolution import Resolution

__all__ = [
    "Cap",
    "Decontaminate",
    "Duplicates",
    "FormatPrompts",
    "Length",
    "NearDuplicates",
    "Operation",
    "Quality",
    "Ratio",
    "Resolution",
]
