"""The build that a test of rules runs on: every test that asks for it runs on both."""

from tests.redo.builds import build as build
