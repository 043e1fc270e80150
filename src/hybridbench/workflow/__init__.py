"""Runs of the notebooks, their parameters and profiles, the verdicts, and the command line on top."""
