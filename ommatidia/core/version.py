"""The version of the package, for all who write it down."""

VERSION = "0.1.0"
