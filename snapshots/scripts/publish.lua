-- One publication of one account (or of the catalog), whole or not at all.
--
-- KEYS  1 epoch, 2 changes, 3 the hash of the account, 4… the tokens: first those to write, then those to delete
-- ARGV  1 the caller's epoch
--       2 the version that the caller holds for the stored one, 16 digits, or "" for none
--       3 the new version envelope
--       4 the account, as the change names it
--       5 the change envelope
--       6 about how many changes are kept
--       7 how many fields to write, then each with its value
--       . how many fields to delete, then each
--       . how many tokens to write, then the value of each, in the order of KEYS
--
-- Answers {"published", number}; {"epoch"} when this is another life of Redis or an unfinished one; {"version",
-- envelope} when the stored version is not the one that the caller knows of, or not lower than the new one; {"stream"}
-- when the stream would not take the next number.
--
-- Versions are compared as 16 digits of text: Lua's numbers misorder those above 2^53.

local epoch = redis.call("HMGET", KEYS[1], "id", "complete", "number")
if epoch[1] ~= ARGV[1] or epoch[2] ~= "1" or not epoch[3] then
  return {"epoch"}
end

local stored = redis.call("HGET", KEYS[3], "version") or ""
local stored_version = string.sub(stored, 12, 27)
if stored_version ~= ARGV[2] or stored_version >= string.sub(ARGV[3], 12, 27) then
  return {"version", stored}
end

-- The stream first: should it refuse (its last ID is higher, or Redis is out of memory), nothing has been written.
local number = string.format("%.0f", tonumber(epoch[3]) + 1)
local added = redis.pcall(
  "XADD", KEYS[2], "MAXLEN", "~", ARGV[6], number .. "-0", "account", ARGV[4], "change", ARGV[5])
if type(added) == "table" and added.err then
  return {"stream", added.err}
end
redis.call("HSET", KEYS[1], "number", number)

local at = 7
local count = tonumber(ARGV[at])
for field = 1, count do
  redis.call("HSET", KEYS[3], ARGV[at + 2 * field - 1], ARGV[at + 2 * field])
end
at = at + 2 * count + 1
count = tonumber(ARGV[at])
for field = 1, count do
  redis.call("HDEL", KEYS[3], ARGV[at + field])
end
at = at + count + 1
count = tonumber(ARGV[at])
for token = 1, count do
  redis.call("SET", KEYS[3 + token], ARGV[at + token])
end
for token = 4 + count, #KEYS do
  redis.call("DEL", KEYS[token])
end
redis.call("HSET", KEYS[3], "version", ARGV[3])
return {"published", number}
