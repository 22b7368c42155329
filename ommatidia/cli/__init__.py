"""The command line and nothing else: parse, call ``lab``, print."""

from ommatidia.cli.app import app, main

__all__ = ["app", "main"]
