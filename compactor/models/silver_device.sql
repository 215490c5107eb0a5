-- The newest inventory of each computer, by event time.
-- model: silver.device
-- kind: latest
-- key: host_id
-- order: event_time, received_at, log_partition, log_offset
SELECT *
FROM silver.inventory
