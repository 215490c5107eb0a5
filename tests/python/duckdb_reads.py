"""Reads tables of a running Firn with DuckDB. Prints one JSON object: row count by table name."""

import json
import os
import sys

import duckdb
from duckdb_extensions import import_extension

connection = duckdb.connect()
for extension in ("avro", "httpfs", "iceberg"):
    import_extension(extension)
    connection.load_extension(extension)
connection.execute("CREATE SECRET firn (TYPE iceberg, TOKEN $token)".replace("$token", "'" + os.environ["FIRN_TOKEN"] + "'"))
connection.execute(
    f"ATTACH '{os.environ['FIRN_TENANT']}' AS lake "
    f"(TYPE iceberg, ENDPOINT '{os.environ['FIRN_URL']}/iceberg', SECRET firn)"
)
counts = {name: connection.execute(f"SELECT count(*) FROM lake.{name}").fetchone()[0] for name in sys.argv[1:]}
print(json.dumps(counts))
