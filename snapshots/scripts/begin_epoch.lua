-- A new life of Redis begins: from here on every publication is refused until the rebuild completes it.
--
-- KEYS  1 epoch, 2 changes
-- ARGV  1 the new epoch, 2 the epoch that the caller found, "" for none, 3 the highest number that PostgreSQL knows
--
-- Answers {"begun", number}; {"epoch"} when another rebuild was faster.

local found = ""
local number = tonumber(ARGV[3])
if redis.call("TYPE", KEYS[1]).ok == "hash" then
  local epoch = redis.call("HMGET", KEYS[1], "id", "number")
  found = epoch[1] or ""
  local theirs = tonumber(epoch[2] or "0") or 0
  if theirs > number and theirs < 1e15 then
    number = theirs
  end
end
if found ~= ARGV[2] then
  return {"epoch"}
end
local text = string.format("%.0f", number)

-- A stream that does not end where we stand would refuse the next number, or leave a gap that no reader can explain.
if redis.call("EXISTS", KEYS[2]) == 1 then
  local last = ""
  if redis.call("TYPE", KEYS[2]).ok == "stream" then
    local facts = redis.call("XINFO", "STREAM", KEYS[2])
    for fact = 1, #facts, 2 do
      if facts[fact] == "last-generated-id" then
        last = facts[fact + 1]
      end
    end
  end
  if last ~= text .. "-0" then
    redis.call("DEL", KEYS[2])
  end
end

redis.call("DEL", KEYS[1])
redis.call("HSET", KEYS[1], "id", ARGV[1], "complete", "0", "number", text)
return {"begun", text}
