"""Writes tables with every kind of row-level delete through a running Firn with Spark, or reads them again.

`spark_deletes.py write FOLDER` makes them (files that a table adopts go below FOLDER), `spark_deletes.py read` only reads.
Either prints one JSON object: the rows of each table, in order of the first column, as Spark sees them.
"""

import json
import os
import sys

from pyspark.sql import SparkSession

TABLES = ["by_file", "by_partition", "vectors", "equality", "adopted", "hive"]


def connect():
    catalog = "spark.sql.catalog.firn"
    settings = {
        "spark.master": "local[1]",
        "spark.driver.memory": "700m",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.jars": os.environ["FIRN_SPARK_ICEBERG"],
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": "/nonexistent",
        "spark.sql.session.timeZone": "UTC",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "rest",
        f"{catalog}.uri": os.environ["FIRN_URL"] + "/iceberg",
        f"{catalog}.warehouse": os.environ["FIRN_TENANT"],
        f"{catalog}.token": os.environ["FIRN_TOKEN"],
        f"{catalog}.cache-enabled": "false",
    }
    builder = SparkSession.builder.appName("firn")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def create(spark, name, version, partitioning="", **properties):
    modes = {f"write.{operation}.mode": "merge-on-read" for operation in ("delete", "update", "merge")}
    all_properties = {"format-version": str(version), **modes, **properties}
    listed = ", ".join(f"'{key}' = '{value}'" for key, value in all_properties.items())
    spark.sql(
        f"CREATE TABLE firn.lab.{name} (id BIGINT, region STRING, amount INT) USING iceberg {partitioning} "
        f"TBLPROPERTIES ({listed})"
    )


def insert(spark, name, first, last):
    """One file per region: `id` from first to last, two regions, amount = id * 10, and null where id is divisible by 7."""
    spark.sql(
        f"INSERT INTO firn.lab.{name} SELECT /*+ COALESCE(1) */ id, IF(id % 2 = 0, 'north', 'south'), "
        f"IF(id % 7 = 0, NULL, CAST(id * 10 AS INT)) FROM range({first}, {last} + 1)"
    )


def position_deletes(spark):
    create(spark, "by_file", 2, **{"write.delete.granularity": "file"})
    insert(spark, "by_file", 1, 40)
    insert(spark, "by_file", 41, 60)
    spark.sql("DELETE FROM firn.lab.by_file WHERE id % 5 = 0")
    spark.sql("UPDATE firn.lab.by_file SET amount = -1 WHERE id IN (3, 43)")
    spark.sql("DELETE FROM firn.lab.by_file WHERE id = 3")

    create(spark, "by_partition", 2, "PARTITIONED BY (region)", **{"write.delete.granularity": "partition"})
    insert(spark, "by_partition", 1, 20)
    insert(spark, "by_partition", 21, 40)
    spark.sql("DELETE FROM firn.lab.by_partition WHERE id IN (2, 4, 22, 23, 24)")
    insert(spark, "by_partition", 1, 4)
    spark.sql(
        "MERGE INTO firn.lab.by_partition t USING (SELECT id FROM range(38, 43)) s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET amount = 0 WHEN NOT MATCHED THEN INSERT (id, region, amount) VALUES (s.id, 'north', 1)"
    )
    # A new spec: files and deletes of the old one stay, and must not be mixed up with the new.
    spark.sql("ALTER TABLE firn.lab.by_partition ADD PARTITION FIELD bucket(2, id)")
    insert(spark, "by_partition", 50, 60)
    spark.sql("DELETE FROM firn.lab.by_partition WHERE id IN (10, 51, 52)")


def deletion_vectors(spark):
    create(spark, "vectors", 3, "PARTITIONED BY (region)")
    insert(spark, "vectors", 1, 100)
    spark.sql("DELETE FROM firn.lab.vectors WHERE id % 10 = 1")
    # The vectors of the same files are replaced by larger ones.
    spark.sql("DELETE FROM firn.lab.vectors WHERE id BETWEEN 50 AND 60")
    insert(spark, "vectors", 101, 120)
    spark.sql("UPDATE firn.lab.vectors SET amount = 7 WHERE id = 110")
    table = load(spark, "vectors")
    # A default as only format 3 has it: the files above lack the column.
    literal = spark._jvm.org.apache.iceberg.expressions.Literal
    string = getattr(spark._jvm.org.apache.iceberg.types, "Types$StringType").get()
    table.updateSchema().addColumn("source", string, literal.of("before")).commit()
    spark.sql("INSERT INTO firn.lab.vectors VALUES (121, 'north', 5, 'after'), (122, 'south', 6, NULL)")
    spark.sql("DELETE FROM firn.lab.vectors WHERE id = 121")


def load(spark, name):
    return spark._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, f"firn.lab.{name}")


