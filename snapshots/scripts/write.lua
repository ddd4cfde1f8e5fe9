-- A piece of a rebuild. Writes no change: whoever follows the changes loads everything anew in a new epoch.
--
-- KEYS  1 epoch, 2 the hash of an account (or the catalog), 3… the tokens: first those to write, then keys to remove
-- ARGV  1 the rebuild's epoch, 2 how many fields to write, then each with its value; how many tokens to write, then
--       the value of each, in the order of KEYS
--
-- Answers {"written"}; {"epoch"} when this is no longer the rebuild's epoch, or it is complete.

local epoch = redis.call("HMGET", KEYS[1], "id", "complete")
if epoch[1] ~= ARGV[1] or epoch[2] ~= "0" then
  return {"epoch"}
end
local count = tonumber(ARGV[2])
for field = 1, count do
  redis.call("HSET", KEYS[2], ARGV[2 * field + 1], ARGV[2 * field + 2])
end
local at = 2 * count + 3
count = tonumber(ARGV[at])
for token = 1, count do
  redis.call("SET", KEYS[2 + token], ARGV[at + token])
end
for key = 3 + count, #KEYS do
  redis.call("UNLINK", KEYS[key])
end
return {"written"}
