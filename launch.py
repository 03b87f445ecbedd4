"""Run one config file: `python launch.py VERB configs/x.yaml [--set a.b=c] [--json]`; `python launch.py --help` lists the verbs."""

from __future__ import annotations

from adray.cli import main

if __name__ == "__main__":
    main()
