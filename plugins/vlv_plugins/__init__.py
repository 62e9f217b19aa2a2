"""Plugins that ship with vlv, one package a family. Each `__init__` declares; `_*.py` builds."""
