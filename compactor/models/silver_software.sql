-- The packages of each computer's newest inventory.
-- model: silver.software
-- kind: append
-- key: host_id
-- column: name Name of the package.
-- column: version Version of the package as its manager writes it.
-- column: vendor Vendor of the package.
-- check: has-name drop name IS NOT NULL AND name <> ''
SELECT
  host_id,
  hostname,
  organization_id,
  os_type,
  package['name'] AS name,
  package['version'] AS version,
  package['vendor'] AS vendor,
  event_time,
  received_at
FROM (
  SELECT host_id, hostname, organization_id, os_type, event_time, received_at, unnest(software) AS package
  FROM silver.device
)
