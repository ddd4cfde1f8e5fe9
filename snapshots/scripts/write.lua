-- A piece of a rebuild. Writes no change: whoever follows the changes loads everything anew in a new epoch.
--
-- KEYS  1 epoch, 2… the hashes to write to; then the tokens to write; then the keys to remove
-- ARGV  1 the rebuild's epoch, 2 how many hashes; for each of them how many fields, then each with its value; how many
--       tokens, then the value of each. All in the order of KEYS.
--
-- Answers {"written"}; {"epoch"} when this is no longer the rebuild's epoch, or it is complete.

local epoch = redis.call("HMGET", KEYS[1], "id", "complete")
if epoch[1] ~= ARGV[1] or epoch[2] ~= "0" then
  return {"epoch"}
end
local hashes = tonumber(ARGV[2])
local at = 3
for hash = 1, hashes do
  local count = tonumber(ARGV[at])
  for field = 1, count do
    redis.call("HSET", KEYS[1 + hash], ARGV[at + 2 * field - 1], ARGV[at + 2 * field])
  end
  at = at + 2 * count + 1
end
local tokens = tonumber(ARGV[at])
for token = 1, tokens do
  redis.call("SET", KEYS[1 + hashes + token], ARGV[at + token])
end
for key = 2 + hashes + tokens, #KEYS do
  redis.call("UNLINK", KEYS[key])
end
return {"written"}
