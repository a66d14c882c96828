-- days?interval=1w&metric=count,sum:flown&day[gt]=2001-01-01
WITH source AS (
  SELECT TIMESTAMP_SECONDS(((UNIX_DATE(`day`) * 86400) - MOD((MOD(((UNIX_DATE(`day`) * 86400) - 345600), 604800) + 604800), 604800))) AS g0, `flown` AS v1
  FROM `my-project`.`shop`.`days_latest`
  WHERE (`day` > @p0)
)
SELECT g0, COUNT(*) AS m0, SUM(CAST(v1 AS BIGNUMERIC)) AS m1
FROM source
GROUP BY g0
ORDER BY g0 ASC NULLS FIRST
LIMIT 10001
-- @p0 DATE "2001-01-01"
