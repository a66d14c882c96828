-- flights?interval=1h&from=2001-01-01&to=2001-02-01&metric=min:departed_at,max:booked,min:origin
WITH source AS (
  SELECT TIMESTAMP_SECONDS((UNIX_SECONDS(`departed_at`) - MOD((MOD(UNIX_SECONDS(`departed_at`), 3600) + 3600), 3600))) AS g0, `departed_at` AS v1, `booked` AS v2, `origin` AS v3
  FROM `my-project`.`shop`.`flights_latest`
  WHERE (`departed_at` >= @p0)
    AND (`departed_at` < @p1)
)
SELECT g0, MIN(v1) AS m0, MAX(v2) AS m1, MIN(v3) AS m2
FROM source
GROUP BY g0
ORDER BY g0 ASC NULLS FIRST
LIMIT 10001
-- @p0 TIMESTAMP "2001-01-01 00:00:00+00:00"
-- @p1 TIMESTAMP "2001-02-01 00:00:00+00:00"
