"""Runs the job of deploy/engines/spark.yaml with Spark on this machine: its settings but those of Kubernetes, and its SQL.

FIRN_CREDENTIAL is all that Spark is given; where Firn is comes from FIRN_URL and FIRN_TENANT, in place of the example's.
"""

import json
import os
import pathlib
import sys

from pyspark.sql import SparkSession

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "engines" / "spark.yaml"
# Of the cluster's, not of the lake's.
OF_KUBERNETES = ("spark.kubernetes.", "spark.master", "spark.submit.", "spark.driver.", "spark.executor.", "spark.jars", "spark.local.")


def block(name):
    """A file of the ConfigMap, which stands there indented."""
    lines = EXAMPLE.read_text().split(f"\n  {name}: |\n", 1)[1].splitlines()
    end = next(index for index, line in enumerate(lines) if line and not line.startswith("    "))
    return "\n".join(line.removeprefix("    ") for line in lines[:end])


def settings():
    lines = [line.split(None, 1) for line in block("spark-defaults.conf").splitlines()]
    text = {key: value.strip() for key, value in lines if not key.startswith(OF_KUBERNETES)}
    text = {key: value.replace("https://firn.example.com", os.environ["FIRN_URL"]) for key, value in text.items()}
    return text | {
        "spark.sql.catalog.firn.warehouse": os.environ["FIRN_TENANT"],
        "spark.master": "local[1]",
        "spark.driver.memory": "700m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.jars": ",".join(sys.argv[1:]),
    }


def main():
    builder = SparkSession.builder.appName("example")
    for key, value in settings().items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for statement in block("job.sql").split(";"):
        if statement.strip():
            spark.sql(statement)
    print(json.dumps({row.os_name: row.computers for row in spark.table("firn.reports.systems").collect()}))
    spark.stop()


main()
