-- flights?metric=count,avg:delay_minutes,sum:delay_minutes,sum:price,avg:price&group_by=origin,late
WITH source AS (
  SELECT `origin` AS g0, `late` AS g1, `delay_minutes` AS v2, `price` AS v3
  FROM `my-project`.`shop`.`flights_latest`
)
SELECT g0, g1, COUNT(*) AS m0, SUM(CAST(v2 AS BIGNUMERIC)) AS m1, COUNT(v2) AS m2, SUM(v3) AS m3, AVG(v3) AS m4
FROM source
GROUP BY g0, g1
ORDER BY g0 ASC NULLS FIRST, g1 ASC NULLS FIRST
LIMIT 10001
