#!/usr/bin/env python3
"""Says whether a package-lock.json can be installed anywhere: pinned by hash, from the public registry or none named."""

import json
import sys

bad = []
packages = json.load(open(sys.argv[1], encoding="utf-8"))["packages"]
for name, package in packages.items():
    if not name:
        continue
    if not package.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/"):
        bad.append(f"{name} comes from {package['resolved']}")
    if "integrity" not in package:
        bad.append(f"{name} has no hash")
print("\n".join(bad) or f"{len(packages) - 1} packages, all pinned")
sys.exit(1 if bad else 0)
