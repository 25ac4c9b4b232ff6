"""All metadata stands in setup.cfg; this file lets older pips find it."""

from setuptools import setup

setup()
