-- flights?departed_at[gte]=2001-01-01T00:00:00.000000001Z&departed_at[lte]=2001-01-01T00:00:00.000001999Z
WITH source AS (
  SELECT 1 AS one
  FROM `my-project`.`shop`.`flights_latest`
  WHERE (`departed_at` >= @p0)
    AND (`departed_at` <= @p1)
)
SELECT COUNT(*) AS m0
FROM source
LIMIT 10001
-- @p0 TIMESTAMP "2001-01-01 00:00:00.000001+00:00"
-- @p1 TIMESTAMP "2001-01-01 00:00:00.000001+00:00"
