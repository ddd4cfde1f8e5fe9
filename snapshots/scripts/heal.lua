-- Put right what no publication puts right: keys of fixed names that are of another type than ours, and a stream that is
-- ahead of its epoch's number. Each key alone, and no document is lost: a lost entry of the stream is a gap, which
-- workers notice.
--
-- KEYS  1 epoch, 2 changes, 3 catalog, 4 workers, 5 acknowledged, 6 usage
-- ARGV  1 the epoch that PostgreSQL expects to be complete, "" for none, 2 the highest number that PostgreSQL knows
--
-- Answers the keys that were put right.

local types = {"hash", "stream", "hash", "hash", "stream", "stream"}
local healed = {}
local is_without_epoch = false
for key = 1, #KEYS do
  local found = redis.call("TYPE", KEYS[key]).ok
  if found ~= "none" and found ~= types[key] then
    redis.call("UNLINK", KEYS[key])
    healed[#healed + 1] = KEYS[key]
    is_without_epoch = is_without_epoch or key == 1
  end
end

-- Reports are small and few. A huge one would keep every reader of them busy.
local reports = redis.call("HLEN", KEYS[4])
if reports > 10000 then
  redis.call("UNLINK", KEYS[4])
  healed[#healed + 1] = KEYS[4]
elseif reports > 0 then
  for _, worker in ipairs(redis.call("HKEYS", KEYS[4])) do
    if redis.call("HSTRLEN", KEYS[4], worker) > 65536 then
      redis.call("HDEL", KEYS[4], worker)
      healed[#healed + 1] = KEYS[4]
    end
  end
end

local last
if redis.call("EXISTS", KEYS[2]) == 1 then
  local facts = redis.call("XINFO", "STREAM", KEYS[2])
  for fact = 1, #facts, 2 do
    if facts[fact] == "last-generated-id" then
      last = tonumber(string.match(facts[fact + 1], "^%d+"))
    end
  end
end

-- The stream ends where the epoch stood. One that ends below what PostgreSQL knows is an older Redis: only a rebuild
-- helps, as for a Redis without an epoch.
if is_without_epoch and ARGV[1] ~= "" and last and last >= tonumber(ARGV[2]) and last < 1e15 then
  redis.call("HSET", KEYS[1], "id", ARGV[1], "complete", "1", "number", string.format("%.0f", last))
end

local epoch = redis.call("HMGET", KEYS[1], "id", "number")
if last and epoch[1] and epoch[1] == ARGV[1] and last > (tonumber(epoch[2]) or 9e15) then
  -- Entries that no publication wrote.
  redis.call("UNLINK", KEYS[2])
  healed[#healed + 1] = KEYS[2]
end
return healed
