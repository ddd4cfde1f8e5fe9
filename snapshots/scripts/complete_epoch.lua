-- The rebuild has ended: publications are welcome, workers may load.
--
-- KEYS  1 epoch
-- ARGV  1 the rebuild's epoch
--
-- Answers {"completed"}; {"epoch"} when another rebuild has begun since.

if redis.call("HGET", KEYS[1], "id") ~= ARGV[1] then
  return {"epoch"}
end
redis.call("HSET", KEYS[1], "complete", "1")
return {"completed"}
