-- flights?departed_at=2001-01-01T00:00:00.000000001Z
WITH source AS (
  SELECT 1 AS one
  FROM `my-project`.`shop`.`flights_latest`
  WHERE FALSE
)
SELECT COUNT(*) AS m0
FROM source
LIMIT 10001
