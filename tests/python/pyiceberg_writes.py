"""Creates, appends, evolves and reads a table with PyIceberg, on main and on a branch. Prints what it saw as JSON."""

import json
import os

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.types import LongType


def connect(warehouse):
    return RestCatalog(
        "firn", uri=os.environ["FIRN_URL"] + "/iceberg", warehouse=warehouse, token=os.environ["FIRN_TOKEN"]
    )


tenant = os.environ["FIRN_TENANT"]
catalog = connect(tenant)
catalog.create_namespace_if_not_exists("lab")
rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]})
table = catalog.create_table("lab.things", schema=rows.schema)
table.append(rows)
with table.update_schema() as update:
    update.add_column("size", LongType())
table.append(pa.table({"id": pa.array([4], pa.int64()), "name": ["d"], "size": pa.array([40], pa.int64())}))
seen = {"main": catalog.load_table("lab.things").scan().to_arrow().num_rows}

# A branch of the catalog is a warehouse of its own: what is written there stays there until it is merged.
branch = os.environ.get("FIRN_BRANCH")
if branch:
    dev = connect(f"{tenant}@{branch}")
    if not dev.namespace_exists("lab_dev"):
        dev.create_namespace("lab_dev")
    dev.create_table("lab_dev.things", schema=rows.schema).append(rows)
    seen["branch"] = dev.load_table("lab_dev.things").scan().to_arrow().num_rows
    seen["branch_table_on_main"] = catalog.table_exists("lab_dev.things")
print(json.dumps(seen))
