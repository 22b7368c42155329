"""``omma data``: what is done with data before anything is trained on it."""

from __future__ import annotations

import typer

from ommatidia.cli import checking as checking_commands
from ommatidia.cli import curation as curation_commands

app = typer.Typer(name="data", help="Look at data, blend it, curate it, write it.", no_args_is_help=True)

curation_commands.register(app)
checking_commands.register(app)
