-- How each computer is doing, by its newest inventory: what is scarce, what is off, and the worst of it in one word.
-- model: gold.device_health
-- kind: append
-- key: host_id
-- freshness: 5m
-- column: disk_free_share Free share of the system volume, 0 to 1.
-- column: memory_used_share Used share of the memory, 0 to 1.
-- column: cpu_usage_percent CPU use, 0 to 100.
-- column: uptime_s Seconds from the last start of the computer to its inventory.
-- column: antivirus_age_s Seconds from the antivirus' last update to the inventory.
-- column: patch_age_s Seconds from the last patch of the operating system to the inventory.
-- column: problems Number of signs that need a look: disk below 10 % free, memory above 95 %, restart pending, antivirus off or older than 7 days, patches older than 30 days.
-- column: health critical where less than 5 % of the disk is free, else warning where there is a problem, else good.
-- column: clock_skew_s How far the computer's clock was ahead of the gateway's, in seconds.
-- column: last_seen Event time of the newest inventory, UTC.
-- check: known-health fail health IN ('good', 'warning', 'critical')
-- check: shares-in-range warn disk_free_share BETWEEN 0 AND 1 AND memory_used_share BETWEEN 0 AND 1
SELECT
  host_id,
  hostname,
  organization_id,
  os_type,
  disk_free_share,
  memory_used_share,
  cpu_usage_percent,
  uptime_s,
  antivirus_age_s,
  patch_age_s,
  problems,
  CASE
    WHEN disk_free_share < 0.05 THEN 'critical'
    WHEN problems > 0 THEN 'warning'
    ELSE 'good'
  END AS health,
  clock_skew_s,
  last_seen,
  received_at
FROM (
  SELECT
    *,
    CASE WHEN disk_free_share < 0.1 THEN 1 ELSE 0 END
      + CASE WHEN memory_used_share > 0.95 THEN 1 ELSE 0 END
      + CASE WHEN reboot_pending THEN 1 ELSE 0 END
      + CASE WHEN NOT antivirus_enabled OR antivirus_age_s > 604800 THEN 1 ELSE 0 END
      + CASE WHEN patch_age_s > 2592000 THEN 1 ELSE 0 END AS problems
  FROM (
    SELECT
      host_id,
      hostname,
      organization_id,
      os_type,
      CASE WHEN disk_total_bytes > 0 THEN CAST(disk_free_bytes AS DOUBLE) / disk_total_bytes END
        AS disk_free_share,
      CASE WHEN memory_total_bytes > 0 THEN CAST(memory_used_bytes AS DOUBLE) / memory_total_bytes END
        AS memory_used_share,
      CAST(cpu_usage AS DOUBLE) / 100 AS cpu_usage_percent,
      CAST(date_part('epoch', event_time) - date_part('epoch', booted_at) AS BIGINT) AS uptime_s,
      CAST(date_part('epoch', event_time) - date_part('epoch', antivirus_updated_at) AS BIGINT)
        AS antivirus_age_s,
      CAST(date_part('epoch', event_time) - date_part('epoch', patched_at) AS BIGINT) AS patch_age_s,
      reboot_pending,
      antivirus_enabled,
      clock_skew_s,
      event_time AS last_seen,
      received_at
    FROM silver.device
  )
)
