-- flights?metric=p50:delay_minutes,p95:delay_minutes,p95:price,p99:price,count:price&group_by=destination
WITH source AS (
  SELECT `destination` AS g0, `delay_minutes` AS v1, `price` AS v2
  FROM `my-project`.`shop`.`flights_latest`
), ranked AS (
  SELECT *, PERCENTILE_DISC(v1, 0.50) OVER (PARTITION BY g0) AS q0, PERCENTILE_DISC(v1, 0.95) OVER (PARTITION BY g0) AS q1, PERCENTILE_DISC(v2, 0.95) OVER (PARTITION BY g0) AS q2, PERCENTILE_DISC(v2, 0.99) OVER (PARTITION BY g0) AS q3
  FROM source
)
SELECT g0, ANY_VALUE(q0) AS m0, ANY_VALUE(q1) AS m1, ANY_VALUE(q2) AS m2, ANY_VALUE(q3) AS m3, COUNT(v2) AS m4
FROM ranked
GROUP BY g0
ORDER BY g0 ASC NULLS FIRST
LIMIT 10001
