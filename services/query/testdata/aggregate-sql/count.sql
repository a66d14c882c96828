-- flights?
WITH source AS (
  SELECT 1 AS one
  FROM `my-project`.`shop`.`flights_latest`
)
SELECT COUNT(*) AS m0
FROM source
LIMIT 10001