def write_equality_deletes(spark, name, columns, rows, region=None):
    """Deletes the rows that equal one of `rows` in `columns`, as Flink does; Spark itself writes none, but has the library.

    With a region only in that partition, else (by an unpartitioned spec) everywhere.
    """
    jvm, gateway = spark._jvm, spark.sparkContext._gateway
    table = load(spark, name)
    schema = table.schema().select(columns)
    specs = list(table.specs().values())
    spec = table.spec() if region else next(s for s in specs if s.isUnpartitioned())
    partition = None
    if region:
        partition = jvm.org.apache.iceberg.PartitionData(spec.partitionType())
        partition.set(0, region)
    ids = gateway.new_array(jvm.int, len(columns))
    for index, column in enumerate(columns):
        ids[index] = table.schema().findField(column).fieldId()
    factory = jvm.org.apache.iceberg.data.GenericAppenderFactory(table.schema(), spec, ids, schema, None)
    format_ = jvm.org.apache.iceberg.FileFormat.PARQUET
    builder = jvm.org.apache.iceberg.io.OutputFileFactory.builderFor(table, 1, 1).format(format_).build()
    output = builder.newOutputFile(spec, partition) if partition else builder.newOutputFile()
    writer = factory.newEqDeleteWriter(output, format_, partition)
    for row in rows:
        record = jvm.org.apache.iceberg.data.GenericRecord.create(schema)
        for column, value in zip(columns, row):
            record.setField(column, value)
        writer.write(record)
    writer.close()
    table.newRowDelta().addDeletes(writer.toDeleteFile()).commit()


def equality_deletes(spark):
    create(spark, "equality", 2)
    insert(spark, "equality", 1, 20)
    # Amount is null where id is 7 or 14: null equals null.
    write_equality_deletes(spark, "equality", ["amount"], [[30], [None], [60]])
    # Written after the delete, so it stays.
    spark.sql("INSERT INTO firn.lab.equality VALUES (103, 'north', 30), (104, 'north', NULL)")
    spark.sql("ALTER TABLE firn.lab.equality ADD PARTITION FIELD region")
    insert(spark, "equality", 21, 40)
    write_equality_deletes(spark, "equality", ["region", "amount"], [["north", 240], ["south", 250]], region="north")
    # By the unpartitioned spec: everywhere.
    write_equality_deletes(spark, "equality", ["amount"], [[270], [100]])
    spark.sql("DELETE FROM firn.lab.equality WHERE id = 11")
    # The key of the deletes goes; the deletes still hold.
    spark.sql("ALTER TABLE firn.lab.equality DROP COLUMN amount")
    spark.sql("ALTER TABLE firn.lab.equality ADD COLUMN size BIGINT")
    spark.sql("INSERT INTO firn.lab.equality VALUES (201, 'south', 30)")


def adopted_files(spark, folder):
    """Files of Spark's own Parquet source have no field ids: names are mapped, also after columns were renamed."""
    spark.sql("SELECT id, named_struct('low', id, 'high', id + 1) AS span, 'x' AS note FROM range(1, 11)").coalesce(
        1
    ).write.parquet(f"{folder}/adopted")
    modes = "'write.delete.mode' = 'merge-on-read', 'format-version' = '2'"
    spark.sql(
        "CREATE TABLE firn.lab.adopted (id BIGINT, span STRUCT<low: BIGINT, high: BIGINT>, note STRING) USING iceberg "
        f"TBLPROPERTIES ({modes})"
    )
    spark.sql(f"CALL firn.system.add_files(table => 'lab.adopted', source_table => '`parquet`.`{folder}/adopted`')")
    spark.sql("ALTER TABLE firn.lab.adopted RENAME COLUMN note TO remark")
    spark.sql("ALTER TABLE firn.lab.adopted RENAME COLUMN span.low TO start")
    spark.sql("ALTER TABLE firn.lab.adopted ADD COLUMN note STRING")
    spark.sql("INSERT INTO firn.lab.adopted VALUES (11, named_struct('start', 11L, 'high', 12L), 'y', 'new')")
    spark.sql("DELETE FROM firn.lab.adopted WHERE id IN (2, 11)")

    # Files of a Hive table lack their partition columns: the values are in the manifest alone.
    spark.sql("SELECT id, IF(id % 2 = 0, 'north', 'south') AS region FROM range(1, 11)").coalesce(1).write.partitionBy(
        "region"
    ).parquet(f"{folder}/hive")
    spark.sql(
        "CREATE TABLE firn.lab.hive (id BIGINT, region STRING) USING iceberg PARTITIONED BY (region) "
        f"TBLPROPERTIES ({modes})"
    )
    spark.sql(f"CALL firn.system.add_files(table => 'lab.hive', source_table => '`parquet`.`{folder}/hive`')")
    spark.sql("DELETE FROM firn.lab.hive WHERE id = 5")


def plain(value):
    if hasattr(value, "asDict"):
        return {key: plain(field) for key, field in value.asDict().items()}
    return value


def read(spark, name):
    frame = spark.table(f"firn.lab.{name}")
    return [plain(row) for row in frame.orderBy(frame.columns).collect()]


def main():
    spark = connect()
    spark.sparkContext.setLogLevel("ERROR")
    if sys.argv[1] == "write":
        spark.sql("CREATE NAMESPACE IF NOT EXISTS firn.lab")
        position_deletes(spark)
        deletion_vectors(spark)
        equality_deletes(spark)
        adopted_files(spark, sys.argv[2])
    print(json.dumps({name: read(spark, name) for name in TABLES}))
    spark.stop()


main()
