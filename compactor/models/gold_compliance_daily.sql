-- How many computers complied with each rule on each day, by organisation: each computer by its newest inventory of the day,
-- each day by the rules as they are now.
-- model: gold.compliance_daily
-- kind: aggregate
-- judged: rule_id, state
-- interval: 30s
-- column: day Day of the event time, UTC.
-- column: organization_id Organisation (organization.id in ECS); null for computers without one.
-- column: rule_id Rule, as in policies.rules (rule.id in ECS).
-- column: hosts Computers that reported on the day.
-- column: passing Computers that complied.
-- column: failing Computers in breach.
-- column: no_result Computers of which the rule can't tell.
-- column: compliant_share Share of those that complied among those of which the rule can tell, 0 to 1.
-- check: all-are-counted fail passing + failing + no_result = hosts
SELECT
  day,
  organization_id,
  rule_id,
  count(*) AS hosts,
  sum(passing) AS passing,
  sum(failing) AS failing,
  sum(no_result) AS no_result,
  CASE WHEN sum(passing) + sum(failing) > 0
    THEN CAST(sum(passing) AS DOUBLE) / (sum(passing) + sum(failing)) END AS compliant_share
FROM (
  SELECT
    day,
    organization_id,
    rule_id,
    CASE WHEN state = 'pass' THEN 1 ELSE 0 END AS passing,
    CASE WHEN state = 'fail' THEN 1 ELSE 0 END AS failing,
    CASE WHEN state = 'no_result' THEN 1 ELSE 0 END AS no_result
  FROM silver.device_daily
)
GROUP BY day, organization_id, rule_id
