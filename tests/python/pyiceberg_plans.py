"""Reads tables of a running Firn with PyIceberg, planned by itself and by the server. Prints one JSON object: by table name the
row counts of both, of all rows and of some."""

import json
import os
import sys

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import And, GreaterThanOrEqual, Not, NotNull
from pyiceberg.types import StringType


def connect(mode):
    return RestCatalog(
        "firn",
        **{
            "uri": os.environ["FIRN_URL"] + "/iceberg",
            "warehouse": os.environ["FIRN_TENANT"],
            "token": os.environ["FIRN_TOKEN"],
            "scan-planning-mode": mode,
        },
    )


catalogs = [connect("client"), connect("server")]
assert [catalog.supports_server_side_planning() for catalog in catalogs] == [False, True]
seen = {}
for name in sys.argv[1:]:
    tables = [catalog.load_table(name) for catalog in catalogs]
    column = next(field.name for field in tables[0].schema().fields if isinstance(field.field_type, StringType))
    values = sorted(value for value in tables[0].scan().to_arrow()[column].to_pylist() if value is not None)
    some = And(NotNull(column), Not(GreaterThanOrEqual(column, values[len(values) // 2])))
    seen[name] = {
        "all": [len(table.scan().to_arrow()) for table in tables],
        "some": [len(table.scan(row_filter=some).to_arrow()) for table in tables],
    }
print(json.dumps(seen))
