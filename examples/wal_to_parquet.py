"""Writes which blocks WAL changes as Parquet, a folder a relation: wal_to_parquet.py WAL TARGET.

Read it back with ``SELECT * FROM 'TARGET/**/*.parquet'``.
"""

import sys

import pyarrow as pa
import pyarrow.dataset as ds

from walstream import scan


def main(wal: str, target: str) -> None:
    ds.write_dataset(
        scan(wal).reader("blocks"),
        target,
        format="parquet",
        partitioning=ds.partitioning(
            pa.schema([("spc", pa.uint32()), ("db", pa.uint32()), ("rel", pa.uint32())]),
            flavor="hive",
        ),
        max_partitions=1 << 16,
    )
    print(f"{ds.dataset(target, format='parquet', partitioning='hive').count_rows()} rows")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
