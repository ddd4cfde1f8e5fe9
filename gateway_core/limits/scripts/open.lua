-- Begin a count with what PostgreSQL says was used, unless Redis knows it by now.
--
-- KEYS  1 epoch, 2 limits:wanted, 3 the count
-- ARGV  1 the count's name, 2 what was used, 3 the newest round of ingest that is in it, 4 for how many seconds it is
--       kept, 5 of a rate: when its bucket is empty again, in microseconds; else ""
--
-- Answers 1 where it was begun, 0 where it was known, -1 where Redis holds no epoch.

local epoch = redis.call("HGET", KEYS[1], "id")
if not epoch then
  return -1
end
redis.call("SREM", KEYS[2], ARGV[1])
if redis.call("HGET", KEYS[3], "epoch") == epoch then
  return 0
end
local time = redis.call("TIME")
redis.call("UNLINK", KEYS[3])
redis.call("HSET", KEYS[3],
  "epoch", epoch, "opened", time[1] .. string.format("%06d", tonumber(time[2])), "base", ARGV[2], "round", ARGV[3])
if ARGV[5] ~= "" then
  redis.call("HSET", KEYS[3], "empty_at", ARGV[5])
end
redis.call("EXPIRE", KEYS[3], ARGV[4])
return 1
