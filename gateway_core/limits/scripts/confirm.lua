-- Add what ingest has written to counts (gateway_core.limits.counting). A round counts once for each count.
--
-- KEYS  the counts
-- ARGV  1 the round, a number that rises
--       then for each count: how many workers counted, then of each: the worker, the life of the count that it knew,
--       what the usage was, and what the worker counted for it
--
-- Answers how many counts took the round. A count that is not there is opened with this usage (open.lua).

local at, taken = 2, 0
for place = 1, #KEYS do
  local key, workers = KEYS[place], tonumber(ARGV[at])
  local known = redis.call("HMGET", key, "opened", "round")
  if known[1] and tonumber(ARGV[1]) > tonumber(known[2] or 0) then
    for one = 0, workers - 1 do
      local worker, life, used, counted = unpack(ARGV, at + 1 + 4 * one, at + 4 + 4 * one)
      redis.call("HINCRBY", key, "base", used)
      if life == known[1] then
        redis.call("HINCRBY", key, "k:" .. worker, counted)
      end
    end
    redis.call("HSET", key, "round", ARGV[1])
    taken = taken + 1
  end
  at = at + 1 + 4 * workers
end
return taken
