-- One row per computer and rule: what the rule says of the newest inventory, since when, and on what evidence. The rules
-- are the tenant's own (policies.rules at the commit the run started from), judged in log order as the alerts stream does.
-- model: gold.compliance
-- kind: rules
-- current: silver.device
-- freshness: 5m
-- check: known-state fail state IN ('pass', 'fail', 'no_result')
SELECT *
FROM silver.inventory
