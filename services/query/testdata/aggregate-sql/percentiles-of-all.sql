-- flights?metric=p95:delay_minutes
WITH source AS (
  SELECT `delay_minutes` AS v0
  FROM `my-project`.`shop`.`flights_latest`
), ranked AS (
  SELECT *, PERCENTILE_DISC(v0, 0.95) OVER () AS q0
  FROM source
)
SELECT ANY_VALUE(q0) AS m0
FROM ranked
LIMIT 10001
