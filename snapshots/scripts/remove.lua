-- Remove keys that PostgreSQL does not know, each only while it still holds what the caller saw.
--
-- KEYS  1 epoch, 2… the keys
-- ARGV  1 the caller's epoch, 2… what the caller saw under each key
--
-- Answers {"removed", how many}; {"epoch"} when this is another life of Redis.

if redis.call("HGET", KEYS[1], "id") ~= ARGV[1] then
  return {"epoch"}
end
local removed = 0
for key = 2, #KEYS do
  if redis.call("TYPE", KEYS[key]).ok == "string" and redis.call("GET", KEYS[key]) == ARGV[key] then
    removed = removed + redis.call("DEL", KEYS[key])
  end
end
return {"removed", removed}
