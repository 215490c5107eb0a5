"""Reads tables of a running Firn with PyIceberg. Prints one JSON object: row count by table name."""

import json
import os
import sys

from pyiceberg.catalog.rest import RestCatalog

catalog = RestCatalog(
    "firn",
    uri=os.environ["FIRN_URL"] + "/iceberg",
    warehouse=os.environ["FIRN_TENANT"],
    token=os.environ["FIRN_TOKEN"],
)
counts = {name: len(catalog.load_table(name).scan().to_arrow()) for name in sys.argv[1:]}
print(json.dumps(counts))
