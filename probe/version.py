"""The version of the whole product; the probe reports it and the package is built with it."""

VERSION = "0.1.0"
