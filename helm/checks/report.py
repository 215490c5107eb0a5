"""What all checks of the deployment files share: where things are, and how a check's end is told."""

import copy
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ["FIRN_DEPLOY_CACHE"])

failures, skipped = [], []


def check(name, problem):
    """Notes how one check went; `problem` is empty where it went well."""
    print(f"{'FAILED' if problem else 'ok    '} {name}{': ' + problem if problem else ''}")
    if problem:
        failures.append(name)


def skip(name, tool):
    print(f"skipped {name}: {tool} isn't there (scripts/check-deploy install)")
    skipped.append(f"{name} ({tool})")


def run(command, **options):
    """What a command that failed said; empty if it went well."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()[-3000:]


def tool(name):
    """A program of the cache, of the virtual environment, or of the system."""
    places = [CACHE / "bin" / name, CACHE / "venv" / "bin" / name, CACHE / "checkov" / "bin" / name]
    return next((str(place) for place in places if place.exists()), shutil.which(name))


def merged(base, change):
    result = copy.deepcopy(base)
    for key, value in change.items():
        result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result
