-- Every accepted inventory, once: an upload that a client repeated after a lost answer is another record of the log with
-- the same event_id, and only the first within 7 days is kept.
-- model: silver.inventory
-- kind: append
-- dedup: host_id, event_id within 7d of received_at by log_partition, log_offset
-- partition: day(received_at)
-- check: has-host drop host_id IS NOT NULL AND host_id <> ''
-- check: not-from-the-future warn event_time <= received_at
-- check: sizes-are-sane warn disk_free_bytes <= disk_total_bytes AND memory_used_bytes <= memory_total_bytes
SELECT *
FROM bronze.inventory
