-- The newest inventory of each computer on each day of event time.
-- model: silver.device_daily
-- kind: latest
-- key: host_id, day
-- order: event_time, received_at, log_partition, log_offset
-- partition: day(event_time)
-- column: day Day of the event time, UTC.
SELECT
  *,
  CAST(event_time AS DATE) AS day
FROM silver.inventory
