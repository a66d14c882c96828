-- flights?origin=SCL'%20OR%201=1%20--&departed_at[gt]=2001-01-01T00:00:00.123456Z&price[lte]=1e300&late=true&booked[lt]=2001-01-31&photo[gte]=//8=&select=7
WITH source AS (
  SELECT 1 AS one
  FROM `my-project`.`shop`.`flights_latest`
  WHERE (`booked` < @p0)
    AND (`departed_at` > @p1)
    AND (`late` = @p2)
    AND (`origin` = @p3)
    AND (`photo` >= @p4)
    AND (`price` <= @p5)
    AND (`select` = @p6)
)
SELECT COUNT(*) AS m0
FROM source
LIMIT 10001
-- @p0 DATE "2001-01-31"
-- @p1 TIMESTAMP "2001-01-01 00:00:00.123456+00:00"
-- @p2 BOOL "true"
-- @p3 STRING "SCL' OR 1=1 --"
-- @p4 BYTES "//8="
-- @p5 FLOAT64 "1e+300"
-- @p6 INT64 "7"
