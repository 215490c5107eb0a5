"""Two branches append to one table. `fork` makes the table, `append` adds rows on main and on a branch, `read` prints the
ids on main as JSON, how many snapshots lead there, and whether the table still takes appends."""

import json
import os
import sys

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog


def connect(warehouse):
    return RestCatalog(
        "firn", uri=os.environ["FIRN_URL"] + "/iceberg", warehouse=warehouse, token=os.environ["FIRN_TOKEN"]
    )


def rows(*ids):
    return pa.table({"id": pa.array(ids, pa.int64()), "day": [f"day {n % 2}" for n in ids]})


tenant = os.environ["FIRN_TENANT"]
step, name, branch = sys.argv[1:]
catalog = connect(tenant)
seen = {}
if step == "fork":
    catalog.create_namespace_if_not_exists("forked")
    table = catalog.create_table(name, schema=rows(1).schema)
    with table.update_spec() as update:
        update.add_identity("day")
    table.append(rows(1, 2))
elif step == "append":
    dev = connect(f"{tenant}@{branch}")
    dev.load_table(name).append(rows(10, 11))
    dev.load_table(name).append(rows(12))
    catalog.load_table(name).append(rows(20))
else:
    table = catalog.load_table(name)
    seen["ids"] = sorted(table.scan().to_arrow()["id"].to_pylist())
    seen["even"] = sorted(table.scan(row_filter="day = 'day 0'").to_arrow()["id"].to_pylist())
    seen["operations"] = [str(s.summary.operation.value) for s in table.snapshots()]
    table.append(rows(99))
    seen["after"] = table.scan().to_arrow().num_rows
print(json.dumps(seen))
