"""Runs each case twice, directly and through agents, and prints what its clients saw: one JSON object a line.

run.py JSON: {"ways": {"direct": [SIDE, SIDE], "agent": [SIDE, SIDE]}, "topics": …, "jobs": …, "only": …}, where a SIDE is the
arguments of `Address`. Cases run at the same time, each on topics of its own.
"""
import concurrent.futures
import json
import sys
import traceback

import delivery, flows, libraries, refusals, subscriptions  # noqa: E401, F401 - they register their cases
from world import CASES, Address, World

settings = json.loads(sys.argv[1])
ways = {way: [Address(**side) for side in sides] for way, sides in settings["ways"].items()}


def run(name, way):
    function, version, choice = CASES[name]
    world = World(ways[way], name, version, f"{settings['topics']}/{way}")
    try:
        function(world, **choice)
        return {"saw": world.transcript}
    except Exception:
        return {"failed": traceback.format_exc(limit=-3), "saw": world.transcript}
    finally:
        world.close()


with concurrent.futures.ThreadPoolExecutor(settings["jobs"]) as pool:
    chosen = [name for name in CASES if settings["only"] in name]
    pending = {pool.submit(run, name, way): (name, way) for name in chosen for way in ways}
    for future in concurrent.futures.as_completed(pending):
        name, way = pending[future]
        print(json.dumps({"case": name, "way": way, **future.result()}), flush=True)
