-- flights?interval=2w&group_by=origin&metric=p50:v0,sum:v0
WITH source AS (
  SELECT `origin` AS g0, TIMESTAMP_SECONDS((UNIX_SECONDS(`departed_at`) - MOD((MOD((UNIX_SECONDS(`departed_at`) - 345600), 1209600) + 1209600), 1209600))) AS g1, `v0` AS v2
  FROM `my-project`.`shop`.`flights_latest`
), ranked AS (
  SELECT *, PERCENTILE_DISC(v2, 0.50) OVER (PARTITION BY g0, g1) AS q0
  FROM source
)
SELECT g0, g1, ANY_VALUE(q0) AS m0, SUM(CAST(v2 AS BIGNUMERIC)) AS m1
FROM ranked
GROUP BY g0, g1
ORDER BY g0 ASC NULLS FIRST, g1 ASC NULLS FIRST
LIMIT 10001
