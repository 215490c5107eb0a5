-- Load per organisation and window of event time: 5 minutes, an hour, and a day. The sums are exact integers, the averages
-- follow from them. Kept by partial sums, so that late, corrected and removed inventories change their windows alone.
-- model: gold.org_metrics
-- kind: aggregate
-- interval: 30s
-- column: organization_id Organisation (organization.id in ECS); null for computers without one.
-- column: window_size Length of the window: 5 minutes, hour, or day.
-- column: window_start Start of the window, UTC.
-- column: hosts Computers that reported within the window.
-- column: samples Inventories within the window.
-- column: cpu_samples Inventories that hold a CPU use.
-- column: cpu_usage_sum Sum of CPU use, in hundredths of a percent.
-- column: cpu_usage_avg Average CPU use, in percent (0 to 100).
-- column: disk_samples Inventories that hold size and free space of the system volume.
-- column: disk_used_bytes_sum Sum of used space of the system volumes, in bytes.
-- column: disk_total_bytes_sum Sum of the sizes of the system volumes, in bytes.
-- column: disk_used_share Used share of the system volumes, 0 to 1.
-- check: share-in-range fail disk_used_share BETWEEN 0 AND 1
-- check: cpu-in-range warn cpu_usage_avg BETWEEN 0 AND 100
SELECT
  organization_id,
  window_size,
  window_start,
  count(DISTINCT host_id) AS hosts,
  count(*) AS samples,
  count(cpu_usage) AS cpu_samples,
  sum(cpu_usage) AS cpu_usage_sum,
  CASE WHEN count(cpu_usage) > 0
    THEN CAST(sum(cpu_usage) AS DOUBLE) / count(cpu_usage) / 100 END AS cpu_usage_avg,
  count(disk_used_bytes) AS disk_samples,
  sum(disk_used_bytes) AS disk_used_bytes_sum,
  sum(disk_size_bytes) AS disk_total_bytes_sum,
  CASE WHEN sum(disk_size_bytes) > 0
    THEN CAST(sum(disk_used_bytes) AS DOUBLE) / sum(disk_size_bytes) END AS disk_used_share
FROM (
  SELECT
    organization_id,
    host_id,
    window_size,
    CASE window_size
      WHEN '5 minutes' THEN date_bin(INTERVAL '5 minutes', event_time)
      WHEN 'hour' THEN date_trunc('hour', event_time)
      ELSE date_trunc('day', event_time)
    END AS window_start,
    CAST(cpu_usage AS BIGINT) AS cpu_usage,
    -- A size without its free space, or more free than there is, says nothing about use.
    CASE WHEN disk_free_bytes BETWEEN 0 AND disk_total_bytes THEN disk_total_bytes END AS disk_size_bytes,
    CASE WHEN disk_free_bytes BETWEEN 0 AND disk_total_bytes THEN disk_total_bytes - disk_free_bytes END
      AS disk_used_bytes
  FROM (
    SELECT
      organization_id,
      host_id,
      event_time,
      cpu_usage,
      disk_total_bytes,
      disk_free_bytes,
      unnest(make_array('5 minutes', 'hour', 'day')) AS window_size
    FROM silver.inventory
  )
)
GROUP BY organization_id, window_size, window_start
