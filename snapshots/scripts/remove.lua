-- Remove a key that PostgreSQL does not know, if it still holds what the caller saw.
--
-- KEYS  1 epoch, 2 the key: a token, or the hash of an account
-- ARGV  1 the caller's epoch, 2 the token, or the version envelope of the hash, as the caller saw it; ""
--       for a key of another type
--
-- Answers {"removed", how many}; {"epoch"} when this is another life of Redis.

if redis.call("HGET", KEYS[1], "id") ~= ARGV[1] then
  return {"epoch"}
end
local kind = redis.call("TYPE", KEYS[2]).ok
local held
if kind == "string" then
  held = redis.call("GET", KEYS[2])
elseif kind == "hash" then
  held = redis.call("HGET", KEYS[2], "version") or ""
elseif kind ~= "none" then
  held = ""
end
if held ~= ARGV[2] then
  return {"removed", 0}
end
return {"removed", redis.call("DEL", KEYS[2])}
