-- flights?metric=sum:select&group_by=select,v0
WITH source AS (
  SELECT `select` AS g0, `v0` AS g1, `select` AS v2
  FROM `my-project`.`shop`.`flights_latest`
)
SELECT g0, g1, SUM(CAST(v2 AS BIGNUMERIC)) AS m0
FROM source
GROUP BY g0, g1
ORDER BY g0 ASC NULLS FIRST, g1 ASC NULLS FIRST
LIMIT 10001
